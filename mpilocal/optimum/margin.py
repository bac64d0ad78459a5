"""The pooled hard-margin separator: the shortest w with y_i ⟨a_i, w⟩ ≥ 1 for all rows of all workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpilocal.blocks import CHUNK
from mpilocal.errors import ConfigError, agreed
from mpilocal.kernels.shard import Dense
from mpilocal.problem import MARGIN, Problem
from mpilocal.projection import margin_rows, nearest

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Floats = NDArray[np.float64]

TOLERANCE = 1e-11  # of a margin


def max_margin(problem: Problem, comm: Intracomm) -> Floats:
    """Return w (dim,), the same bits on any number of ranks; collective.

    By constraint generation: root solves for the rows that it has, exactly; all ranks look for rows with
    y_i ⟨a_i, w⟩ < 1, and the worst of them are added, until there are none.

    Raises:
        ConfigError: the loss has no margin, or no w separates the rows.
    """
    with agreed(comm):
        if problem.loss not in MARGIN:
            raise ConfigError(
                f'output.direction = true needs a loss on margins, and problem.loss = "{problem.name}" has none: '
                "leave it out"
            )
    here = Rows(problem)
    counts = comm.allgather(here.count)
    before = sum(counts[: comm.rank])
    batch = max(64, 2 * problem.dim)
    w, active, known = np.zeros(problem.dim), np.empty((0, problem.dim)), set[int]()
    while True:
        margins = here.margins(w)
        worst = np.argsort(margins, kind="stable")[: batch + len(known)]
        worst = worst[margins[worst] < 1 - TOLERANCE]
        offered = [(float(margins[i]), before + int(i)) for i in worst if before + int(i) not in known][:batch]
        rows = margin_rows(here.shard, here.index[[i - before for _, i in offered]], problem.intercept)
        gathered = comm.gather((offered, rows))
        solved: Floats | None = None
        added: list[int] = []
        if gathered is not None:
            every = [(*key, row) for keys, found in gathered for key, row in zip(keys, found, strict=True)]
            every.sort(key=lambda one: one[:2])
            added = [number for _, number, _ in every[:batch]]
            if added:
                active = np.vstack([active, *(row for _, _, row in every[:batch])])
                solved = nearest(active, np.zeros(problem.dim))
        solved, added = comm.bcast((solved, added))
        if not added:
            return w
        if solved is None:
            raise ConfigError(
                "output.direction = true measures the angle to the max-margin separator, and no hyperplane through the "
                "origin separates these rows: set problem.intercept = true, or leave it out"
            )
        w = solved
        known.update(added)


class Rows:
    """The rows that this rank evaluates, in the order of workers."""

    def __init__(self, problem: Problem) -> None:
        """Number them."""
        self.shard = problem.blocks.shard
        ranges = zip(self.shard.begin.tolist(), self.shard.end.tolist(), strict=True)
        self.index = np.concatenate([np.arange(0), *(np.arange(first, last) for first, last in ranges)])
        self.count = len(self.index)
        self._intercept = problem.intercept

    def margins(self, w: Floats) -> Floats:
        """Return y_i ⟨a_i, w⟩ of each row; a row's bits do not depend on its neighbours."""
        shard, out = self.shard, np.empty(self.count)
        weights = w[:-1] if self._intercept else w
        for at in range(0, self.count, CHUNK):
            index = self.index[at : at + CHUNK]
            if isinstance(shard, Dense):
                found = np.sum(np.asarray(shard.a[index], np.float64) * weights, axis=1)
            else:
                lengths = shard.indptr[index + 1] - shard.indptr[index]
                ends = np.cumsum(lengths)
                entries = np.repeat(shard.indptr[index] - (ends - lengths), lengths) + np.arange(lengths.sum())
                owner = np.repeat(np.arange(len(index)), lengths)
                products = np.asarray(shard.values[entries], np.float64) * weights[shard.indices[entries]]
                found = np.bincount(owner, products, len(index))
            found = found + w[-1] if self._intercept else found
            out[at : at + CHUNK] = found * shard.y[index]
        return out
