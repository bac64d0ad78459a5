"""Sums over workers that have the same bits on any number of ranks and threads, for any MPI.

Every term is turned into integers on a grid that depends on the largest term only; integer addition is associative, so
neither ranks, nor threads, nor the order of arrival can change a bit. NaN and infinity come out as NaN.

By 1, the result is the correctly rounded sum (`math.fsum`) of the terms scale · row as float64, up to what is cut.
With n terms and r = ⌈log2 n⌉, that is at most n · 2^(2·r − 94) of the largest term in `SmallSum` (2^-76 for 64 terms),
n · 2^(2·r − 124) in `StreamSum`. So a coordinate of a `SmallSum` is off by a unit in the last place where what is cut
decides a rounding, and by more only where terms that span over 82 bits cancel to below 2^-22 of the largest.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpilocal.kernels.cpu import exact, stream
from mpilocal.threads import Threads

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Array = NDArray[np.floating]

GRAIN = 8192  # coordinates worth a thread
SMALL = 64  # up to so many terms a limb and a digit are enough


class SmallSum:
    """Σ_m scale_m · rows_m over at most `SMALL` rows on all ranks: one reduction MAX, then one SUM.

    `extra` int16 ride at the end of the MAX: flags of the caller, on which all ranks then agree. A coordinate's total
    is an int64 and a short digit below it: dim int64 and after them dim uint32, two of which travel as one int64.
    """

    def __init__(self, dim: int, terms: int, threads: Threads, extra: int = 0) -> None:
        """Make the buffers for vectors of length `dim` and `terms` rows on all ranks."""
        self.dim = dim
        self.threads = threads
        self.peaks = np.zeros(dim + extra, np.int16)
        self.total = np.zeros(dim + (dim + 1) // 2, np.int64)
        self.sizes = (self.peaks.nbytes, self.total.nbytes)
        self._limbs = (self.total[:dim], self.total[dim:].view(np.uint32)[:dim])
        self._scratch = [_block() for _ in range(threads.count)]
        self.plan(terms)

    def plan(self, terms: int) -> None:
        """Sum `terms` rows from now on, with the bits of a sum made for so many; ValueError above `SMALL`."""
        if terms > SMALL:
            raise ValueError(f"a small sum of {terms} terms is too long: at most {SMALL}")
        self.room = max(terms - 1, 0).bit_length()

    def begin(self, rows: Array, scale: Array) -> None:
        """Find the exponents of this rank's terms: rows (m, dim), scale (m,)."""
        self.threads.run(exact.peak, self.dim, (rows, scale, self.peaks), self._scratch, GRAIN)

    def pack(self, rows: Array, scale: Array) -> None:
        """Add up this rank's terms, at the exponents that all ranks agree on."""
        args = (rows, scale, self.peaks, self.room, *self._limbs)
        self.threads.run(exact.pack, self.dim, args, self._scratch, GRAIN)

    def finish(self, divisor: float, out: Array) -> None:
        """Write the sum over all ranks' totals, divided by `divisor`, to out (dim,)."""
        self.threads.run(exact.unpack, self.dim, (*self._limbs, self.peaks, self.room, divisor, out), (), GRAIN)

    def reduce(self, comm: Intracomm | None, rows: Array, scale: Array, divisor: float, out: Array) -> None:
        """Write Σ scale_m rows_m / divisor over all ranks' rows to out (dim,); collective."""
        from mpi4py import MPI

        self.begin(rows, scale)
        if comm is not None:
            comm.Allreduce(MPI.IN_PLACE, self.peaks, MPI.MAX)
        self.pack(rows, scale)
        if comm is not None:
            comm.Allreduce(MPI.IN_PLACE, self.total, MPI.SUM)
        self.finish(divisor, out)


