"""Local steps on CSR rows cost O(non-zeros of the batch), not O(dim): with v in the place of x,
x = scale · v + drift · s on the regularised coordinates, where s is the shift; both scalars change
every step, v only where a drawn row is non-zero. The weighted sums of iterates are kept the same way.
"""

from __future__ import annotations

import numpy as np

from ...compile import fast, inlined
from ...scalar import draw, stream
from ..group import deposit_moved, fill
from .rows import add_row, row_slopes


@inlined
def fold(x, m, shift, sums, weighted, drifted, outputs, features, scale, drift):
    """Turn v into x = scale · v + drift · s, and bring sums[m] up to date; `weighted`, `drifted` return to 0."""
    stride = x.shape[1] // outputs
    for c in range(outputs):
        begin, end = c * stride, c * stride + features
        for q in range(weighted.shape[0]):  # a loop for each array: the compiler makes vectors of them
            weight, drifting = weighted[q], drifted[q]
            for j in range(begin, end):
                sums[m, q, j] += weight * x[m, j]
            for j in range(begin, end if shift.shape[0] > 0 else begin):
                sums[m, q, j] += drifting * shift[m, j]
        for j in range(begin, end):
            x[m, j] *= scale
        if shift.shape[0] > 0:
            for j in range(begin, end):
                x[m, j] += drift * shift[m, j]
    for q in range(weighted.shape[0]):
        weighted[q] = 0
        drifted[q] = 0


@fast
def sgd(
    x, shift, sums, weights, shard, draws, loss, outputs, l2, step_sizes, first_step, slopes, picks, gradient,
    first, last,
):  # fmt: skip
    """Take len(step_sizes) local steps on the iterates of the workers first ≤ m < last, in place.

    Worker m's iterate is row m modulo the rows of x.

    x_m ← x_m − η_t (1/b Σ ∇ℓ_i(x_m) + λ x_m + s_m), the intercept without λ; `shift` is s (workers, dim), or
    has no rows. Before each step, sums[m, q] += weights[t, q] · x_m. `gradient` is (2, an even number ≥ dim and
    ≥ 4 · the sums kept).
    """
    stride = x.shape[1] // outputs
    features = shard.features
    intercept = stride > features
    shifted = shift.shape[0] > 0
    one = x.dtype.type(1)
    zero = one - one
    kept = weights.shape[1]
    # Corrections of the sums grow as 1/scale and cancel: with sums kept, fold before many digits are lost.
    large = x.dtype.type(16 if kept > 0 else 1 << 20)
    small = one / large
    for worker in range(first, last):
        m = worker % x.shape[0]
        begin = shard.begin[worker]
        count = shard.end[worker] - begin
        key = stream(draws.seed, draws.first_worker + worker)
        scale = one
        drift = zero
        # Σ_k w_k x_k = W v + D s − Σ W(at the change) · change of v, with W = Σ w_k scale_k, D = Σ w_k drift_k.
        # In float64, as the sums are: a long float32 sum would stand still.
        lazy_sums = gradient[1].view(np.float64)
        weighted = lazy_sums[:kept]
        drifted = lazy_sums[kept : 2 * kept]
        for q in range(kept):
            weighted[q] = 0
            drifted[q] = 0
        for k in range(step_sizes.shape[0]):
            eta = step_sizes[k]
            for q in range(kept):
                weighted[q] += weights[k, q] * scale
                drifted[q] += weights[k, q] * drift
                if intercept:
                    for c in range(outputs):
                        j = c * stride + features
                        sums[m, q, j] += weights[k, q] * x[m, j]
            if draws.batch == 0:
                gradient[0, : x.shape[1]] = zero
                for i in range(begin, begin + count):
                    row_slopes(x, m, shard, i, loss, outputs, slopes, 0, scale, shift, drift)
                    add_row(gradient, 0, shard, i, slopes, 0, outputs, one)
            else:
                for s in range(draws.batch):
                    picks[s] = begin + draw(key, (first_step + k) * draws.batch + s, count, draws.reshuffle)
                    row_slopes(x, m, shard, picks[s], loss, outputs, slopes, s * outputs, scale, shift, drift)
            # (1 − ηλ) x − η s: only the two scalars change.
            decay = one - eta * l2
            scale *= decay
            drift = decay * drift - eta
            if not small < abs(scale) < large or draws.batch == 0:
                fold(x, m, shift, sums, weighted, drifted, outputs, features, scale, drift)
                scale = one
                drift = zero
            if intercept and shifted:
                for c in range(outputs):
                    x[m, c * stride + features] -= eta * shift[m, c * stride + features]
            if draws.batch == 0:
                f = eta / x.dtype.type(count)
                for j in range(x.shape[1]):
                    x[m, j] -= f * gradient[0, j]
                continue
            f = -eta / x.dtype.type(draws.batch)
            for s in range(draws.batch):
                i = picks[s]
                for c in range(outputs):
                    move = f * slopes[s * outputs + c]
                    if intercept:
                        x[m, c * stride + features] += move
                    lazy = move / scale
                    for e in range(shard.indptr[i], shard.indptr[i + 1]):
                        x[m, c * stride + shard.indices[e]] += lazy * shard.values[e]
                    for q in range(kept):
                        back = weighted[q] * lazy
                        for e in range(shard.indptr[i], shard.indptr[i + 1]):
                            sums[m, q, c * stride + shard.indices[e]] -= back * shard.values[e]
        if kept > 0 or shifted or scale != one:
            fold(x, m, shift, sums, weighted, drifted, outputs, features, scale, drift)


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
