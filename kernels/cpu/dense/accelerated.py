"""Accelerated local steps on dense rows: two sequences and one gradient at a point between them."""

from __future__ import annotations

from ...compile import fast
from ...scalar import draw, stream
from .rows import add_row, add_rows, row_slopes


@fast
def accelerated(
    x, v, coefficients, shard, draws, loss, outputs, l2, first_step, slopes, picks, pair, first, last,
):  # fmt: skip
    """Take len(coefficients) steps on the pairs (x_m, v_m), (workers, dim) each, of the workers first ≤ m < last.

    With (p, r, u, s, q, w) = coefficients[k], (steps, 6):

        y = p v + (1 − p) x           g = 1/b Σ ∇ℓ_i(y) + (λ + ridge) y, the intercept without λ
        v ← r v + (1 − r) y − u g     x ← s v + q x + (1 − s − q) y − w g, with the new v

    `pair` (2, dim) holds g and y.
    """
    stride = x.shape[1] // outputs
    features = shard.a.shape[1]
    curved = shard.ridge.shape[0] > 0
    one = x.dtype.type(1)
    zero = one - one
    for m in range(first, last):
        own = m if shard.ridge.shape[0] > 1 else 0
        begin = shard.begin[m]
        count = shard.end[m] - begin
        key = stream(draws.seed, draws.first_worker + m)
        for k in range(coefficients.shape[0]):
            p, r, u = coefficients[k, 0], coefficients[k, 1], coefficients[k, 2]
            s, q, w = coefficients[k, 3], coefficients[k, 4], coefficients[k, 5]
            for j in range(x.shape[1]):
                pair[0, j] = zero
                pair[1, j] = p * v[m, j] + (one - p) * x[m, j]
            if draws.batch == 0:
                if outputs == 1:
                    add_rows(pair, 0, pair, 1, shard, begin, begin + count, loss, slopes)
                else:
                    for i in range(begin, begin + count):
                        row_slopes(pair, 1, shard, i, loss, outputs, slopes, 0)
                        add_row(pair, 0, shard, i, slopes, 0, outputs, one)
                scale = one / x.dtype.type(count)
            else:
                for d in range(draws.batch):
                    i = begin + draw(key, (first_step + k) * draws.batch + d, count, draws.reshuffle)
                    row_slopes(pair, 1, shard, i, loss, outputs, slopes, 0)
                    add_row(pair, 0, shard, i, slopes, 0, outputs, one)
                scale = one / x.dtype.type(draws.batch)
            for c in range(outputs):
                at = c * stride
                for j in range(stride):
                    y = pair[1, at + j]
                    g = scale * pair[0, at + j]
                    if j < features:
                        ridge = l2
                        if curved:
                            ridge += shard.ridge[own, 1, j] if y > zero else shard.ridge[own, 0, j]
                        g += ridge * y
                    moved = r * v[m, at + j] + (one - r) * y - u * g
                    x[m, at + j] = s * moved + q * x[m, at + j] + (one - s - q) * y - w * g
                    v[m, at + j] = moved
