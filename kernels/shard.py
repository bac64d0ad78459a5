"""What a kernel reads: the rows of a rank's workers, and how they are sampled.

Fields are plain arrays and scalars, so that Numba passes them as they are and finds the compiled
kernel in its cache.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Indices = NDArray[np.int64]


class Dense(NamedTuple):
    """Rows of a dense data set; row i belongs to worker m (local index) if begin[m] <= i < end[m]."""

    a: Array  # (rows, features), C order
    y: Array  # (rows,) ±1, the target, or the class number
    begin: Indices  # (workers,)
    end: Indices  # (workers,)
    ridge: Array  # (1 or workers, 2, features) own curvature of each coordinate, below 0 and above; or (0, 2, 0)


class Sparse(NamedTuple):
    """Rows of a CSR data set; row i holds values[indptr[i]:indptr[i + 1]] at `indices`."""

    values: Array  # (non-zeros,)
    indices: NDArray[np.int32]  # (non-zeros,)
    indptr: Indices  # (rows + 1,)
    y: Array  # (rows,)
    begin: Indices  # (workers,)
    end: Indices  # (workers,)
    features: int


class Draws(NamedTuple):
    """How workers sample: row index = f(seed, global worker id, step, position in the batch)."""

    seed: np.uint64
    first_worker: int  # global id of local worker 0
    reshuffle: bool  # a fresh permutation of the worker's rows per epoch, or with replacement
    batch: int  # samples per step; 0: all rows, no sampling
