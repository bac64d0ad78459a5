"""A loss: pseudo-Huber, √(1 + (z − y)²) − 1. Numba compiles the three functions into the kernels; see docs/own.md."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple


def value(z, y, one):
    """Return ℓ(z; y); `one` is 1 in the run's precision."""
    return math.sqrt(one + (z - y) * (z - y)) - one


def slope(z, y, one):
    """Return dℓ/dz."""
    return (z - y) / math.sqrt(one + (z - y) * (z - y))


def curvature(z, y, one):
    """Return d²ℓ/dz², for `optimum = "auto"`."""
    root = math.sqrt(one + (z - y) * (z - y))
    return one / (root * root * root)


class Loss(NamedTuple):
    """What `problem.loss` must name."""

    value: Callable[..., float]
    slope: Callable[..., float]
    curvature: Callable[..., float]


pseudo_huber = Loss(value, slope, curvature)
