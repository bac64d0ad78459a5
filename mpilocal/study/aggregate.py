"""One number from those of several seeds, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
How = Literal["mean", "median", "geometric-mean", "largest", "smallest"]

LEVEL = 0.95
RESAMPLES = 2000
SEED = 20190219


def aggregate(values: Floats, how: How) -> Floats:
    """Return the aggregate over the last axis: of (…, seeds), (…).

    Equal values are their own aggregate, to the last bit. Infinite values count; NaN where one is NaN, where +inf meets
    −inf, and for the geometric mean of a negative value.
    """
    if how == "median":
        return _median(values)
    if how in ("largest", "smallest"):
        return np.asarray((np.max if how == "largest" else np.min)(values, axis=-1))
    least = np.min(values, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        if how == "mean":
            base = np.where(np.isfinite(least), least, 0.0)
            return np.asarray(base[..., 0] + np.mean(values - base, axis=-1))
        base = np.where(np.isfinite(least) & (least > 0), least, 1.0)
        return np.asarray(base[..., 0] * np.exp(np.mean(np.log(values / base), axis=-1)))


def _median(values: Floats) -> Floats:
    ordered = np.sort(values, axis=-1)  # NaN come last
    count = values.shape[-1]
    low, high = ordered[..., (count - 1) // 2], ordered[..., count // 2]
    middle = np.where(low == high, low, (low + high) / 2)  # two infinities are one
    return np.where(np.isnan(ordered[..., -1]), np.nan, middle)


def interval(statistic: Callable[[NDArray[np.int64]], Floats], seeds: int) -> tuple[float, float]:
    """Return the bootstrap percentile interval (95 %, 2000 resamples) of a statistic of the seeds.

    Args:
        statistic: Of the resampled places (resamples, seeds) to its values (resamples).
        seeds: How many there are; of fewer than 2 there is no interval, and both ends are NaN.

    Returns:
        Low and high, always the same for the same values.
    """
    if seeds < 2:
        return math.nan, math.nan
    places = np.random.default_rng(SEED).integers(0, seeds, (RESAMPLES, seeds))
    found = np.sort(statistic(places))
    if np.isnan(found).any():
        return math.nan, math.nan
    tail = (1 - LEVEL) / 2
    last = RESAMPLES - 1
    return float(found[round(tail * last)]), float(found[round((1 - tail) * last)])
