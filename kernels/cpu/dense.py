"""Local steps, objective, gradient and Hessian product on dense rows.

An iterate has `outputs` blocks (1, or the classes of softmax), each `features` weights and, where its
length is one more, an intercept. Rows first ≤ m < last of the arguments are worked on, so that
threads share a call's workers. `slopes` (batch·outputs or outputs,), `picks` (batch,) and `gradient`
(dim,) are scratch of the calling thread. Nothing here allocates.
"""

from __future__ import annotations

import numpy as np

from ..compile import fast, inlined
from ..scalar import Loss, curvature, draw, slope, softmax, stream, value
from .group import deposit_moved, fill


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


@fast
def sgd(
    x, shift, sums, weights, shard, draws, loss, outputs, l2, step_sizes, first_step, slopes, picks, gradient,
    first, last,
):  # fmt: skip
    """Take len(step_sizes) local steps on the iterates of the workers first ≤ m < last, in place.

    Worker m's iterate is row m modulo the rows of x.

    x_m ← x_m − η_t (1/b Σ ∇ℓ_i(x_m) + λ x_m + s_m), the intercept without λ; `shift` is s (workers, dim), or
    has no rows. Before each step, sums[m, q] += weights[t, q] · x_m.
    """
    stride = x.shape[1] // outputs
    features = shard.a.shape[1]
    shifted = shift.shape[0] > 0
    curved = shard.ridge.shape[0] > 0
    decays = l2 != 0 or curved or shifted
    one = x.dtype.type(1)
    for worker in range(first, last):
        m = worker % x.shape[0]
        begin = shard.begin[worker]
        count = shard.end[worker] - begin
        key = stream(draws.seed, draws.first_worker + worker)
        for k in range(step_sizes.shape[0]):
            eta = step_sizes[k]
            for q in range(weights.shape[1]):
                w = weights[k, q]
                for j in range(x.shape[1]):
                    sums[m, q, j] += w * x[m, j]
            if draws.batch == 0:
                gradient[0, :] = one - one
                if outputs == 1:
                    add_rows(gradient, 0, x, m, shard, begin, begin + count, loss, slopes)
                else:
                    for i in range(begin, begin + count):
                        row_slopes(x, m, shard, i, loss, outputs, slopes, 0)
                        add_row(gradient, 0, shard, i, slopes, 0, outputs, one)
            else:
                for s in range(draws.batch):
                    picks[s] = begin + draw(key, (first_step + k) * draws.batch + s, count, draws.reshuffle)
                    row_slopes(x, m, shard, picks[s], loss, outputs, slopes, s * outputs)
            if decays:
                for c in range(outputs):
                    at = c * stride
                    for j in range(features):
                        ridge = l2 + shard.ridge[j] if curved else l2
                        x[m, at + j] -= eta * (ridge * x[m, at + j])
                    if shifted:
                        for j in range(stride):
                            x[m, at + j] -= eta * shift[m, at + j]
            if draws.batch == 0:
                scale = eta / x.dtype.type(count)
                for j in range(x.shape[1]):
                    x[m, j] -= scale * gradient[0, j]
            else:
                scale = -eta / x.dtype.type(draws.batch)
                for s in range(draws.batch):
                    add_row(x, m, shard, picks[s], slopes, s * outputs, outputs, scale)


@fast
def sgd_streamed(
    start, none, sums, weights, shard, draws, loss, outputs, l2, step_sizes, first_step, scale, width, x,
    rows, slopes, picks, gradient, tops, limbs, factors, bits, values, first, last,
):  # fmt: skip
    """Run `sgd` from start[0] on the workers first ≤ m < last and add scale[m] · (x_m, ‖x_m − start‖²) to an exact sum.

    No worker's iterate is kept: `x` (group, dim) and `rows` (group, dim + 1) float64 are scratch for a few at a time;
    `tops` to `values` are an accumulator, see `stream.deposit`.
    """
    for begin in range(first, last, x.shape[0]):
        end = min(begin + x.shape[0], last)
        fill(x, start, begin, end)
        sgd(
            x, none, sums, weights, shard, draws, loss, outputs, l2, step_sizes, first_step, slopes, picks, gradient,
            begin, end,
        )  # fmt: skip
        deposit_moved(x, start, scale, width, rows, tops, limbs, factors, bits, values, begin, end)


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
