"""The direction of the iterates on separable data (Zhu et al.): how far it is from the max-margin separator's.

E(w) = ‖w/‖w‖ − w_svm/‖w_svm‖‖
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpilocal.kernels.cpu import vector
from mpilocal.measures.means import Mean
from mpilocal.optimum.margin import max_margin
from mpilocal.problem import Problem
from mpilocal.tree import Tree

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Array = NDArray[np.floating]


class Direction:
    """Measures it at recorded rounds."""

    def __init__(self, problem: Problem, tree: Tree, comm: Intracomm) -> None:
        """Solve for the separator; collective.

        Raises:
            ConfigError: see `max_margin`.
        """
        svm = max_margin(problem, comm)
        self._unit = svm / length(svm)
        self._mean = Mean(tree)

    def average(self, average: Array) -> dict[str, float]:
        """Return `norm`, ‖x̄‖, and `direction_error`, E(x̄), nan at 0."""
        return {"norm": length(average), "direction_error": self._error(average)}

    def iterates(self, x: Array) -> float:
        """Return `local_direction_error`, Σ p_m E(x_m) of the rows x (workers here, dim); collective."""
        return self._mean(np.array([self._error(row) for row in x]))

    def _error(self, w: Array) -> float:
        w = np.asarray(w, np.float64)
        norm = length(w)
        return length(w / norm - self._unit) if norm > 0 else math.nan


def length(w: Array) -> float:
    """Return ‖w‖."""
    wide = np.asarray(w, np.float64)
    return math.sqrt(float(vector.dot(wide, wide)))
