"""The nearest point of a polyhedron {w : rows · w ≥ 1}: hard-margin sets, of one worker or of all rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpilocal.problem import Shard, dense_rows

Array = NDArray[np.floating]


def margin_rows(shard: Shard, wanted: NDArray[np.int64], intercept: bool) -> NDArray[np.float64]:
    """Return y_i a_i of the rows `wanted`, (len(wanted), dim); the intercept is a column of y_i."""
    a = dense_rows(shard, wanted)
    if intercept:
        a = np.column_stack([a, np.ones(len(a))])
    return a * np.asarray(shard.y[wanted], np.float64)[:, None]


def nearest(rows: NDArray[np.float64], point: Array) -> NDArray[np.float64] | None:
    """Return the point of {w : rows · w ≥ 1} that is nearest to `point`, or None where there is none.

    Lawson and Hanson (1974), chapter 23, LDP: min ‖u‖ subject to rows · u ≥ c, c = 1 − rows · point. With
    E = [rowsᵀ; cᵀ], f = (0, …, 0, 1), z = argmin_{z ≥ 0} ‖E z − f‖ and r = E z − f it is u = −r[:-1]/r[-1].
    """
    from scipy.optimize import nnls

    w = np.asarray(point, np.float64)
    c = 1 - rows @ w
    if c.max(initial=0.0) <= 0:
        return w.copy()
    system = np.vstack([rows.T, c])
    target = np.zeros(len(system))
    target[-1] = 1
    dual, _ = nnls(system, target)
    residual = system @ dual - target
    if -residual[-1] <= 1e-10:
        return None
    return np.asarray(w - residual[:-1] / residual[-1], np.float64)
