"""A few workers at a time from one start, whose iterates go into an exact sum and are then forgotten.

What `sgd_streamed` does before and after its local steps, whatever the storage of the rows. Nothing here allocates.
"""

from __future__ import annotations

from ..compile import inlined
from .stream import deposit


@inlined
def fill(x, start, begin, end):
    """Give the workers begin ≤ m < end the start: row m modulo the rows of x ← start[0]."""
    for m in range(begin, end):
        x[m % x.shape[0], :] = start[0, :]


@inlined
def deposit_moved(x, start, scale, width, rows, tops, limbs, factors, bits, values, begin, end):
    """Add scale[m] · (x_m, ‖x_m − start‖²) of the workers begin ≤ m < end to an exact sum; see `stream.deposit`.

    `rows` (group, dim + 1) float64 is scratch, in which also the squared distance is summed.
    """
    dim = x.shape[1]
    for m in range(begin, end):
        gap = 0.0
        for j in range(dim):
            rows[m - begin, j] = x[m % x.shape[0], j]
            move = rows[m - begin, j] - start[0, j]
            gap += move * move
        rows[m - begin, dim] = gap
    deposit(rows[: end - begin], scale[begin:end], width, tops, limbs, factors, bits, values, 0, dim + 1)
