"""The excess risk where the law of the data is known, without a test set: ½ Σ λ_j (w_j − w*_j)² of regression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpilocal.errors import ConfigError
from mpilocal.kernels.cpu import vector
from mpilocal.kernels.scalar import Loss
from mpilocal.problem import Problem

Array = NDArray[np.floating]


class Risk:
    """L(w) − L(w*) with L(w) = ½ E (⟨a, w⟩ − y)², E a aᵀ = diag λ; Zou et al. (2021), section 2."""

    def __init__(self, problem: Problem) -> None:
        """Take λ and w* from the data.

        Raises:
            ConfigError: they do not say them, or the loss is another.
        """
        if problem.loss != Loss.SQUARED or problem.intercept or not {"spectrum", "optimum"} <= problem.known.keys():
            raise ConfigError(
                "output.risk = true needs the squared loss without intercept and data that know their law, the arrays "
                '/extra/spectrum and /extra/optimum: take data.source = "synthetic:regression", or leave it out'
            )
        self._spectrum, self._optimum = problem.known["spectrum"], problem.known["optimum"]

    def __call__(self, w: Array) -> float:
        """Return it at w (dim,)."""
        away = np.asarray(w, np.float64) - self._optimum
        return 0.5 * float(vector.dot(self._spectrum * away, away))
