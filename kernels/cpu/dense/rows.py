"""One dense row at an iterate: its score, its slope, and its gradient added to a vector."""

from __future__ import annotations

import numpy as np

from ...compile import inlined
from ...scalar import Loss, slope, softmax, value


@inlined
def score(a, i, x, m, at, intercept):
    """Return ⟨a_i, x⟩ of the block that begins at `at`."""
    z = x.dtype.type(0)
    for j in range(a.shape[1]):
        z += a[i, j] * x[m, at + j]
    if intercept:
        z += x[m, at + a.shape[1]]
    return z


@inlined
def row_slopes(x, m, shard, i, loss, outputs, slopes, at):
    """Write dℓ_i/dz of row i, one per output, to slopes[at:]; of softmax return ℓ_i and whether it is right."""
    one = x.dtype.type(1)
    stride = x.shape[1] // outputs
    intercept = stride > shard.a.shape[1]
    if loss == Loss.SOFTMAX:
        for c in range(outputs):
            slopes[at + c] = score(shard.a, i, x, m, c * stride, intercept)
        return softmax(slopes[at : at + outputs], np.int64(shard.y[i]))
    z = score(shard.a, i, x, m, 0, intercept)
    slopes[at] = slope(loss, z, shard.y[i], one)
    return one, False


@inlined
def add_row(out, m, shard, i, slopes, at, outputs, scale):
    """out_m ← out_m + scale · Σ_c slope_c a_i (in block c)."""
    stride = out.shape[1] // outputs
    features = shard.a.shape[1]
    for c in range(outputs):
        f = scale * slopes[at + c]
        for j in range(features):
            out[m, c * stride + j] += f * shard.a[i, j]
        if stride > features:
            out[m, c * stride + features] += f


@inlined
def add_rows(out, m, x, k, shard, begin, end, loss, slopes):
    """out_m ← out_m + Σ_{begin ≤ i < end} ℓ'_i(x_k) a_i for one output; return Σ ℓ_i and how many margins are positive.

    Eight rows at a time: their dots, then their sum, while they are in cache.
    """
    one = x.dtype.type(1)
    features = shard.a.shape[1]
    intercept = x.shape[1] > features
    a = shard.a
    total = 0.0
    correct = 0
    i = begin
    while i < end:
        block = min(8, end - i)
        for r in range(block):
            z = score(a, i + r, x, k, 0, intercept)
            slopes[r] = slope(loss, z, shard.y[i + r], one)
            total += value(loss, z, shard.y[i + r], one)
            correct += z * shard.y[i + r] > 0
            if intercept:
                out[m, features] += slopes[r]
        if block == 8:
            s0, s1, s2, s3 = slopes[0], slopes[1], slopes[2], slopes[3]
            s4, s5, s6, s7 = slopes[4], slopes[5], slopes[6], slopes[7]
            for j in range(features):
                out[m, j] += (
                    s0 * a[i, j] + s1 * a[i + 1, j] + s2 * a[i + 2, j] + s3 * a[i + 3, j]
                    + s4 * a[i + 4, j] + s5 * a[i + 5, j] + s6 * a[i + 6, j] + s7 * a[i + 7, j]
                )  # fmt: skip
        else:
            for r in range(block):
                s0 = slopes[r]
                for j in range(features):
                    out[m, j] += s0 * a[i + r, j]
        i += block
    return total, correct
