"""Least squares and ridge regression in closed form: what constant-step SGD is judged against (Zou et al. 2021).

    x = argmin Σ w_i ½ (⟨a_i, x⟩ − y_i)² + (λ/2)‖x‖²        λ = problem.l2; the shortest where λ = 0

All rows are gathered on one rank, in whose memory they must fit, and x is there after the first round.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpilocal.algorithms.base import Algorithm, Phase, Setting
from mpilocal.errors import ConfigError, agreed
from mpilocal.kernels.scalar import Loss
from mpilocal.problem import dense_rows
from mpilocal.tree import Tree

Array = NDArray[np.floating]
Floats = NDArray[np.float64]


class State(NamedTuple):
    """The solution."""

    x: Array  # (1, dim)


def least_squares(setting: Setting) -> Algorithm:
    """Return the closed form for a setting; steps, batch and step size do not act."""
    problem = setting.problem
    if problem.loss != Loss.SQUARED or problem.intercept:
        raise ConfigError(
            f'algorithm.name = "least-squares" solves the squared loss without intercept, not problem.loss = '
            f'"{problem.name}"{" with one" if problem.intercept else ""}'
        )

    def init(x0: Array) -> State:
        return State(x0.astype(problem.dtype).reshape(1, -1))

    def average(state: State, tree: Tree, round: int) -> None:
        if round > 0:
            return
        blocks = problem.blocks
        ranges = zip(blocks.shard.begin.tolist(), blocks.shard.end.tolist(), strict=True)
        index = np.concatenate([np.arange(0), *(np.arange(*ends) for ends in ranges)])
        sizes = blocks.shard.end - blocks.shard.begin
        weights = np.repeat(blocks.scale / blocks.divisor, sizes)
        rows = gathered(np.column_stack([weights, blocks.shard.y[index], dense_rows(blocks.shard, index)]), tree)
        found = np.empty(problem.dim)
        with agreed(tree.comm):
            if tree.rank == 0:
                found[:] = solve(rows[:, 2:], rows[:, 1], rows[:, 0], problem.l2)
        if tree.comm is not None:
            tree.comm.Bcast(found)
        state.x[:] = found

    return Algorithm(
        init=init,
        phases=(Phase(lambda state, round: None, average),),
        steps=lambda rounds: rounds,
        samples=lambda rounds: min(rounds, 1) * problem.rows,
        common=frozenset({"x"}),
    )


def gathered(rows: Floats, tree: Tree) -> Floats:
    """Return the rows (n here, width) of all ranks on the first, none on the others; collective."""
    if tree.comm is None:
        return rows
    rows = np.ascontiguousarray(rows, np.float64)
    counts = np.empty(tree.size, np.int64)
    tree.comm.Allgather(np.array([rows.size], np.int64), counts)
    whole = np.empty(int(counts.sum()) if tree.rank == 0 else 0)
    tree.comm.Gatherv(rows, [whole, counts] if tree.rank == 0 else None)
    return whole.reshape(-1, rows.shape[1])


def solve(a: Floats, y: Floats, weights: Floats, l2: float) -> Floats:
    """Return argmin Σ w_i ½ (⟨a_i, x⟩ − y_i)² + (λ/2)‖x‖² for rows a (n, dim); the shortest where λ is 0."""
    import scipy.linalg

    root = np.sqrt(weights)
    b, c = a * root[:, None], y * root
    if l2 == 0:
        return np.asarray(scipy.linalg.lstsq(b, c, lapack_driver="gelsd")[0], np.float64)
    # (BᵀB + λ)⁻¹ Bᵀ c = Bᵀ (B Bᵀ + λ)⁻¹ c: the smaller of the two systems.
    gram = b @ b.T if len(b) < b.shape[1] else b.T @ b
    gram[np.diag_indices_from(gram)] += l2
    factor = scipy.linalg.cho_factor(gram)
    if len(b) < b.shape[1]:
        return np.asarray(b.T @ scipy.linalg.cho_solve(factor, c), np.float64)
    return np.asarray(scipy.linalg.cho_solve(factor, b.T @ c), np.float64)
