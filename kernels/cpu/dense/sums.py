"""Objective, gradient and Hessian product over dense rows."""

from __future__ import annotations

import numpy as np

from ...compile import fast
from ...scalar import Loss, curvature, draw, stream, value
from .rows import add_row, add_rows, row_slopes, score


@fast
def sample_gradient(out, x, shard, draws, loss, outputs, counter, count, slopes, first, last):
    """out_m ← 1/count Σ of `count` sampled ∇ℓ_i at the common iterate x[0], draws counter, counter + 1, …; no l2."""
    one = x.dtype.type(1)
    for m in range(first, last):
        out[m, :] = one - one
        begin = shard.begin[m]
        rows = shard.end[m] - begin
        key = stream(draws.seed, draws.first_worker + m)
        scale = one / x.dtype.type(count)
        for s in range(count):
            i = begin + draw(key, counter + s, rows, draws.reshuffle)
            row_slopes(x, 0, shard, i, loss, outputs, slopes, 0)
            add_row(out, m, shard, i, slopes, 0, outputs, scale)


@fast
def evaluate(out, values, x, shard, loss, outputs, slopes, first, last):
    """Sum over each block's rows at x[0]: out_m = Σ ∇ℓ_i, values[m] = (Σ ℓ_i, rows predicted right); no l2."""
    one = x.dtype.type(1)
    for m in range(first, last):
        out[m, :] = one - one
        total = 0.0
        correct = 0
        if outputs == 1:
            total, correct = add_rows(out, m, x, 0, shard, shard.begin[m], shard.end[m], loss, slopes)
        else:
            for i in range(shard.begin[m], shard.end[m]):
                row_loss, right = row_slopes(x, 0, shard, i, loss, outputs, slopes, 0)
                total += row_loss
                correct += right
                add_row(out, m, shard, i, slopes, 0, outputs, one)
        values[m, 0] = total
        values[m, 1] = correct


@fast
def losses(values, x, shard, loss, outputs, slopes, first, last):
    """Sum over each block's rows at x[0]: values[m, 0] = Σ ℓ_i; no l2."""
    one = x.dtype.type(1)
    intercept = x.shape[1] // outputs > shard.a.shape[1]
    for m in range(first, last):
        total = 0.0
        for i in range(shard.begin[m], shard.end[m]):
            if loss == Loss.SOFTMAX:
                row_loss, _ = row_slopes(x, 0, shard, i, loss, outputs, slopes, 0)
                total += row_loss
            else:
                total += value(loss, score(shard.a, i, x, 0, 0, intercept), shard.y[i], one)
        values[m, 0] = total


@fast
def square_norms(values, x, shard, loss, outputs, slopes, first, last):
    """Sum over each block's rows at x[0]: values[m, 0] = Σ ‖∇ℓ_i‖²; no l2."""
    one = x.dtype.type(1)
    stride = x.shape[1] // outputs
    for m in range(first, last):
        total = 0.0
        for i in range(shard.begin[m], shard.end[m]):
            row_slopes(x, 0, shard, i, loss, outputs, slopes, 0)
            square = one if stride > shard.a.shape[1] else one - one
            for j in range(shard.a.shape[1]):
                square += shard.a[i, j] * shard.a[i, j]
            for c in range(outputs):
                total += slopes[c] * slopes[c] * square
        values[m, 0] = total


@fast
def hessian(out, x, v, shard, loss, outputs, slopes, first, last):
    """Sum over each block's rows at x[0]: out_m = Σ ∇²ℓ_i v[0]; no l2. `slopes` holds 2·outputs."""
    one = x.dtype.type(1)
    stride = x.shape[1] // outputs
    intercept = stride > shard.a.shape[1]
    for m in range(first, last):
        out[m, :] = one - one
        for i in range(shard.begin[m], shard.end[m]):
            if loss == Loss.SOFTMAX:
                # ∇²ℓ v = (diag p − p pᵀ) u with u_c = ⟨a_i, v_c⟩; slopes hold p − e_y.
                row_slopes(x, 0, shard, i, loss, outputs, slopes, 0)
                slopes[np.int64(shard.y[i])] += one
                mean = one - one
                for c in range(outputs):
                    slopes[outputs + c] = score(shard.a, i, v, 0, c * stride, intercept)
                    mean += slopes[c] * slopes[outputs + c]
                for c in range(outputs):
                    slopes[outputs + c] = slopes[c] * (slopes[outputs + c] - mean)
            else:
                z = score(shard.a, i, x, 0, 0, intercept)
                slopes[1] = curvature(loss, z, shard.y[i], one) * score(shard.a, i, v, 0, 0, intercept)
            add_row(out, m, shard, i, slopes, outputs, outputs, one)
