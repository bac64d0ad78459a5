"""Rows, a start and a way to call the kernels on them, in their form and in that of `naive`."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import naive
import numpy as np
from numpy.typing import NDArray

from mpilocal.kernels.cpu import dense, sparse
from mpilocal.kernels.shard import Dense, Draws, Sparse
from mpilocal.prepare import LOSSES

ONE = [name for name in LOSSES if name not in ("softmax", "quadratic")]
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}
STORAGES = [(dense, name) for name in LOSSES] + [(sparse, name) for name in LOSSES if name != "quadratic"]
SEED, FIRST_WORKER = 17, 5
KEPT = 2


def short(value: Any) -> str:
    return str(value.__name__).rpartition(".")[2] if isinstance(value, ModuleType) else str(value)


class Case(NamedTuple):
    """Rows of two workers and a start, in the kernels' form and in that of `naive`."""

    kernels: ModuleType
    shard: Any
    model: naive.Model
    workers: list[naive.Worker]
    x: NDArray[Any]  # (2, dim)
    dtype: np.dtype[Any]

    @property
    def dim(self) -> int:
        return int(self.x.shape[1])

    def of(self, m: int) -> naive.Model:
        """The model of a worker, with its own curvature."""
        own = getattr(self.shard, "ridge", ())
        return self.model._replace(ridge=own[m].astype(np.float64)) if len(own) else self.model

    def matrix(self, row: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(row, np.float64).reshape(self.model.outputs, -1)


def make(
    kernels: ModuleType, loss: str, dtype: str, *,
    intercept: bool = False, l2: float = 0.0, seed: int = 0, scale: float = 1,
) -> Case:  # fmt: skip
    draw = np.random.default_rng(seed)
    n, d, split = 23, 9, 11
    outputs = 3 if loss == "softmax" else 1
    a = scale * draw.standard_normal((n, d))
    if kernels is sparse:
        a[draw.random((n, d)) < 0.6] = 0
        a[3] = 0  # a row without non-zeros
    y = np.where(draw.random(n) < 0.5, 1.0, -1.0)
    if loss == "softmax":
        y = draw.integers(0, outputs, n).astype(np.float64)
    if loss == "squared":
        y = draw.standard_normal(n)
    a = a.astype(dtype)
    y = y.astype(dtype)
    ridge = np.zeros((0, 2, 0), dtype)
    if loss == "quadratic":  # of each of the two workers, below 0 and above
        ridge = np.linspace(0.1, 1, 4 * d).reshape(2, 2, d).astype(dtype)
    begin, end = np.array([0, split], np.int64), np.array([split, n], np.int64)
    shard: Dense | Sparse
    if kernels is dense:
        shard = Dense(a, y, begin, end, ridge)
    else:
        rows, columns = np.nonzero(a)
        indptr = np.searchsorted(rows, np.arange(n + 1)).astype(np.int64)
        shard = Sparse(a[rows, columns], columns.astype(np.int32), indptr, y, begin, end, d)
    l2 = float(np.dtype(dtype).type(l2))
    model = naive.Model(loss, l2, intercept, outputs, ridge[0].astype(np.float64) if len(ridge) else None)
    wide, y64 = a.astype(np.float64), y.astype(np.float64)
    workers = [naive.Worker(FIRST_WORKER + m, wide[begin[m] : end[m]], y64[begin[m] : end[m]], 0.5) for m in range(2)]
    x = (0.5 * draw.standard_normal((2, outputs * (d + intercept)))).astype(dtype)
    return Case(kernels, shard, model, workers, x, np.dtype(dtype))


def scratch(case: Case, batch: int) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[Any]]:
    size = max(8, max(batch, 1) * case.model.outputs)
    wide = max(case.dim, 2 * KEPT)
    return np.empty(size, case.dtype), np.empty(max(batch, 1), np.int64), np.empty((2, wide + wide % 2), case.dtype)


def steps(
    case: Case, batch: int | str, reshuffle: bool, shift: NDArray[Any], etas: NDArray[Any], weights: NDArray[Any],
    first: int = 7, range_: tuple[int, int] = (0, 2),
) -> tuple[NDArray[Any], NDArray[Any]]:  # fmt: skip
    """The kernel's iterates and sums."""
    size = 0 if batch == "all" else int(batch)
    x = case.x.copy()
    sums = np.ones((2, weights.shape[1], case.dim), case.dtype)
    draws = Draws(np.uint64(SEED), FIRST_WORKER, reshuffle, size)
    rule = (int(LOSSES[case.model.loss]), case.model.outputs, case.dtype.type(case.model.l2), etas, first)
    case.kernels.sgd(x, shift, sums, weights, case.shard, draws, *rule, *scratch(case, size), *range_)
    return x, sums


def specified(
    case: Case, batch: int | str, reshuffle: bool, shift: NDArray[Any], etas: NDArray[Any], weights: NDArray[Any],
    first: int = 7,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """What they should be."""
    x, sums = np.zeros(case.x.shape), np.ones((2, weights.shape[1], case.dim))
    for m, worker in enumerate(case.workers):

        def visit(t: int, at: naive.Array, m: int = m) -> None:
            sums[m] += np.multiply.outer(weights[t - first].astype(np.float64), at.ravel())

        s = case.matrix(shift[m]) if len(shift) else 0.0
        sampling = naive.Sampling(SEED, batch, reshuffle)
        start, sizes = case.matrix(case.x[m]), etas.astype(np.float64)
        x[m] = naive.local_steps(case.of(m), worker, sampling, start, list(sizes), first, s, visit)[0].ravel()
    return x, sums


def close(got: NDArray[Any], want: NDArray[Any], tolerance: float) -> None:
    """Within `tolerance` of the largest entry."""
    assert got.shape == want.shape
    gap = np.max(np.abs(got - want), initial=0.0)
    assert gap <= tolerance * max(1.0, np.max(np.abs(want), initial=0.0)), f"off by {gap:.3g}"
