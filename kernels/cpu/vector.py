"""Sums along one vector, in an order fixed when compiled: the same bits on every rank."""

from __future__ import annotations

from ..compile import fast


@fast
def dot(x, y):
    """Return ⟨x, y⟩ in float64."""
    total = 0.0
    for j in range(x.shape[0]):
        total += x[j] * y[j]
    return total


@fast
def distances_each(x, centers, out, first, last):
    """Write out[m] = ‖x_m − centers_m‖² in float64."""
    for m in range(first, last):
        total = 0.0
        for j in range(x.shape[1]):
            gap = x[m, j] - centers[m, j]
            total += gap * gap
        out[m] = total


@fast
def distances(x, center, out, first, last):
    """Write out[m] = ‖x_m − center‖² in float64."""
    for m in range(first, last):
        total = 0.0
        for j in range(x.shape[1]):
            gap = x[m, j] - center[j]
            total += gap * gap
        out[m] = total
