"""The mean of iterates that are never all in memory: workers start a round equal and are summed as they finish.

A rank needs a few scratch rows per thread and one exact sum per thread, whatever the number of its workers. The sum
is the one that `exact.StreamSum` makes of stored rows, to the bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpilocal.exact import StreamSum
from mpilocal.kernels.cpu import stream
from mpilocal.kernels.cpu.vector import distances
from mpilocal.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = NDArray[np.floating]


class Streamed:
    """Exact sums, one per thread, of scale_m (x_m, ‖x_m − start‖²) over the workers here.

    Attributes:
        x: (1, dim) the common iterate that it belongs to; a mean replaces its row.
        sums: of each thread, the first of which takes in the others.
        ready: whether `mean` holds the round's result already.
        mean: (dim + 1,) the mean of the iterates, and of their squared distances from the start.
    """

    def __init__(self, x: Array, terms: int, threads: Threads) -> None:
        """Plan for `terms` workers on all ranks."""
        dim = x.shape[1]
        self.x = x
        self.sums = [StreamSum(dim + 1, terms, Threads(1), 1) for _ in range(threads.count)]
        group = max(1, min(16, (1 << 17) // dim))
        self.scratch = [(np.empty((group, dim), x.dtype), np.empty((group, dim + 1))) for _ in range(threads.count)]
        self.ready = False
        self.mean = np.zeros(dim + 1)

    def accumulators(self) -> list[tuple[Any, ...]]:
        """Return, for each thread, where `sgd_streamed` adds up."""
        return [(one.tops, one.limbs, *one.scratch[0]) for one in self.sums]

    def merge(self) -> StreamSum:
        """Return the sum over threads."""
        first, others = self.sums[0], self.sums[1:]
        for other in others:
            common = np.maximum(first.tops, other.tops)
            for one in (first, other):
                stream.align(one.tops, one.limbs, common, 0, one.dim)
            first.tops[:] = common
            first.limbs += other.limbs
            other.clear()
        return first

    def consensus(self) -> float:
        """Return Σ p_m ‖x_m − x̄‖² = Σ p_m ‖x_m − start‖² − ‖x̄ − start‖² of the round whose mean is ready."""
        moved = np.zeros(1)
        distances(np.asarray(self.x, np.float64), self.mean[:-1], moved, 0, 1)
        return max(float(self.mean[-1] - moved[0]), 0.0)


def streams(exactly: bool, workers: int, small: int, kept: int, flat: bool) -> bool:
    """Return whether a method may stream: all workers average every round, nothing is kept per worker."""
    return exactly and workers > small and kept == 0 and flat


__all__: Sequence[str] = ("Streamed", "streams")
