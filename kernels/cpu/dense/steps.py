"""Local steps on dense rows."""

from __future__ import annotations

from ...compile import fast
from ...scalar import draw, stream
from ..group import deposit_moved, fill
from .rows import add_row, add_rows, row_slopes


@fast
def sgd(
    x, shift, sums, weights, shard, draws, loss, outputs, l2, step_sizes, first_step, slopes, picks, gradient,
    first, last,
):  # fmt: skip
    """Take len(step_sizes) local steps on the iterates of the workers first ≤ m < last, in place.

    Worker m's iterate is row m modulo the rows of x.

    x_m ← x_m − η_t (1/b Σ ∇ℓ_i(x_m) + (λ + ridge) x_m + s_m), the intercept without λ; `shift` is s (workers, dim), or
    has no rows. Before each step, sums[m, q] += weights[t, q] · x_m.
    """
    stride = x.shape[1] // outputs
    features = shard.a.shape[1]
    shifted = shift.shape[0] > 0
    curved = shard.ridge.shape[0] > 0
    decays = l2 != 0 or curved or shifted
    one = x.dtype.type(1)
    zero = one - one
    for worker in range(first, last):
        m = worker % x.shape[0]
        own = worker if shard.ridge.shape[0] > 1 else 0
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
                        ridge = l2
                        if curved:
                            ridge += shard.ridge[own, 1, j] if x[m, at + j] > zero else shard.ridge[own, 0, j]
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
