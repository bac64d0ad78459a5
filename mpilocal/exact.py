"""Sums over workers that have the same bits on any number of ranks and threads, for any MPI.

Every term is turned into integers on a grid that depends on the largest term only; integer addition is
associative, so neither ranks, nor threads, nor the order of arrival can change a bit. NaN and infinity
come out as NaN. `StreamSum` agrees with `math.fsum` to the last bit but for double rounding. `SmallSum` cuts every term
at 2^-63 of the largest, times the number of terms: its error is below the bound ⌈log2 n⌉·2^-53·Σ|term| of a
pairwise float64 sum, and in most coordinates below the error that such a sum really makes, but not in each.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpilocal.kernels.cpu import exact
from mpilocal.threads import Threads

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Array = NDArray[np.floating]

GRAIN = 8192  # coordinates worth a thread
SMALL = 64  # up to so many terms one limb is enough


class SmallSum:
    """Σ_m scale_m · rows_m over at most `SMALL` rows on all ranks: one reduction MAX, then one SUM.

    `extra` int16 ride at the end of the MAX: flags of the caller, on which all ranks then agree.
    """

    def __init__(self, dim: int, terms: int, threads: Threads, extra: int = 0) -> None:
        """Make the buffers for vectors of length `dim` and `terms` rows on all ranks."""
        self.dim = dim
        self.room = max(terms - 1, 0).bit_length()
        self.threads = threads
        self.peaks = np.zeros(dim + extra, np.int16)
        self.total = np.zeros(dim, np.int64)
        self.sizes = (self.peaks.nbytes, self.total.nbytes)
        self._scratch = []
        for _ in range(threads.count):
            values = np.zeros(2 * exact.BLOCK)
            self._scratch.append((values, values.view(np.int64)))

    def begin(self, rows: Array, scale: Array) -> None:
        """Find the exponents of this rank's terms: rows (m, dim), scale (m,)."""
        self.threads.run(exact.peak, self.dim, (rows, scale, self.peaks), self._scratch, GRAIN)

    def pack(self, rows: Array, scale: Array) -> None:
        """Add this rank's terms, at the exponents that all ranks agree on."""
        self.threads.run(exact.pack, self.dim, (rows, scale, self.peaks, self.room, self.total), self._scratch, GRAIN)

    def finish(self, divisor: float, out: Array) -> None:
        """Write the sum over all ranks' totals, divided by `divisor`, to out (dim,)."""
        self.threads.run(exact.unpack, self.dim, (self.total, self.peaks, self.room, divisor, out), self._scratch)

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
        self.width = 62 - max(terms - 1, 1).bit_length()
        if self.width < 38:
            raise ValueError(f"a sum of {terms} terms is too long: at most 2^24")
        self.threads = threads
        self.tops = np.full(dim, exact.EMPTY, np.int16)
        self.common = np.zeros(dim + extra, np.int16)
        self.limbs = np.zeros((exact.LIMBS, dim), np.int64)
        self.scratch = []
        for _ in range(threads.count):
            factors = np.zeros((2 * exact.LIMBS + 1, exact.BLOCK))
            self.scratch.append((factors, factors.view(np.int64), np.zeros(exact.BLOCK)))
        self.sizes = (self.common.nbytes, self.limbs.nbytes)

    def clear(self) -> None:
        """Begin a new sum."""
        self.tops[:] = exact.EMPTY
        self.limbs[:] = 0

    def add(self, rows: Array, scale: Array) -> None:
        """Add scale_m · rows_m for this rank's rows (m, dim)."""
        self.threads.run(exact.deposit, self.dim, (rows, scale, self.width, self.tops, self.limbs), self.scratch, GRAIN)

    def begin(self) -> None:
        """Offer this rank's exponents to the common ones."""
        self.common[: self.dim] = self.tops

    def align(self) -> None:
        """Bring this rank's limbs to the exponents that all ranks agree on."""
        self.threads.run(exact.align, self.dim, (self.tops, self.limbs, self.common), (), GRAIN)

    def finish(self, divisor: float, out: Array) -> None:
        """Write the sum over all ranks' limbs, divided by `divisor`, to out (dim,)."""
        self.threads.run(exact.collect, self.dim, (self.limbs, self.common, self.width, divisor, out), (), GRAIN)

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


def relative(weights: Array) -> tuple[Array, float]:
    """Return (scale, divisor) with Σ w_m x_m = Σ scale_m x_m / divisor and scale = 1 where weights are equal.

    Equal weights then cost no rounding, and the mean of equal rows keeps their bits.
    """
    scale = np.asarray(weights, np.float64) / np.max(weights)
    return scale, math.fsum(scale)
