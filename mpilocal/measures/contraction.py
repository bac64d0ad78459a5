"""By what a round of local gradient descent on least squares brings the iterates nearer to the solution.

On f_m(w) = ‖A_m w − b_m‖²/(2 N_m) + (λ/2)‖w‖² a round with step size η and H steps maps the error e to

    Σ p_m T_m e,    T_m = (I − η (A_mᵀA_m/N_m + λ I))^H

where all f_m have a common minimum (Zhu et al., Theorem 1). What is called contraction is its largest eigenvalue but
for those that are 1, which belong to directions that no row sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpilocal.config.structs import Config
from mpilocal.errors import ConfigError, agreed
from mpilocal.kernels.scalar import Loss
from mpilocal.problem import Problem, dense_rows
from mpilocal.tree import Tree

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

MOST = 2048  # coordinates, as matrices of this order are formed
SAME = 1e-12  # eigenvalues so near to 1 are of directions that no row sees


def contraction(problem: Problem, tree: Tree, config: Config, comm: Intracomm) -> float:
    """Return it, the same on all ranks; collective.

    Raises:
        ConfigError: not full-batch local gradient descent with a constant step size on least squares.
    """
    options = config.algorithm
    with agreed(comm):
        plain = options.name == "local-sgd" and options.batch == "all" and tree.levels.flat
        steps = isinstance(options.local_steps, int) and isinstance(options.step_size, int | float)
        if problem.loss != Loss.SQUARED or problem.intercept or not plain or not steps or problem.dim > MOST:
            raise ConfigError(
                'output.contraction = true is for local-sgd with batch = "all", a constant step size and number of '
                f"local steps, the squared loss, no intercept and at most {MOST} features: leave it out"
            )
    assert isinstance(options.local_steps, int) and isinstance(options.step_size, int | float)
    own = np.zeros((tree.count, problem.dim, problem.dim))
    for m in range(tree.count):
        a = dense_rows(problem.shard, np.arange(problem.shard.begin[m], problem.shard.end[m]))
        values, vectors = np.linalg.eigh(a.T @ a / len(a) + problem.l2 * np.eye(problem.dim))
        own[m] = (vectors * (1 - float(options.step_size) * values) ** options.local_steps) @ vectors.T
    parts = comm.gather(own)
    found = 0.0
    if parts is not None:
        mean = np.zeros((problem.dim, problem.dim))
        for weight, matrix in zip(tree.all_weights, np.concatenate(parts), strict=True):
            mean += weight * matrix
        found = largest(np.asarray(np.linalg.eigvalsh(mean), np.float64))
    everywhere: float = comm.bcast(found)
    return everywhere


def largest(values: NDArray[np.float64]) -> float:
    """Return the largest absolute value of those that are not 1, 0 where all are."""
    seen = values[np.abs(1 - values) > SAME]
    return float(np.abs(seen).max()) if len(seen) else 0.0
