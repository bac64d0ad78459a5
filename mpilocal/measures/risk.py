"""The excess risk where the law of the data is known, without a test set: ½ Σ λ_j (w_j − w*_j)² of regression."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mpilocal.config.structs import Config
from mpilocal.errors import ConfigError
from mpilocal.kernels.cpu import vector
from mpilocal.kernels.scalar import Loss
from mpilocal.problem import Problem

Array = NDArray[np.floating]


ALPHA = 3.0  # of Gaussian rows: E[a aᵀ A a aᵀ] ≤ α tr(A diag λ) diag λ


class Risk:
    """L(w) − L(w*) with L(w) = ½ E (⟨a, w⟩ − y)², E a aᵀ = diag λ; Zou et al. (2021), section 2."""

    def __init__(self, problem: Problem, config: Config) -> None:
        """Take λ, w* and σ² from the data, and the step size γ where one worker takes steps of one row.

        Raises:
            ConfigError: they do not say them, or the loss is another.
        """
        if problem.loss != Loss.SQUARED or problem.intercept or not {"spectrum", "optimum"} <= problem.known.keys():
            raise ConfigError(
                "output.risk = true needs the squared loss without intercept and data that know their law, the arrays "
                '/extra/spectrum and /extra/optimum: take data.source = "synthetic:regression", or leave it out'
            )
        self._spectrum, self._optimum = problem.known["spectrum"], problem.known["optimum"]
        options, noise = config.algorithm, problem.known.get("noise")
        plain = options.name in ("sgd", "local-sgd") and config.workers.count == 1 and options.batch == 1
        plain = plain and problem.l2 == 0 and options.start == "zero" and options.server_step_size == 1
        step_size = options.step_size if plain and options.inner_step_size is None else None
        self._gamma = float(step_size) if isinstance(step_size, int | float) else math.nan
        self._noise = math.nan if noise is None else float(noise[0])

    def __call__(self, w: Array) -> float:
        """Return it at w (dim,)."""
        away = np.asarray(w, np.float64) - self._optimum
        return 0.5 * float(vector.dot(self._spectrum * away, away))

    def theory(self, steps: int) -> dict[str, float]:
        """Return `effective_dimension` and `bound_risk` of the mean of so many iterates; {} where there is none.

        Zou et al. (2021), Theorem 2.1, from a restatement with its proof: with k* the number of λ_i ≥ 1/(γ N),

            d_eff = k* + N² γ² Σ_{i > k*} λ_i²                          L(w̄) − L(w*) ≤ 2 bias + 2 variance
            bias = ‖w*‖²_{H⁻¹, i ≤ k*}/(γ N)² + ‖w*‖²_{H, i > k*}
            variance = (σ² + 2 α (‖w*‖²_{i ≤ k*} + N γ ‖w*‖²_{H, i > k*})/(N γ))/(1 − γ α tr H) · d_eff/N

        for w0 = 0; nan where γ α tr H ≥ 1 or no step was taken.
        """
        gamma = self._gamma
        if math.isnan(gamma) or math.isnan(self._noise):
            return {}
        spectrum, square = self._spectrum, self._optimum**2
        room = 1 - gamma * ALPHA * float(spectrum.sum())
        if steps == 0:
            return {"effective_dimension": 0.0, "bound_risk": math.nan}
        time = gamma * steps
        head = spectrum >= 1 / time
        tail = ~head
        dimension = float(head.sum() + time**2 * np.sum(spectrum[tail] ** 2))
        if room <= 0:
            return {"effective_dimension": dimension, "bound_risk": math.nan}
        rest = float(np.sum(spectrum[tail] * square[tail]))
        bias = float(np.sum(square[head] / spectrum[head])) / time**2 + rest
        spread = self._noise**2 + 2 * ALPHA * (float(square[head].sum()) + time * rest) / time
        return {"effective_dimension": dimension, "bound_risk": 2 * bias + 2 * spread / room * dimension / steps}
