"""The objective F(x) = Σ p_m f_m(x), its rows on this rank, and the compiled kernels that work on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpilocal.blocks import Blocks, Shard, row_weights
from mpilocal.exact import StreamSum, relative
from mpilocal.kernels.cpu import vector
from mpilocal.kernels.scalar import Loss
from mpilocal.kernels.shard import Dense, Draws
from mpilocal.threads import Threads

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Array = NDArray[np.floating]

# sup ℓ'' of each loss: the objective is smooth with L = sup ℓ'' · λ_max(Σ p_m A_mᵀA_m / N_m) + l2.
UNCLASSED = (Loss.SQUARED, Loss.LINEAR, Loss.CUSTOM)  # labels need not be classes
MARGIN = (Loss.LOGISTIC, Loss.SQUARED_HINGE, Loss.SMOOTH_HINGE, Loss.EXPONENTIAL)  # labels are ±1
CURVATURE = {
    Loss.LOGISTIC: 0.25,
    Loss.SQUARED: 1.0,
    Loss.SQUARED_HINGE: 2.0,
    Loss.SMOOTH_HINGE: 1.0,
    Loss.SOFTMAX: 0.5,
}


class Value(NamedTuple):
    """F and what comes with it at one point."""

    objective: float
    gradient: NDArray[np.float64]  # (dim,)
    gradient_norm: float
    accuracy: float  # share of rows predicted right; nan where the loss does not classify


class Problem:
    """What a method works on.

    Attributes:
        name, loss: the loss by name and for the kernels.
        l2: λ. outputs: blocks of the iterate, 1 or the classes. features, dim: of a row, of the iterate.
        rows: n on all ranks. shard: this rank's rows and its workers' ranges. draws: how workers sample.
        kernels: the module of compiled kernels for this storage. optimum: known F* of a synthetic problem, or nan.
        labels: how labels were mapped, to be shown. known: arrays that came with the data.
        sampled_rows: Σ_m N_m, the rows of all workers together.
    """

    def __init__(
        self,
        *,
        name: str,
        loss: Loss,
        l2: float,
        outputs: int,
        intercept: bool,
        features: int,
        rows: int,
        shard: Shard,
        evaluated: Shard,
        row_weights: Array,
        kernels: ModuleType,
        dtype: np.dtype[Any],
        threads: Threads,
        comm: Intracomm | None,
        labels: dict[float, int],
        test: Blocks | None = None,
        known: Mapping[str, NDArray[np.float64]] = MappingProxyType({}),
        curvature: NDArray[np.float64] | None = None,
    ) -> None:
        """Take this rank's rows; `row_weights` (workers here,) is p_m/N_m, of the ranges in `evaluated`.

        `curvature` (2, features) is Σ p_m of a quadratic's own curvatures below 0 and above, those of `shard`.
        """
        self.name, self.loss, self.l2 = name, loss, l2
        self.outputs, self.intercept, self.features = outputs, intercept, features
        self.dim = outputs * (features + intercept)
        self.rows, self.shard, self.labels = rows, shard, labels
        self.kernels, self.dtype, self.threads = kernels, dtype, threads
        self.comm = comm if comm is not None and comm.size > 1 else None
        self.blocks = Blocks(evaluated, row_weights, self.comm)
        self.test, self.known, self.curvature = test, known, curvature
        self._sum = StreamSum(self.dim + 2, max(self.blocks.total, test.total if test else 1), threads)
        self._scalar = StreamSum(1, self.blocks.total, threads)
        share = max(1, min(64, (1 << 25) // (8 * self.dim)))
        self._piece = min(max(self.blocks.count, test.count if test else 1), share * threads.count)
        self._out = np.empty((self._piece, self.dim), dtype)
        self._values = np.empty((self._piece, 2))
        self._slopes = [(np.empty(max(8, 2 * outputs), dtype),) for _ in range(threads.count)]
        penalised = np.ones((outputs, features + intercept), bool)
        penalised[:, features:] = False
        self.penalised = penalised.ravel()
        self._ridge = np.where(self.penalised, self.l2, 0.0)
        self._smoothness: float | None = None
        mine = int(np.sum(shard.end - shard.begin))
        self.sampled_rows = self.comm.allreduce(mine) if self.comm is not None else mine

    @property
    def alike(self) -> bool:
        """Whether all workers have all rows, and so one objective."""
        return bool((self.shard.end - self.shard.begin == self.rows).all())

    def work(self, batch: int, averages: int) -> list[tuple[Array, NDArray[np.int64], Array]]:
        """Return the scratch of `sgd` for each thread: slopes, picks, gradient."""
        size = max(batch, 1)
        wide = max(self.dim + self.dim % 2, 4 * averages)
        return [
            (
                np.empty(max(8, size * self.outputs), self.dtype),
                np.empty(size, np.int64),
                np.empty((2, wide), self.dtype),
            )
            for _ in range(self.threads.count)
        ]

    def evaluate(self, x: Array) -> Value:
        """Return F and its gradient at x (dim,); collective; the same bits on any number of ranks."""
        blocks = self.blocks
        total = np.zeros(self.dim + 2)
        rounded = self._typed(x)
        self._accumulate(blocks, self.kernels.evaluate, (rounded,), True)
        self._sum.reduce(self.comm, blocks.divisor, total)
        point = np.asarray(rounded[0], np.float64)
        pull = self.pull(point)
        objective = total[-2] + 0.5 * float(vector.dot(pull, point))
        gradient = total[:-2] + pull
        norm = math.sqrt(float(vector.dot(gradient, gradient)))
        classifies = self.loss not in UNCLASSED
        return Value(float(objective), gradient, norm, float(total[-1]) if classifies else math.nan)

    def objective(self, x: Array) -> float:
        """Return F at x (dim,), in about half the time of `evaluate`; collective."""
        rounded = self._typed(x)
        point = np.asarray(rounded[0], np.float64)
        return self._total(self.kernels.losses, rounded) + 0.5 * float(vector.dot(self.pull(point), point))

    def gradient_noise(self, x: Array, value: Value) -> float:
        """Return Σ w_i ‖∇f_i(x) − ∇F(x)‖² over all rows, weighted as in F; collective. `value` is that of x.

        It is σ² of a gradient drawn from all rows; where workers draw from their own, σ² and the divergence together.
        All rows have to have one curvature.
        """
        rounded = self._typed(x)
        mean = value.gradient - self.pull(np.asarray(rounded[0], np.float64))
        return max(self._total(self.kernels.square_norms, rounded) - float(vector.dot(mean, mean)), 0.0)

    def worker_gradients(self, x: Array) -> NDArray[np.float64]:
        """Return ∇f_m(x) of the workers here (workers, dim), without what all share: l2 and a mean curvature."""
        shard = self.shard
        count = len(shard.begin)
        found, values = np.empty((count, self.dim), self.dtype), np.empty((count, 2))
        args = (found, values, self._typed(x), shard, int(self.loss), self.outputs)
        self.threads.run(self.kernels.evaluate, count, args, self._slopes)
        gradients = np.asarray(found, np.float64) / (shard.end - shard.begin)[:, None]
        if self.curvature is not None and isinstance(shard, Dense):
            point = np.asarray(x, np.float64)
            away = np.asarray(shard.ridge, np.float64) - self.curvature
            if away.any():
                gradients += np.where(point > 0, away[:, 1], away[:, 0]) * point
        return gradients

    def evaluate_test(self, x: Array) -> tuple[float, float]:
        """Return mean loss (without l2) and accuracy at x on the held-out rows; collective."""
        if self.test is None:
            return math.nan, math.nan
        total = np.zeros(self.dim + 2)
        self._accumulate(self.test, self.kernels.evaluate, (self._typed(x),), True)
        self._sum.reduce(self.comm, self.test.divisor, total)
        return float(total[-2]), math.nan if self.loss in UNCLASSED else float(total[-1])

    def hessian_product(self, x: Array, v: Array, loss: Loss | None = None) -> NDArray[np.float64]:
        """Return ∇²F(x) v, (dim,); collective. `loss` takes the place of the problem's own."""
        total = np.zeros(self.dim + 2)
        self._accumulate(self.blocks, self.kernels.hessian, (self._typed(x), self._typed(v)), False, loss)
        self._sum.reduce(self.comm, self.blocks.divisor, total)
        return np.asarray(total[:-2] + self._shared(x) * v)

    def smoothness(self) -> float:
        """Return an estimate of L, 1% above what the power method finds, on Σ p_m A_mᵀA_m/N_m, or nan; collective."""
        if self._smoothness is None:
            self._smoothness = self._estimate_smoothness()
        return self._smoothness

    def _estimate_smoothness(self) -> float:
        if self.curvature is not None:
            return float(self.curvature.max()) + self.l2
        if self.loss not in CURVATURE:
            return math.nan
        width = self.features + self.intercept
        v = np.zeros(self.dim)
        v[:width] = np.random.default_rng(0).standard_normal(width)
        top = 0.0
        for _ in range(200):
            v /= math.sqrt(float(vector.dot(v, v)))
            image = self._second_moment(v, width)
            before, top = top, math.sqrt(float(vector.dot(image, image)))
            if top == 0 or abs(top - before) <= 1e-4 * top:
                break
            v = image
        return CURVATURE[self.loss] * top * 1.01 + self.l2

    def _second_moment(self, v: Array, width: int) -> NDArray[np.float64]:
        """Return Σ p_m A_mᵀA_m v / N_m for v that lives in the first block."""
        if self.loss == Loss.SOFTMAX:
            # At x = 0 the softmax Hessian on (v, 0, …) is (1/C)(1 − 1/C) AᵀA v in the first block.
            image = self.hessian_product(np.zeros(self.dim), v) - self._ridge * v
            image[width:] = 0
            return image * self.outputs**2 / (self.outputs - 1)
        return self.hessian_product(np.zeros(self.dim), v, Loss.SQUARED) - self._ridge * v

    def pull(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the gradient at x (dim,) of what no row has to itself: l2 and a quadratic's mean curvature."""
        found: NDArray[np.float64] = self._shared(x) * x
        return found

    def _shared(self, x: Array) -> NDArray[np.float64]:
        """Return the curvature at x that all rows share, (dim,): λ and the quadratic's own."""
        if self.curvature is None:
            return self._ridge
        return np.asarray(self._ridge + np.where(np.asarray(x) > 0, self.curvature[1], self.curvature[0]))

    @property
    def convexity(self) -> float:
        """The µ of the l2 term and a quadratic's curvature."""
        return self.l2 + (0.0 if self.curvature is None else float(self.curvature.min()))

    def _typed(self, x: Array) -> Array:
        return np.ascontiguousarray(x, self.dtype).reshape(1, -1)

    def _total(self, kernel: Any, point: Array) -> float:
        """Return the weighted sum over all rows of what a kernel sums in each block; collective."""
        blocks, total = self.blocks, np.zeros(1)
        values = np.empty((blocks.count, 1))
        args = (values, point, blocks.shard, int(self.loss), self.outputs)
        self.threads.run(kernel, blocks.count, args, self._slopes)
        self._scalar.add(values, blocks.scale)
        self._scalar.reduce(self.comm, blocks.divisor, total)
        return float(total[0])

    def _accumulate(
        self, blocks: Blocks, kernel: Any, points: tuple[Array, ...], values: bool, loss: Loss | None = None
    ) -> None:
        """Add every block's (Σ gradient, Σ loss, rows right) to the exact sum, a few blocks at a time."""
        loss = self.loss if loss is None else loss
        row = np.zeros((self._piece, self.dim + 2))
        for at in range(0, blocks.count, self._piece):
            count = min(self._piece, blocks.count - at)
            shard = blocks.shard._replace(
                begin=blocks.shard.begin[at : at + count], end=blocks.shard.end[at : at + count]
            )
            targets = (self._out, self._values) if values else (self._out,)
            args = (*targets, *points, shard, int(loss), self.outputs)
            self.threads.run(kernel, count, args, self._slopes)
            row[:count, :-2] = self._out[:count]
            row[:count, -2:] = self._values[:count] if values else 0.0
            self._sum.add(row[:count], blocks.scale[at : at + count])


def dense_rows(shard: Shard, wanted: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the rows `wanted` of a shard, (len(wanted), features)."""
    if isinstance(shard, Dense):
        return np.asarray(shard.a[wanted], np.float64)
    out = np.zeros((len(wanted), shard.features))
    for row, i in enumerate(wanted.tolist()):
        at = slice(shard.indptr[i], shard.indptr[i + 1])
        out[row, shard.indices[at]] = shard.values[at]
    return out


__all__ = ["Blocks", "Draws", "Problem", "Shard", "Value", "dense_rows", "relative", "row_weights"]
