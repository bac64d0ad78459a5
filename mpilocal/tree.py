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
from mpilocal.exact import SMALL, SmallSum, StreamSum, relative
from mpilocal.ledger import Ledger, Wire
from mpilocal.stream import Streamed
from mpilocal.threads import Threads

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Array = NDArray[np.floating]


class Mean:
    """Σ_m w_m x_m over all workers, for vectors of one length; the buffers are made once."""

    def __init__(
        self,
        comm: Intracomm | None,
        dim: int,
        workers: int,
        scale: Array,
        divisor: float,
        threads: Threads,
        exact: bool,
    ) -> None:
        """Plan for `workers` rows on all ranks, of which this rank has len(scale)."""
        self._comm, self._scale, self._divisor = comm, scale, divisor
        self._dim, self._exact = dim, exact
        self._small = SmallSum(dim, workers, threads, 1) if exact and workers <= SMALL else None
        self._stream = StreamSum(dim, workers, threads, 1) if exact and workers > SMALL else None
        self._plain = np.zeros(dim + 1) if not exact else np.zeros(0)
        self.out = np.zeros(dim)

    def __call__(self, x: Array, flag: int, wire: Wire) -> tuple[int, float]:
        """Write the mean of the rows x (workers here, dim) to `out`; return the largest flag and the seconds waited."""
        from mpi4py import MPI

        if not self._exact:
            np.matmul(self._scale, x, out=self._plain[:-1])
            # Flags add up in base 2^17: the highest digit that is not zero is the largest flag.
            self._plain[-1] = 131072.0 ** (flag - 1) if flag else 0.0
            seconds = self._reduce(self._plain, MPI.SUM, wire)
            np.divide(self._plain[:-1], self._divisor, out=self.out)
            brought = self._plain[-1]
            return (int(math.log2(brought)) // 17 + 1 if brought >= 1 else 0), seconds
        if self._small is not None:
            small = self._small
            small.begin(x, self._scale)
            small.peaks[-1] = flag
            seconds = self._reduce(small.peaks, MPI.MAX, wire)
            small.pack(x, self._scale)
            self._reduce(small.total, MPI.SUM, wire)
            small.finish(self._divisor, self.out)
            return int(small.peaks[-1]), seconds
        stream = self._stream
        assert stream is not None
        stream.add(x, self._scale)
        stream.begin()
        stream.common[-1] = flag
        seconds = self._reduce(stream.common, MPI.MAX, wire)
        stream.align()
        self._reduce(stream.limbs, MPI.SUM, wire)
        stream.finish(self._divisor, self.out)
        stream.clear()
        return int(stream.common[-1]), seconds

    def _reduce(self, buffer: NDArray[Any], operation: Any, wire: Wire) -> float:
        """Reduce in place over the ranks; return the seconds it took."""
        from mpi4py import MPI

        if self._comm is None:
            return 0.0
        begin = time.perf_counter()
        self._comm.Allreduce(MPI.IN_PLACE, buffer, operation)
        wire.add(buffer.nbytes)
        return time.perf_counter() - begin


class Tree:
    """The workers of a run: which are here, how they weigh, and how they average.

    Attributes:
        comm: the communicator, or None on one rank.
        workers: M, on all ranks.
        first: global id of the first worker here.
        count: how many are here.
        weights: p_m of the workers here, (count,). scale: p_m / max p, whose mean is `Σ scale_m x_m / divisor`.
        ledger: per level.
        wire: what this rank sent.
        stream: the sum that a method streams its workers into, or None.
        flag: what this rank brings to the next meeting, ≥ 0; `flags` is the largest that any rank brought.
        met: whether flags have been exchanged since they were last taken.
        waits: seconds in the first collective of each averaging since they were last taken.
    """

    def __init__(
        self,
        comm: Intracomm | None,
        weights: Array,
        workers: int,
        threads: Threads,
        *,
        period: int = 1,
        exact: bool = True,
    ) -> None:
        """Build the flat tree of `workers` with all their weights p (workers,), averaging every `period` rounds."""
        self.comm = comm if comm is not None and comm.size > 1 else None
        self.rank, self.size = (comm.rank, comm.size) if comm is not None else (0, 1)
        self.workers = workers
        self.first, last = block(workers, self.size, self.rank)
        self.count = last - self.first
        self.weights = np.ascontiguousarray(weights[self.first : last], np.float64)
        scale, self._divisor = relative(weights)
        self.scale = np.ascontiguousarray(scale[self.first : last])
        self.threads, self.period, self.exact = threads, period, exact
        self.ledger = [Ledger()]
        self.wire = Wire()
        self.flag = 0
        self.flags = 0
        self.met = False
        self.waits: list[float] = []
        self.stream: Streamed | None = None
        self._means: dict[int, Mean] = {}

    def meets(self, round: int) -> bool:
        """Return whether all workers average at the end of this round (counted from 0)."""
        return (round + 1) % self.period == 0

    def mean(self, x: Array, round: int) -> bool:
        """Average the rows x (count, dim) in place where the round calls for it; return whether it did; collective.

        One worker alone keeps its bits.
        """
        if not self.meets(round):
            return False
        if self.workers == 1:
            self.flags, self.flag = max(self.flags, self.flag), 0
            self.ledger[0].add(0, x.shape[1], x.itemsize)
            return True
        if self.stream is not None and x is self.stream.x:
            self.finish_stream(self.stream)
            x[0] = self.stream.mean[:-1]
            self.stream.ready = False
        else:
            x[:] = self._average(x, self.wire, self.waits)
        self.ledger[0].add(self.workers, x.shape[1], x.itemsize)
        return True

    def take_flags(self) -> int:
        """Return the largest flag that was brought to a meeting since the last call: the same on all ranks."""
        if self.comm is None:  # one rank meets itself in every round
            self.flags, self.flag = max(self.flags, self.flag), 0
        flags, self.flags = self.flags, 0
        self.met = False
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
        seconds = 0.0
        if self.comm is not None:
            from mpi4py import MPI

            begin = time.perf_counter()
            self.comm.Allreduce(MPI.IN_PLACE, total.common, MPI.MAX)
            seconds = time.perf_counter() - begin
            self.wire.add(total.common.nbytes)
        total.align()
        if self.comm is not None:
            self.comm.Allreduce(MPI.IN_PLACE, total.limbs, MPI.SUM)
            self.wire.add(total.limbs.nbytes)
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
        if self.workers == 1 or (self.stream is not None and x is self.stream.x):
            return np.asarray(x[0], np.float64)
        mean = self._means.get(x.shape[1])
        if mean is None:
            mean = Mean(self.comm, x.shape[1], self.workers, self.scale, self._divisor, self.threads, self.exact)
            self._means[x.shape[1]] = mean
        flags, seconds = mean(x, self.flag, wire)
        self._take(flags)
        waits.append(seconds)
        return mean.out
