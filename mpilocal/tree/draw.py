"""Seeded random groups, computed from the number of the draw: nothing is stored, a resumed run draws the same ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

STREAM = 0x6C6576656C  # "level": keeps these draws apart from the other uses of a seed


def shuffled(n: int, seed: int, level: int, parent: int, draw: int) -> Ints:
    """Return a random permutation (n,) of 0 … n − 1: place i of the shuffled list holds atom `shuffled[i]`.

    Args:
        n: Atoms of the parent group.
        seed: Of the run.
        level: Of the random groups, from 0, the smallest.
        parent: Index of the parent group in its level.
        draw: Number of the draw.
    """
    key = np.random.SeedSequence([STREAM, seed, level, parent, draw]).generate_state(2, np.uint64)
    return np.argsort(np.random.Philox(key=key).random_raw(n), kind="stable")
