"""The rows of F in blocks of bounded size, each with the weight of its rows: what evaluations sum."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mpilocal.kernels.shard import Array, Dense, Sparse

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Shard: TypeAlias = Dense | Sparse

CHUNK = 4096  # rows that are summed in floating point, in their order; only exact sums go beyond


class Blocks:
    """Consecutive rows of each worker here, in pieces of at most `CHUNK`: what is summed in floating point."""

    def __init__(self, shard: Shard, weights: Array, comm: Intracomm | None) -> None:
        """Cut the workers' rows; `weights` (workers here,) multiply each row's loss."""
        begin, end, scale = [], [], []
        for m in range(len(weights)):
            first, last = int(shard.begin[m]), int(shard.end[m])
            for at in range(first, last, CHUNK):
                begin.append(at)
                end.append(min(at + CHUNK, last))
                scale.append(weights[m])
        self.shard = shard._replace(begin=np.array(begin, np.int64), end=np.array(end, np.int64))
        self.count = len(begin)
        counts = (
            comm.allgather((self.count, max(scale, default=0.0))) if comm is not None else [(self.count, max(scale))]
        )
        self.total = sum(count for count, _ in counts)
        largest = max(weight for _, weight in counts)
        self.scale = np.array(scale, np.float64) / largest
        self.divisor = 1 / largest


def row_weights(counts: NDArray[np.int64], weights: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return p_m (workers,) and p_m/N_m for workers of `counts` rows; weights is "samples" or "uniform"."""
    if weights == "uniform":
        p = np.full(len(counts), 1.0 / len(counts))
        return p, p / counts
    total = int(counts.sum())
    return counts / total, np.full(len(counts), 1.0 / total)
