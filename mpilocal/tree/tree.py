"""Workers on ranks, and their averages: x_m ← Σ w_m x_m over a group, the same bits on any number of ranks.

Workers sit on ranks in contiguous blocks of ids. A group's weights are w_m = p_m / Σ_group p. All ranks meet in
a world averaging; flags ride in its buffer, so that a stop or an error is agreed on without a collective of
its own.
"""

from __future__ import annotations

import hashlib
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpilocal.data.rows import block
from mpilocal.exact import relative
from mpilocal.kernels.cpu import vector
from mpilocal.ledger import Ledger, Wire
from mpilocal.stream import Streamed
from mpilocal.threads import Threads
from mpilocal.tree.drawn import Drawn
from mpilocal.tree.fixed import Fixed
from mpilocal.tree.levels import Levels, resolve
from mpilocal.tree.mean import Mean

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Array = NDArray[np.floating]


class Tree:
    """The workers of a run: which are here, how they weigh, and how they average.

    Attributes:
        comm: the communicator, or None on one rank.
        workers: M, on all ranks.
        first: global id of the first worker here.
        count: how many are here.
        weights: p_m of the workers here, (count,); all_weights: of all, (workers,).
        scale: p_m / max p, whose mean is `Σ scale_m x_m / divisor`.
        levels: which groups there are and when they average.
        ledger: of this rank's workers, per level; `totals` adds up the ranks.
        wires: what this rank sent, per level. seconds: in the averagings of each level.
        stream: the sum that a method streams its workers into, or None.
        flag: what this rank brings to the next meeting, ≥ 0; `flags` is the largest that any rank brought.
        met: whether flags have been exchanged in this round.
        finite: whether the last mean over all workers is; the same on all ranks.
        waits: seconds in the first message of each averaging since they were last taken, infinity where this rank took
            no part: of one length on all ranks.
        log: lengths of the vectors that `mean` was given since they were last taken.
    """

    def __init__(
        self,
        comm: Intracomm | None,
        weights: Array,
        workers: int,
        threads: Threads,
        *,
        levels: Levels | None = None,
        exact: bool = True,
    ) -> None:
        """Build the tree of `workers` with all their weights p (workers,); collective. No levels: all, every round."""
        self.comm = comm if comm is not None and comm.size > 1 else None
        self.rank, self.size = (comm.rank, comm.size) if comm is not None else (0, 1)
        self.workers = workers
        self.first, last = block(workers, self.size, self.rank)
        self.count = last - self.first
        self.all_weights = np.asarray(weights, np.float64)
        self.weights = np.ascontiguousarray(weights[self.first : last], np.float64)
        scale, self._divisor = relative(weights)
        self.scale = np.ascontiguousarray(scale[self.first : last])
        self.threads, self.exact = threads, exact
        self.levels = levels if levels is not None else resolve((), workers, 0)
        self.ledger = [Ledger() for _ in self.levels.levels]
        self.wires = [Wire() for _ in self.levels.levels]
        self.seconds = [0.0] * len(self.levels.levels)
        self.flag = 0
        self.flags = 0
        self.met = False
        self.finite = True
        self.waits: list[float] = []
        self.log: list[int] = []
        self.stream: Streamed | None = None
        self._means: dict[int, Mean] = {}
        self._groups: list[Fixed | Drawn | None] = []
        for level in self.levels.levels:
            if level.world:
                self._groups.append(None)
            elif level.redraw:
                self._groups.append(Drawn(self.comm, level, weights, workers, threads))
            else:
                self._groups.append(Fixed(self.comm, level, weights, workers, threads, exact))

    def meets(self, round: int) -> bool:
        """Return whether all workers average at the end of this round (counted from 0)."""
        return self.levels.world_due(round) is not None

    def mean(self, x: Array, round: int) -> bool:
        """Average the rows x (count, dim) in place, in the widest groups that the round calls for; collective.

        Returns whether all workers averaged. One worker alone keeps its bits.
        """
        self.log.append(x.shape[1])
        world = self.levels.world_due(round)
        if world is None:
            self._mean_groups(x, round)
            return False
        begin = time.perf_counter()
        if self.workers == 1:
            self.flags, self.flag = max(self.flags, self.flag), 0
        elif self.stream is not None and x is self.stream.x:
            self.finish_stream(self.stream)
            x[0] = self.stream.mean[:-1]
            self.stream.ready = False
        else:
            x[:] = self._average(x, self.wires[world], self.waits)
        self.finite = math.isfinite(vector.dot(x[0], x[0]))
        self.seconds[world] += time.perf_counter() - begin
        self.ledger[world].add(int(self.rank == 0), self.count if self.workers > 1 else 0, x.shape[1], x.itemsize)
        return True

    def _mean_groups(self, x: Array, round: int) -> None:
        """Average within the groups that are due; no group is due at two levels."""
        for number, (level, groups) in enumerate(zip(self.levels.levels, self._groups, strict=True)):
            due = level.due(round + 1)
            if groups is None or len(due) == 0:
                continue
            begin = time.perf_counter()
            if isinstance(groups, Drawn):
                order = self.levels.order(number, round)
                waited = groups.average(x, order, due, self.wires[number])
                counts = groups.count(order, due)
            else:
                waited = groups.average(x, due, self.wires[number])
                counts = groups.count(due)
            self.waits.append(waited)
            self.seconds[number] += time.perf_counter() - begin
            self.ledger[number].add(*counts, x.shape[1], x.itemsize)

    def group_means(self, x: Array, number: int, round: int) -> None:
        """Replace the rows x (count, dim) by the means of a level's groups of a round; counted nowhere; collective."""
        level, groups = self.levels.levels[number], self._groups[number]
        every = np.arange(len(level.periods))
        if groups is None:
            x[:] = self._average(x, Wire(), [])
        elif isinstance(groups, Drawn):
            groups.average(x, self.levels.order(number, round), every, Wire())
        else:
            groups.average(x, every, Wire())

    def totals(self) -> NDArray[np.int64]:
        """Return averagings, vectors and bytes of each level (levels, 3) over all ranks; collective."""
        found = np.array([(one.averagings, one.vectors, one.bytes) for one in self.ledger], np.int64)
        if self.comm is not None:
            from mpi4py import MPI

            self.comm.Allreduce(MPI.IN_PLACE, found, MPI.SUM)
        return found

    def take_flags(self) -> int:
        """Return the largest flag that was brought to a meeting since the last call: the same on all ranks."""
        if self.comm is None:  # one rank meets itself in every round
            self.flags, self.flag = max(self.flags, self.flag), 0
        flags, self.flags = self.flags, 0
        return flags

    def meet(self) -> None:
        """Bring this rank's flag to all others, where the round has not done so; collective."""
        if self.comm is None or self.met:
            return
        from mpi4py import MPI

        flag = np.array([self.flag], np.int64)
        self.comm.Allreduce(MPI.IN_PLACE, flag, MPI.MAX)
        self._take(int(flag[0]))

    def _take(self, flags: int) -> None:
        self.flags, self.flag, self.met = max(self.flags, flags), 0, True

    def finish_stream(self, stream: Streamed) -> None:
        """Bring the streamed mean of a round to all ranks, once; collective; flags ride along."""
        if stream.ready:
            return
        total = stream.merge()
        total.begin()
        total.common[-1] = self.flag
        from mpi4py import MPI

        wire = self.wires[self.levels.world_due(0) or 0]
        seconds = self._reduce(total.common, MPI.MAX, wire)
        total.align()
        self._reduce(total.limbs, MPI.SUM, wire)
        total.finish(self._divisor, stream.mean)
        self._take(int(total.common[-1]))
        self.waits.append(seconds)
        total.clear()
        stream.ready = True

    def average(self, x: Array) -> Array:
        """Return Σ_m p_m x_m / Σ p of the rows x (count, dim) as float64 (dim,), reused by the next call; collective.

        It is counted nowhere; flags ride along. Of a streamed iterate it is the iterate itself.
        """
        return self._average(x, Wire(), [])

    def equal(self, x: Array) -> bool:
        """Return whether the rows x (count, dim) are the same on all ranks, bit for bit; collective."""
        if self.workers == 1 or (self.stream is not None and x is self.stream.x):
            return True
        bits = np.int64 if x.itemsize == 8 else np.int32
        mine = bool((x.view(bits) == x[0].view(bits)).all())
        if self.comm is None:
            return mine
        from mpi4py import MPI

        first = int.from_bytes(hashlib.blake2b(x[0].tobytes(), digest_size=7).digest(), "big")
        said = np.array([first, -first, mine], np.int64)
        self.comm.Allreduce(MPI.IN_PLACE, said, MPI.MIN)
        return bool(said[2]) and said[0] == -said[1]

    def center(self, x: Array) -> Array:
        """Return x̄ of the rows x (count, dim) as float64 (dim,), of its own; equal rows keep their bits; collective."""
        return np.array(x[0] if self.equal(x) else self.average(x), np.float64)

    def _average(self, x: Array, wire: Wire, waits: list[float]) -> Array:
        """Return the mean of all workers' rows."""
        if self.workers == 1 or (self.stream is not None and x is self.stream.x):
            return np.asarray(x[0], np.float64)
        from mpi4py import MPI

        mean = self._means.get(x.shape[1])
        if mean is None:
            mean = Mean(x.shape[1], self.workers, self.scale, self._divisor, self.threads, self.exact)
            self._means[x.shape[1]] = mean
        first = mean.begin(x, self.flag)
        seconds = self._reduce(first, MPI.MAX, wire) if first is not None else None
        later = self._reduce(mean.middle(x), MPI.SUM, wire)
        out = mean.end()
        self._take(mean.flag)
        waits.append(later if seconds is None else seconds)
        return out

    def _reduce(self, buffer: NDArray[Any], operation: Any, wire: Wire) -> float:
        """Reduce in place over all ranks; return the seconds it took."""
        if self.comm is None:
            return 0.0
        from mpi4py import MPI

        begin = time.perf_counter()
        self.comm.Allreduce(MPI.IN_PLACE, buffer, operation)
        wire.add(buffer.nbytes)
        return time.perf_counter() - begin

    def close(self) -> None:
        """Free the communicators; collective."""
        for groups in self._groups:
            if groups is not None:
                groups.close()
        self._groups = []
