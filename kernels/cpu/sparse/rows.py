"""One CSR row at an iterate: its score, its slope, and its gradient added to a vector."""

from __future__ import annotations

import numpy as np

from ...compile import inlined
from ...scalar import Loss, slope, softmax


@inlined
def score(shard, i, x, m, at, intercept):
    """Return ⟨a_i, x⟩ of the block that begins at `at`."""
    z = x.dtype.type(0)
    for e in range(shard.indptr[i], shard.indptr[i + 1]):
        z += shard.values[e] * x[m, at + shard.indices[e]]
    if intercept:
        z += x[m, at + shard.features]
    return z


@inlined
def lazy_score(shard, i, x, m, at, intercept, scale, shift, drift):
    """Return ⟨a_i, scale · x + drift · shift⟩; the intercept is kept as it is."""
    z = x.dtype.type(0)
    for e in range(shard.indptr[i], shard.indptr[i + 1]):
        z += shard.values[e] * x[m, at + shard.indices[e]]
    z *= scale
    if shift.shape[0] > 0:
        u = x.dtype.type(0)
        for e in range(shard.indptr[i], shard.indptr[i + 1]):
            u += shard.values[e] * shift[m, at + shard.indices[e]]
        z += drift * u
    if intercept:
        z += x[m, at + shard.features]
    return z


@inlined
def row_slopes(x, m, shard, i, loss, outputs, slopes, at, scale, shift, drift):
    """Write dℓ_i/dz of row i, one per output, to slopes[at:]; of softmax return ℓ_i and whether it is right."""
    one = x.dtype.type(1)
    stride = x.shape[1] // outputs
    intercept = stride > shard.features
    if loss == Loss.SOFTMAX:
        for c in range(outputs):
            slopes[at + c] = lazy_score(shard, i, x, m, c * stride, intercept, scale, shift, drift)
        return softmax(slopes[at : at + outputs], np.int64(shard.y[i]))
    z = lazy_score(shard, i, x, m, 0, intercept, scale, shift, drift)
    slopes[at] = slope(loss, z, shard.y[i], one)
    return one, False


@inlined
def add_row(out, m, shard, i, slopes, at, outputs, factor):
    """out_m ← out_m + factor · Σ_c slope_c a_i (in block c), the intercept included."""
    stride = out.shape[1] // outputs
    for c in range(outputs):
        f = factor * slopes[at + c]
        for e in range(shard.indptr[i], shard.indptr[i + 1]):
            out[m, c * stride + shard.indices[e]] += f * shard.values[e]
        if stride > shard.features:
            out[m, c * stride + shard.features] += f
