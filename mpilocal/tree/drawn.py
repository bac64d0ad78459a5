"""A level whose groups are drawn anew: rows travel to the rank that holds a group's first worker, means travel back.

Messages go from rank to rank on one communicator, made once; a draw makes none. Two ranks exchange one message each way
and averaging, however many groups they share.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpilocal.data.rows import block
from mpilocal.exact import GroupMeans
from mpilocal.ledger import Wire
from mpilocal.threads import Threads
from mpilocal.tree.fixed import group_scales
from mpilocal.tree.levels import Ints, Level

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Array = NDArray[np.floating]
THERE, BACK = 1, 2  # tags


class Drawn:
    """The groups of a random level, in the order that a draw gives."""

    def __init__(self, comm: Intracomm | None, level: Level, weights: Array, workers: int, threads: Threads) -> None:
        """Plan; collective. `weights` are the p (workers,) of all."""
        self._comm = comm.Dup() if comm is not None else None  # messages cannot meet the caller's
        self._rank, size = (comm.rank, comm.size) if comm is not None else (0, 1)
        self._level, self._weights, self._threads = level, np.array(weights), threads
        self._ends = np.array([block(workers, size, other)[1] for other in range(size)])
        self._first = block(workers, size, self._rank)[0]
        self._means: dict[int, GroupMeans] = {}
        self._buffers: dict[tuple[int, str, int], Array] = {}

    def average(self, x: Array, order: Ints, due: Ints, wire: Wire) -> float:
        """Replace the rows x (workers here, dim) of the groups `due` by their means; return the seconds waited.

        Returns:
            Seconds until the rows had come; infinity where this rank sent and received nothing.
        """
        level, rank = self._level, self._rank
        if x.shape[1] not in self._means:
            self._means[x.shape[1]] = GroupMeans(x.shape[1], int(level.sizes.max()), self._threads)
        means = self._means[x.shape[1]]
        sizes = level.sizes[due]
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        group = np.repeat(np.arange(len(due)), sizes)
        places = np.arange(bounds[-1]) - bounds[group] + level.bounds[due][group]
        worker = order[places]
        sits = np.searchsorted(self._ends, worker, side="right")
        owner = sits[bounds[:-1]][group]
        crosses = np.logical_or.reduceat(sits != owner, bounds[:-1])[group]

        inside = (owner == rank) & ~crosses
        sent = np.flatnonzero((sits == rank) & (owner != rank))
        sent = sent[np.argsort(owner[sent], kind="stable")]
        held = np.flatnonzero((owner == rank) & crosses)
        slots = held[np.argsort(sits[held], kind="stable")]  # rows of `work`, by the rank that they come from

        out = self._buffer("out", x, len(sent))
        work = self._buffer("work", x, len(slots))
        out[:] = x[worker[sent] - self._first]
        begin = time.perf_counter()
        requests = self._exchange(work, sits[slots], out, owner[sent], THERE, wire)
        hidden = time.perf_counter()
        self._apply(means, x, worker[inside] - self._first, group[inside], worker[inside])
        own = sits[slots] == rank
        work[own] = x[worker[slots[own]] - self._first]
        hidden = time.perf_counter() - hidden
        self._wait(requests)
        waited = time.perf_counter() - begin - hidden if len(requests) else math.inf
        # `held` has the members group by group, `where` their rows in `work`.
        where = np.empty(len(slots), np.int64)
        where[np.searchsorted(held, slots)] = np.arange(len(slots))
        self._apply(means, work, where, group[held], worker[held])
        self._wait(self._exchange(out, owner[sent], work, sits[slots], BACK, wire))
        x[worker[sent] - self._first] = out
        x[worker[slots[own]] - self._first] = work[own]
        return waited

    def _apply(self, means: GroupMeans, x: Array, rows: Ints, group: Ints, worker: Ints) -> None:
        """Average the given rows of x, group by group."""
        if len(rows) == 0:
            return
        bounds = np.append(np.flatnonzero(np.diff(group, prepend=-1)), len(rows))
        scale, divisors = group_scales(self._weights[worker], bounds)
        by_row = np.ones(len(x))
        by_row[rows] = scale
        means(x, by_row, rows, bounds, divisors)

    def _exchange(self, into: Array, sources: Ints, out: Array, targets: Ints, tag: int, wire: Wire) -> list[object]:
        """Post messages: rows of `into` come from the ranks `sources`, those of `out` go to `targets`, ascending."""
        requests: list[object] = []
        if self._comm is None:
            return requests
        for rank, begin, end in _runs(sources):
            if rank != self._rank:
                requests.append(self._comm.Irecv(into[begin:end], rank, tag))
        for rank, begin, end in _runs(targets):
            if rank != self._rank:
                requests.append(self._comm.Isend(out[begin:end], rank, tag))
                wire.add(out[begin:end].nbytes)
        return requests

    @staticmethod
    def _wait(requests: list[object]) -> None:
        if requests:
            from mpi4py import MPI

            MPI.Request.Waitall(requests)  # type: ignore[arg-type]

    def _buffer(self, name: str, x: Array, rows: int) -> Array:
        """Return `rows` rows like x's; the memory only grows."""
        key = (x.shape[1], name, x.itemsize)
        kept = self._buffers.get(key)
        if kept is None or len(kept) < rows:
            kept = self._buffers[key] = np.empty((rows, x.shape[1]), x.dtype)
        return kept[:rows]

    def count(self, order: Ints, due: Ints) -> tuple[int, int]:
        """Return how many of the groups `due` begin on this rank, and its workers in those of more than one."""
        bounds = self._level.bounds
        here = np.searchsorted(self._ends, order, side="right") == self._rank
        members = np.add.reduceat(here, bounds[:-1]) * (self._level.sizes > 1)
        return int(here[bounds[due]].sum()), int(members[due].sum())

    def close(self) -> None:
        """Free the communicator; collective."""
        if self._comm is not None:
            self._comm.Free()
            self._comm = None


def _runs(ranks: Ints) -> list[tuple[int, int, int]]:
    """Return (rank, begin, end) of each run of equal entries."""
    starts = np.flatnonzero(np.diff(ranks, prepend=-1))
    ends = np.append(starts, len(ranks))[1:]
    return [(int(ranks[begin]), int(begin), int(end)) for begin, end in zip(starts, ends, strict=True)]
