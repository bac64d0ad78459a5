"""One group's mean over ranks, Σ w_m x_m with w_m = p_m/Σ p, in two halves between which messages travel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpilocal.exact import SMALL, SmallSum, StreamSum
from mpilocal.threads import Threads

Array = NDArray[np.floating]


class Mean:
    """The mean of a group's vectors of one length; the buffers are made once.

    `begin` gives what is reduced first, `middle` what is reduced then, and `end` the mean. Exact: a MAX of exponents,
    then a SUM of integers. Plain: nothing, then the floating-point sum. A flag rides along: all get the largest.
    """

    def __init__(
        self,
        dim: int,
        workers: int,
        scale: Array,
        divisor: float,
        threads: Threads,
        exact: bool,
    ) -> None:
        """Plan for `workers` rows on all ranks, of which this one has len(scale); Σ w x = Σ scale x / divisor."""
        self._scale, self._divisor = scale, divisor
        self._small = SmallSum(dim, workers, threads, 1) if exact and workers <= SMALL else None
        self._stream = StreamSum(dim, workers, threads, 1) if exact and workers > SMALL else None
        self._plain = np.zeros(0 if exact else dim + 1)
        self.out = np.zeros(dim)
        self.flag = 0  # the largest, after `end`

    def begin(self, x: Array, flag: int) -> NDArray[Any] | None:
        """Take in the rows x (workers here, dim); return what to reduce by MAX, if anything."""
        if self._small is not None:
            self._small.begin(x, self._scale)
            self._small.peaks[-1] = flag
            return self._small.peaks
        if self._stream is not None:
            self._stream.add(x, self._scale)
            self._stream.begin()
            self._stream.common[-1] = flag
            return self._stream.common
        # Flags add up in base 2^17: the highest digit that is not zero is the largest flag.
        self._plain[-1] = 131072.0 ** (flag - 1) if flag else 0.0
        np.matmul(self._scale, x, out=self._plain[:-1])
        return None

    def middle(self, x: Array) -> NDArray[Any]:
        """Return what to reduce by SUM."""
        if self._small is not None:
            self._small.pack(x, self._scale)
            return self._small.total
        if self._stream is not None:
            self._stream.align()
            return self._stream.limbs
        return self._plain

    def end(self) -> Array:
        """Return the mean (dim,), reused by the next one."""
        if self._small is not None:
            self._small.finish(self._divisor, self.out)
            self.flag = int(self._small.peaks[-1])
        elif self._stream is not None:
            self._stream.finish(self._divisor, self.out)
            self._stream.clear()
            self.flag = int(self._stream.common[-1])
        else:
            np.divide(self._plain[:-1], self._divisor, out=self.out)
            brought = self._plain[-1]
            self.flag = int(math.log2(brought)) // 17 + 1 if brought >= 1 else 0
        return self.out