class StreamSum:
    """Σ scale · row over any number of rows that stream in; then one reduction MAX and one SUM.

    `extra` int16 ride at the end of the MAX: flags of the caller, on which all ranks then agree.
    """

    def __init__(self, dim: int, terms: int, threads: Threads, extra: int = 0) -> None:
        """Make the accumulator for vectors of length `dim` and `terms` rows on all ranks."""
        self.dim = dim
        self.plan(terms)
        self.threads = threads
        self.tops = np.full(dim, stream.EMPTY, np.int16)
        self.common = np.zeros(dim + extra, np.int16)
        self.limbs = np.zeros((stream.LIMBS, dim), np.int64)
        self.scratch = []
        for _ in range(threads.count):
            factors = np.zeros((2 * stream.LIMBS + 1, exact.BLOCK))
            self.scratch.append((factors, factors.view(np.int64), np.zeros(exact.BLOCK)))
        self.sizes = (self.common.nbytes, self.limbs.nbytes)

    def plan(self, terms: int) -> None:
        """Sum `terms` rows from the next `clear` on, with the bits of a sum made for so many; ValueError above 2^24."""
        self.width = 62 - max(terms - 1, 1).bit_length()
        if self.width < 38:
            raise ValueError(f"a sum of {terms} terms is too long: at most 2^24")

    def clear(self) -> None:
        """Begin a new sum."""
        self.tops[:] = stream.EMPTY
        self.limbs[:] = 0

    def add(self, rows: Array, scale: Array) -> None:
        """Add scale_m · rows_m for this rank's rows (m, dim)."""
        self.threads.run(
            stream.deposit, self.dim, (rows, scale, self.width, self.tops, self.limbs), self.scratch, GRAIN
        )

    def begin(self) -> None:
        """Offer this rank's exponents to the common ones."""
        self.common[: self.dim] = self.tops

    def align(self) -> None:
        """Bring this rank's limbs to the exponents that all ranks agree on."""
        self.threads.run(stream.align, self.dim, (self.tops, self.limbs, self.common), (), GRAIN)

    def finish(self, divisor: float, out: Array) -> None:
        """Write the sum over all ranks' limbs, divided by `divisor`, to out (dim,)."""
        self.threads.run(stream.collect, self.dim, (self.limbs, self.common, self.width, divisor, out), (), GRAIN)

    def reduce(self, comm: Intracomm | None, divisor: float, out: Array) -> None:
        """Write the sum over all ranks, divided by `divisor`, to out (dim,), and begin a new one; collective."""
        from mpi4py import MPI

        self.begin()
        if comm is not None:
            comm.Allreduce(MPI.IN_PLACE, self.common, MPI.MAX)
        self.align()
        if comm is not None:
            comm.Allreduce(MPI.IN_PLACE, self.limbs, MPI.SUM)
        self.finish(divisor, out)
        self.clear()


class GroupMeans:
    """The means of many groups of rows that one rank holds, in one compiled call; each has the bits of its exact sum.

    Threads share the groups and their coordinates. Groups of more than `SMALL` rows are streamed one after the other.
    """

    def __init__(self, dim: int, largest: int, threads: Threads) -> None:
        """Make the buffers for vectors of length `dim` and groups of up to `largest` rows."""
        self.dim = dim
        self._largest, self._threads = max(largest, SMALL), threads
        self._scratch = []
        for _ in range(threads.count):
            small = (np.zeros(exact.BLOCK, np.int16), np.zeros(exact.BLOCK, np.int64), np.zeros(exact.BLOCK, np.uint32))
            self._scratch.append((*small, np.zeros(exact.BLOCK), *_block()))
        self._stream = StreamSum(dim, largest, threads) if largest > SMALL else None
        self._mean = np.zeros(dim if largest > SMALL else 0)

    def __call__(
        self, x: Array, scale: Array, order: NDArray[np.int64], bounds: NDArray[np.int64], divisors: Array
    ) -> None:
        """Replace every row of group g by Σ scale_m x_m / divisors[g] over its rows order[bounds[g] : bounds[g + 1]].

        x (rows, dim) float32 or float64; scale (rows,) float64 by row of x; order (rows in groups,) and
        bounds (groups + 1,) int64; divisors (groups,) float64. A group of one row keeps its bits. ValueError, with
        nothing changed, for a group of more rows than planned and than `SMALL`.
        """
        sizes = np.diff(bounds)
        if sizes.max(initial=0) > self._largest:
            raise ValueError(f"a group of {sizes.max()} rows is too long: planned for {self._largest}")
        pieces = len(sizes) * -(-self.dim // exact.BLOCK)
        args = (x, scale, order, bounds, divisors, SMALL)
        self._threads.run(exact.means, pieces, args, self._scratch, GRAIN // exact.BLOCK)
        if self._stream is not None:
            for group in np.flatnonzero(sizes > SMALL):
                self._long(self._stream, x, scale, order[bounds[group] : bounds[group + 1]], float(divisors[group]))

    def _long(self, total: StreamSum, x: Array, scale: Array, rows: NDArray[np.int64], divisor: float) -> None:
        """Average one group by a sum that takes its rows in any order: neighbours together."""
        total.plan(len(rows))
        rows = np.sort(rows)
        for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            total.add(x[run[0] : run[-1] + 1], scale[run[0] : run[-1] + 1])
        total.begin()
        total.align()
        total.finish(divisor, self._mean)
        total.clear()
        x[rows] = self._mean


def _block() -> tuple[NDArray[np.int64], Array, Array, Array]:
    """Return what a thread needs for a block of coordinates: exponents, factors and the sums of both units."""
    return np.zeros(exact.BLOCK, np.int64), np.zeros(exact.BLOCK), np.zeros(exact.BLOCK), np.zeros(exact.BLOCK)


def relative(weights: Array) -> tuple[Array, float]:
    """Return (scale, divisor) with Σ w_m x_m = Σ scale_m x_m / divisor and scale = 1 where weights are equal.

    Equal weights then cost no rounding, and the mean of equal rows keeps their bits.
    """
    scale = np.asarray(weights, np.float64) / np.max(weights)
    return scale, math.fsum(scale)
