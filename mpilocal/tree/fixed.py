"""A level whose groups stay: in a rank without a message, across ranks on the smallest communicator that holds them.

A rank takes part in at most two groups that cross its border. Where some rank does, the level's reductions are posted
without blocking, in the order of groups, and waited for together; else they block, which is faster for one.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from mpilocal.data.rows import block
from mpilocal.exact import GroupMeans, relative
from mpilocal.ledger import Wire
from mpilocal.threads import Threads
from mpilocal.tree.levels import Ints, Level
from mpilocal.tree.mean import Mean

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Array = NDArray[np.floating]


class Crossing(NamedTuple):
    """A group that lies on several ranks, this one among them."""

    group: int
    first: int  # its rows here, in this rank's own numbering
    last: int
    workers: int  # on all ranks
    scale: Array  # of the rows here
    divisor: float
    comm: Intracomm


class Fixed:
    """The groups of a level that this rank takes part in."""

    def __init__(
        self, comm: Intracomm | None, level: Level, weights: Array, workers: int, threads: Threads, exact: bool
    ) -> None:
        """Split the communicators; collective. `weights` are the p (workers,) of all."""
        rank, size = (comm.rank, comm.size) if comm is not None else (0, 1)
        self._threads, self._exact = threads, exact
        first, last = block(workers, size, rank)
        bounds = level.bounds
        ends = np.array([block(workers, size, other)[1] for other in range(size)])
        lowest = np.searchsorted(ends, bounds[:-1], side="right")  # rank of each group's first worker
        highest = np.searchsorted(ends, bounds[1:] - 1, side="right")
        inside = np.flatnonzero((lowest == rank) & (highest == rank))
        self._place = np.full(len(bounds) - 1, -1)  # of each group among those inside this rank
        self._place[inside] = np.arange(len(inside))
        self._bounds = np.append(bounds[inside], bounds[inside[-1] + 1] if len(inside) else first) - first
        self._order = np.arange(last - first)
        self._scale, self._divisors = group_scales(weights[first:last], self._bounds)
        self._heads = (first <= bounds[:-1]) & (bounds[:-1] < last)
        here = np.minimum(bounds[1:], last) - np.maximum(bounds[:-1], first)
        self._here = np.where(level.sizes > 1, np.maximum(here, 0), 0)
        across = np.flatnonzero(lowest < highest)
        self._posts = bool((highest[across][:-1] == lowest[across][1:]).any())
        self._owned: list[Intracomm] = []
        self._crossing: list[Crossing] = []
        self._means: dict[int, tuple[GroupMeans, list[Mean]]] = {}
        if comm is None or len(across) == 0:
            return
        node, on_node = _node(comm)
        self._owned.append(node)
        for group in across.tolist():
            low, high = int(lowest[group]), int(highest[group])
            if not low <= rank <= high:
                continue
            if high - low + 1 == size:
                held = comm
            elif on_node == list(range(low, high + 1)):
                held = node
            else:
                every = comm.Get_group()
                members = every.Incl(list(range(low, high + 1)))
                held = comm.Create_group(members, group % 32768)
                members.Free()
                every.Free()
                self._owned.append(held)
            begin, end = max(int(bounds[group]), first), min(int(bounds[group + 1]), last)
            scale, divisor = relative(weights[bounds[group] : bounds[group + 1]])
            mine = np.ascontiguousarray(scale[begin - bounds[group] : end - bounds[group]])
            count = int(level.sizes[group])
            self._crossing.append(Crossing(group, begin - first, end - first, count, mine, divisor, held))

    def average(self, x: Array, due: Ints, wire: Wire) -> float:
        """Replace the rows x (workers here, dim) of the groups `due` by their means; return the seconds waited.

        Returns:
            Seconds in the first reduction; infinity where this rank sent nothing.
        """
        if x.shape[1] not in self._means:
            self._means[x.shape[1]] = self._prepare(x.shape[1])
        inside, across = self._means[x.shape[1]]
        wanted = set(due.tolist()) if len(self._crossing) else set()
        jobs = [(one, mean) for one, mean in zip(self._crossing, across, strict=True) if one.group in wanted]
        rows = [x[one.first : one.last] for one, _ in jobs]
        from mpi4py import MPI

        firsts = [mean.begin(part, 0) for part, (_, mean) in zip(rows, jobs, strict=True)]
        requests = self._reduce(jobs, firsts, MPI.MAX, wire)
        begin = time.perf_counter()
        self._inside(inside, x, due)
        hidden = time.perf_counter() - begin
        MPI.Request.Waitall(requests[0])
        waited = time.perf_counter() - requests[1] - hidden if jobs else math.inf
        totals: list[Any] = [mean.middle(part) for part, (_, mean) in zip(rows, jobs, strict=True)]
        MPI.Request.Waitall(self._reduce(jobs, totals, MPI.SUM, wire)[0])
        for part, (_, mean) in zip(rows, jobs, strict=True):
            part[:] = mean.end()
        return waited

    def _reduce(
        self, jobs: list[tuple[Crossing, Mean]], buffers: list[Any], operation: Any, wire: Wire
    ) -> tuple[list[Any], float]:
        """Reduce each buffer in place; return the requests that are under way, and when they were posted."""
        from mpi4py import MPI

        begin = time.perf_counter()
        requests = []
        for (one, _), buffer in zip(jobs, buffers, strict=True):
            if buffer is None:
                continue
            wire.add(buffer.nbytes)
            if self._posts:
                requests.append(one.comm.Iallreduce(MPI.IN_PLACE, buffer, operation))
            else:
                one.comm.Allreduce(MPI.IN_PLACE, buffer, operation)
        return requests, begin

    def _inside(self, means: GroupMeans, x: Array, due: Ints) -> None:
        """Average the groups that lie in this rank."""
        place = self._place[due]
        place = place[place >= 0]
        if len(place) == 0:
            return
        if len(place) == len(self._bounds) - 1:
            means(x, self._scale, self._order, self._bounds, self._divisors)
            return
        sizes = np.diff(self._bounds)[place]
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        rows = np.arange(bounds[-1]) + np.repeat(self._bounds[place] - bounds[:-1], sizes)
        means(x, self._scale, rows, bounds, self._divisors[place])

    def _prepare(self, dim: int) -> tuple[GroupMeans, list[Mean]]:
        largest = int(np.diff(self._bounds).max(initial=1))
        across = [Mean(dim, one.workers, one.scale, one.divisor, self._threads, self._exact) for one in self._crossing]
        return GroupMeans(dim, largest, self._threads), across

    def count(self, due: Ints) -> tuple[int, int]:
        """Return how many of the groups `due` begin on this rank, and its workers in those of more than one."""
        return int(self._heads[due].sum()), int(self._here[due].sum())

    def close(self) -> None:
        """Free the communicators; collective."""
        for comm in self._owned:
            comm.Free()
        self._owned = []


def group_scales(weights: Array, bounds: Ints) -> tuple[Array, Array]:
    """Return scale (rows,) and divisors (groups,) with Σ w x = Σ scale x / divisor in each group; see `relative`."""
    sizes = np.diff(bounds)
    if len(sizes) == 0:
        return np.ones(len(weights)), np.empty(0)
    part = weights[bounds[0] : bounds[-1]]
    largest, least = (operation.reduceat(part, bounds[:-1] - bounds[0]) for operation in (np.maximum, np.minimum))
    scale, divisors = np.ones(len(weights)), sizes.astype(np.float64)
    scale[bounds[0] : bounds[-1]] = part / np.repeat(largest, sizes)
    for group in np.flatnonzero(largest != least):
        divisors[group] = math.fsum(scale[bounds[group] : bounds[group + 1]])
    return scale, divisors


def _node(comm: Intracomm) -> tuple[Intracomm, list[int]]:
    """Return the communicator of the ranks that share memory with this one, and their ranks in `comm`; collective."""
    from mpi4py import MPI

    node = cast("Intracomm", comm.Split_type(MPI.COMM_TYPE_SHARED, comm.rank))
    ranks = np.empty(node.size, np.int64)
    node.Allgather(np.array([comm.rank], np.int64), ranks)
    return node, ranks.tolist()
