"""A seeded permutation of 0 … n − 1 that is computed, not stored.

A balanced Feistel network permutes 0 … 4^h − 1 with 4^h ≥ n; whoever lands at n or above walks on along its
cycle until it is below n (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains"). As 4^h < 4n, a
walk takes fewer than four steps on average.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8
PIECE = 1 << 20


def permuted(index: NDArray[np.int64], n: int, seed: int, part: int = 0) -> NDArray[np.int64]:
    """Return the places of `index` in a permutation of 0 … n − 1.

    Args:
        index: 0 ≤ index < n, any shape (k,).
        n: The size of the permutation.
        seed: Chooses the permutation, together with
        part: which of several that share a seed: a class, say.
    """
    half = max(1, (max(n - 1, 1).bit_length() + 1) // 2)
    out = np.empty(len(index), np.int64)
    for first in range(0, len(index), PIECE):
        x = index[first : first + PIECE].astype(np.uint64)
        x = _feistel(x, half, seed, part)
        while (above := np.flatnonzero(x >= n)).size:
            x[above] = _feistel(x[above], half, seed, part)
        out[first : first + PIECE] = x.astype(np.int64)
    return out


def _feistel(x: NDArray[np.uint64], half: int, seed: int, part: int) -> NDArray[np.uint64]:
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = x >> shift, x & mask
    keys = np.random.Philox(key=np.array([seed, part], np.uint64)).random_raw(ROUNDS)
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << shift) | right


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # the finaliser of SplitMix64
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
