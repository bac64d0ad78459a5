"""Accelerated local steps on CSR rows cost O(non-zeros of the batch), as plain ones do.

Without its gradients a step is a linear map of the two sequences, one for all regularised coordinates. So the arrays
hold V and X with v = a V + b X and x = c V + d X; the four scalars change every step, V and X only where a drawn row is
non-zero. When the map comes near to a singular one it is carried out on all coordinates.
"""

from __future__ import annotations

import numpy as np

from ...compile import fast, inlined
from ...scalar import Loss, draw, slope, softmax, stream
from .rows import add_row


@inlined
def pair_score(x, v, m, shard, i, at, along_v, along_x, p, intercept):
    """Return ⟨a_i, along_v V + along_x X⟩ of the block that begins at `at`; the intercept is kept as it is."""
    one = x.dtype.type(1)
    zv = one - one
    zx = one - one
    for e in range(shard.indptr[i], shard.indptr[i + 1]):
        j = at + shard.indices[e]
        zv += shard.values[e] * v[m, j]
        zx += shard.values[e] * x[m, j]
    z = along_v * zv + along_x * zx
    if intercept:
        j = at + shard.features
        z += p * v[m, j] + (one - p) * x[m, j]
    return z


@inlined
def pair_slopes(x, v, m, shard, i, loss, outputs, slopes, at, along_v, along_x, p):
    """Write dℓ_i/dz of row i at y, one per output, to slopes[at:]."""
    one = x.dtype.type(1)
    stride = x.shape[1] // outputs
    intercept = stride > shard.features
    if loss == Loss.SOFTMAX:
        for c in range(outputs):
            slopes[at + c] = pair_score(x, v, m, shard, i, c * stride, along_v, along_x, p, intercept)
        softmax(slopes[at : at + outputs], np.int64(shard.y[i]))
    else:
        z = pair_score(x, v, m, shard, i, 0, along_v, along_x, p, intercept)
        slopes[at] = slope(loss, z, shard.y[i], one)


@inlined
def carry_out(x, v, m, outputs, features, a, b, c, d):
    """Turn V and X into v = a V + b X and x = c V + d X."""
    stride = x.shape[1] // outputs
    for block in range(outputs):
        for j in range(block * stride, block * stride + features):
            moved = a * v[m, j] + b * x[m, j]
            x[m, j] = c * v[m, j] + d * x[m, j]
            v[m, j] = moved


@fast
def accelerated(
    x, v, coefficients, shard, draws, loss, outputs, l2, first_step, slopes, picks, pair, first, last,
):  # fmt: skip
    """Take len(coefficients) steps on the pairs (x_m, v_m), (workers, dim) each, of the workers first ≤ m < last.

    With (p, r, u, s, q, w) = coefficients[k], (steps, 6):

        y = p v + (1 − p) x           g = 1/b Σ ∇ℓ_i(y) + λ y, the intercept without λ
        v ← r v + (1 − r) y − u g     x ← s v + q x + (1 − s − q) y − w g, with the new v

    `pair` (2, dim) holds g where all rows are taken.
    """
    stride = x.shape[1] // outputs
    features = shard.features
    intercept = stride > features
    one = x.dtype.type(1)
    zero = one - one
    near = np.sqrt(
        np.sqrt(np.finfo(x.dtype).eps)
    )  # a determinant so small against its terms loses a quarter of the digits
    large = x.dtype.type(1 << 10)
    for m in range(first, last):
        begin = shard.begin[m]
        count = shard.end[m] - begin
        key = stream(draws.seed, draws.first_worker + m)
        a, b, c, d = one, zero, zero, one
        for k in range(coefficients.shape[0]):
            p, r, u = coefficients[k, 0], coefficients[k, 1], coefficients[k, 2]
            s, q, w = coefficients[k, 3], coefficients[k, 4], coefficients[k, 5]
            along_v = p * a + (one - p) * c
            along_x = p * b + (one - p) * d
            if draws.batch == 0:
                pair[0, :] = zero
                for i in range(begin, begin + count):
                    pair_slopes(x, v, m, shard, i, loss, outputs, slopes, 0, along_v, along_x, p)
                    add_row(pair, 0, shard, i, slopes, 0, outputs, one)
                scale = one / x.dtype.type(count)
            else:
                for i in range(draws.batch):
                    picks[i] = begin + draw(key, (first_step + k) * draws.batch + i, count, draws.reshuffle)
                    pair_slopes(x, v, m, shard, picks[i], loss, outputs, slopes, i * outputs, along_v, along_x, p)
                scale = one / x.dtype.type(draws.batch)
            # The map of this step, after those before it: what v and x are made of but for the gradients.
            hold = one - r - u * l2
            a, b = r * a + hold * along_v, r * b + hold * along_x
            hold = one - s - q - w * l2
            c, d = s * a + q * c + hold * along_v, s * b + q * d + hold * along_x
            size = a * a + b * b + c * c + d * d
            det = a * d - b * c
            if intercept:
                for block in range(outputs):
                    j = block * stride + features
                    y = p * v[m, j] + (one - p) * x[m, j]
                    moved = r * v[m, j] + (one - r) * y
                    x[m, j] = s * moved + q * x[m, j] + (one - s - q) * y
                    v[m, j] = moved
            if draws.batch == 0 or not near * size < abs(det) or not size < large:
                carry_out(x, v, m, outputs, features, a, b, c, d)
                a, b, c, d, det = one, zero, zero, one, one
            # The gradients move v by −u g and x by −(s u + w) g; V and X by what the map turns into that.
            down_v, down_x = -u * scale, -(s * u + w) * scale
            to_v = (d * down_v - b * down_x) / det
            to_x = (a * down_x - c * down_v) / det
            if draws.batch == 0:
                for j in range(x.shape[1]):
                    v[m, j] += to_v * pair[0, j]
                    x[m, j] += to_x * pair[0, j]
                continue
            for i in range(draws.batch):
                row = picks[i]
                for block in range(outputs):
                    f = slopes[i * outputs + block]
                    at = block * stride
                    for e in range(shard.indptr[row], shard.indptr[row + 1]):
                        j = at + shard.indices[e]
                        v[m, j] += to_v * f * shard.values[e]
                        x[m, j] += to_x * f * shard.values[e]
                    if intercept:
                        v[m, at + features] += down_v * f
                        x[m, at + features] += down_x * f
        carry_out(x, v, m, outputs, features, a, b, c, d)
