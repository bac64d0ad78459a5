"""Every compiled kernel against `naive`, for every loss, storage, precision and way to sample."""

from __future__ import annotations

import itertools
import math
from types import ModuleType
from typing import Any, NamedTuple

import naive
import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from mpilocal.kernels import scalar
from mpilocal.kernels.cpu import dense, sparse, vector
from mpilocal.kernels.scalar import Loss
from mpilocal.kernels.shard import Dense, Draws, Sparse

LOSSES = {
    "logistic": Loss.LOGISTIC,
    "squared": Loss.SQUARED,
    "squared-hinge": Loss.SQUARED_HINGE,
    "smooth-hinge": Loss.SMOOTH_HINGE,
    "exponential": Loss.EXPONENTIAL,
    "softmax": Loss.SOFTMAX,
    "quadratic": Loss.LINEAR,
}
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
    ridge = np.linspace(0.1, 1, d).astype(dtype) if loss == "quadratic" else np.zeros(0, dtype)
    begin, end = np.array([0, split], np.int64), np.array([split, n], np.int64)
    shard: Dense | Sparse
    if kernels is dense:
        shard = Dense(a, y, begin, end, ridge)
    else:
        rows, columns = np.nonzero(a)
        indptr = np.searchsorted(rows, np.arange(n + 1)).astype(np.int64)
        shard = Sparse(a[rows, columns], columns.astype(np.int32), indptr, y, begin, end, d)
    l2 = float(np.dtype(dtype).type(l2))
    model = naive.Model(loss, l2, intercept, outputs, ridge.astype(np.float64) if len(ridge) else None)
    wide, y64 = a.astype(np.float64), y.astype(np.float64)
    workers = [
        naive.Worker(FIRST_WORKER + m, wide[begin[m] : end[m]], y64[begin[m] : end[m]], 0.5) for m in range(2)
    ]
    x = (0.5 * draw.standard_normal((2, outputs * (d + intercept)))).astype(dtype)
    return Case(kernels, shard, model, workers, x, np.dtype(dtype))


def scratch(case: Case, batch: int) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[Any]]:
    size = max(8, max(batch, 1) * case.model.outputs)
    wide = max(case.dim, 2 * KEPT)
    return np.empty(size, case.dtype), np.empty(max(batch, 1), np.int64), np.empty((2, wide), case.dtype)


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
        x[m] = naive.local_steps(case.model, worker, sampling, start, list(sizes), first, s, visit)[0].ravel()
    return x, sums


def close(got: NDArray[Any], want: NDArray[Any], tolerance: float) -> None:
    """Within `tolerance` of the largest entry."""
    assert got.shape == want.shape
    gap = np.max(np.abs(got - want), initial=0.0)
    assert gap <= tolerance * max(1.0, np.max(np.abs(want), initial=0.0)), f"off by {gap:.3g}"


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("kernels", "loss"), STORAGES, ids=short)
def test_local_steps(kernels: ModuleType, loss: str, dtype: str) -> None:
    etas = np.array([0.1, 0.05, 0.2, 0.1, 0.02, 0.1], dtype)
    weights = np.array([[1, 0.5], [1, 2], [1, 0], [1, 3], [1, 1], [1, 5]], dtype)
    options = itertools.product([0.0, 0.3], [False, True], [False, True], [1, 3, "all"], [False, True])
    for l2, intercept, shifted, batch, reshuffle in options:
        scale = 0.3 if loss == "exponential" else 1  # it soon overflows
        case = make(kernels, loss, dtype, intercept=intercept, l2=l2, seed=1, scale=scale)
        shift = np.random.default_rng(2).standard_normal(case.x.shape).astype(dtype)
        shift = shift if shifted else shift[:0]
        for kept in (0, KEPT):
            args = (case, batch, reshuffle, shift, etas, np.ascontiguousarray(weights[:, :kept]))
            for got, want in zip(steps(*args), specified(*args), strict=True):
                close(got, want, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("kernels", "loss"), STORAGES, ids=short)
def test_objective_gradient_and_hessian(kernels: ModuleType, loss: str, dtype: str) -> None:
    for intercept in (False, True):
        case = make(kernels, loss, dtype, intercept=intercept, seed=3)
        model, point = case.model, case.x[:1].copy()
        x, v = case.matrix(point), case.matrix(case.x[1])
        out, values = np.empty((2, case.dim), dtype), np.empty((2, 2))
        slopes = np.empty(8, dtype)
        common = (case.shard, int(LOSSES[loss]), model.outputs, slopes)
        kernels.evaluate(out, values, point, *common, 0, 2)
        product = np.empty_like(out)
        kernels.hessian(product, point, case.x[1:].copy(), *common, 0, 2)
        for m, worker in enumerate(case.workers):
            each = np.ones(len(worker.y))
            rows = (model._replace(ridge=None), worker.a, worker.y, each)
            close(values[m, :1], np.array([naive.objective(*rows, x)]), TOLERANCE[dtype])
            close(out[m], naive.gradient(*rows, x).ravel(), TOLERANCE[dtype])
            close(product[m], naive.hessian_product(*rows, x, v).ravel(), TOLERANCE[dtype])
            if loss not in ("squared", "quadratic"):
                predicted = [naive.scores(model, row, x) for row in worker.a]
                labelled = zip(predicted, worker.y, strict=True)
                assert values[m, 1] == sum(naive.right(loss, z, y) for z, y in labelled)


@pytest.mark.parametrize(("kernels", "loss"), STORAGES, ids=short)
def test_derivatives_are_those_of_the_value(kernels: ModuleType, loss: str) -> None:
    """Central differences of the objective give the gradient, of the gradient the Hessian product."""
    case = make(kernels, loss, "float64", intercept=True, seed=4)
    draw = np.random.default_rng(5)
    x, v, h = case.x[:1].copy(), draw.standard_normal((1, case.dim)), 1e-6
    common = (case.shard, int(LOSSES[loss]), case.model.outputs, np.empty(8))

    def at(point: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        out, values = np.empty((2, case.dim)), np.empty((2, 2))
        kernels.evaluate(out, values, point, *common, 0, 2)
        return out, values[:, 0]

    (above, f1), (below, f0) = at(x + h * v), at(x - h * v)
    np.testing.assert_allclose(at(x)[0] @ v[0], (f1 - f0) / (2 * h), rtol=1e-6, atol=1e-6)
    product = np.empty((2, case.dim))
    kernels.hessian(product, x, v, *common, 0, 2)
    np.testing.assert_allclose(product, (above - below) / (2 * h), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("kernels", "loss"), STORAGES, ids=short)
def test_sample_gradient(kernels: ModuleType, loss: str, dtype: str) -> None:
    for intercept, reshuffle in itertools.product([False, True], repeat=2):
        case = make(kernels, loss, dtype, intercept=intercept, seed=6)
        out = np.empty((2, case.dim), dtype)
        draws = Draws(np.uint64(SEED), FIRST_WORKER, reshuffle, 4)
        rule = (int(LOSSES[loss]), case.model.outputs)
        kernels.sample_gradient(out, case.x[:1].copy(), case.shard, draws, *rule, 20, 12, np.empty(8, dtype), 0, 2)
        for m, worker in enumerate(case.workers):
            sampling = naive.Sampling(SEED, 4, reshuffle)
            want = sampling.gradient(case.model, worker, case.matrix(case.x[0]), 5, 3)
            close(out[m], want.ravel(), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("loss", ONE)
def test_losses_at_any_margin(loss: str, dtype: str) -> None:
    """No NaN up to margins of ±1e4; only the exponential overflows, and only upward."""
    kind = np.dtype(dtype).type
    tolerance = {"float64": 1e-14, "float32": 1e-6}[dtype]
    margins = [0.0, 0.5, 1.0, 1.5, 1e-8, 1e-300, 20.0, 40.0, 88.0, 104.0, 709.0, 746.0, 1e4]
    for m, y in itertools.product([*margins, *(-m for m in margins)], [1.0, -1.0]):
        z = float(kind(m * y))
        for function in ("value", "slope", "curvature"):
            got = getattr(scalar, function)(int(LOSSES[loss]), kind(z), kind(y), kind(1))
            want = getattr(naive, function)(loss, z, y)
            largest = float(np.finfo(dtype).max)
            if loss == "exponential" and abs(want) > largest:
                assert math.isinf(got) and got * want > 0
                continue
            assert math.isfinite(got)
            assert got == pytest.approx(want, rel=tolerance * max(1, abs(z)), abs=float(np.finfo(dtype).tiny)), (m, y)
    for function in (scalar.value, scalar.slope):
        assert math.isnan(function(int(LOSSES[loss]), kind(math.nan), kind(1), kind(1)))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_softmax_at_any_score(dtype: str) -> None:
    tolerance = {"float64": 1e-13, "float32": 1e-5}[dtype]
    for z in ([0.0, 0, 0], [1e4, -1e4, 0], [-1e4, -1e4, 1e4], [1e4, 1e4, -1e4], [88.0, 90, 120], [1.0, 2, 3]):
        for y in range(3):
            slopes = np.array(z, dtype)
            value, right = scalar.softmax(slopes, y)
            assert right == (z[y] == max(z) and z.count(z[y]) == 1)
            assert value == pytest.approx(naive.value("softmax", z, y), rel=tolerance, abs=tolerance)
            np.testing.assert_allclose(slopes, naive.slope("softmax", np.array(z), y), rtol=tolerance, atol=tolerance)
    slopes = np.array([1.0, math.nan, 2.0], dtype)
    assert math.isnan(scalar.softmax(slopes, 0)[0])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("kernels", "loss"), STORAGES, ids=short)
def test_evaluate_at_large_margins(kernels: ModuleType, loss: str, dtype: str) -> None:
    case = make(kernels, loss, dtype, intercept=True, seed=7, scale=5e3)
    out, values = np.empty((2, case.dim), dtype), np.empty((2, 2))
    common = (case.shard, int(LOSSES[loss]), case.model.outputs, np.empty(8, dtype))
    kernels.evaluate(out, values, case.x[:1].copy(), *common, 0, 2)
    assert not np.isnan(values).any()
    if loss != "exponential":
        assert np.isfinite(values).all() and np.isfinite(out).all()
        if loss != "quadratic":
            assert (values[:, 0] >= 0).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kernels", [dense, sparse], ids=short)
@pytest.mark.parametrize("product", [1.0, 1.5, 2.0, 0.5, 0.999])
def test_strong_regularisation(kernels: ModuleType, dtype: str, product: float) -> None:
    """l2 · step_size of 1 forgets x, above 1 it changes sign; scales far beyond the range of the precision."""
    count = 40 if product > 1 else 300
    etas = np.full(count, 0.25, dtype)
    weights = np.stack([np.ones(count), np.arange(1.0, count + 1)], axis=1).astype(dtype)
    for shifted, batch in itertools.product([False, True], [1, 3]):
        case = make(kernels, "logistic", dtype, intercept=True, l2=product * 4, seed=8)
        shift = np.random.default_rng(9).standard_normal(case.x.shape).astype(dtype)
        args = (case, batch, False, shift if shifted else shift[:0], etas, weights)
        for got, want in zip(steps(*args), specified(*args), strict=True):
            close(got, want, TOLERANCE[dtype] * 5)


def test_many_steps_of_a_small_decay() -> None:
    """The lazy scale is folded in time: 3000 steps of 1 − 0.02 would leave 5e-27 of the start."""
    count = 3000
    etas, weights = np.full(count, 0.1), np.ones((count, 1))
    case = make(sparse, "squared", "float64", l2=0.2, seed=10)
    args = (case, 1, True, case.x[:0], etas, weights)
    for got, want in zip(steps(*args), specified(*args), strict=True):
        close(got, want, 1e-12)


def test_only_drawn_coordinates_are_touched() -> None:
    """Without l2, shift and sums a step on sparse rows writes to their non-zeros only, bit for bit."""
    features = 4000
    draw = np.random.default_rng(11)
    columns = np.sort(draw.choice(features, 12, replace=False)).astype(np.int32)
    values = draw.standard_normal(12)
    indptr, y = np.arange(0, 13, 3, dtype=np.int64), np.array([1.0, -1.0, 1.0, -1.0])
    shard = Sparse(values, columns, indptr, y, np.array([0], np.int64), np.array([4], np.int64), features)
    x = np.full((1, features), np.nan)  # whatever reads or writes elsewhere is seen
    x[0, ::2] = -0.0
    x[0, columns] = 0.1
    before = x.copy()
    sums, weights = np.empty((1, 0, features)), np.empty((20, 0))
    draws = Draws(np.uint64(1), 0, True, 2)
    work = (np.empty(8), np.empty(2, np.int64), np.empty((2, features)))
    rule = (int(Loss.LOGISTIC), 1, 0.0, np.full(20, 0.1), 0)
    sparse.sgd(x, x[:0], sums, weights, shard, draws, *rule, *work, 0, 1)
    others = np.setdiff1d(np.arange(features), columns)
    assert x[0, others].tobytes() == before[0, others].tobytes()
    assert (x[0, columns] != before[0, columns]).all()


@pytest.mark.parametrize("kernels", [dense, sparse], ids=short)
def test_threads_share_workers(kernels: ModuleType) -> None:
    """A call on some workers leaves the others alone, and gives the bits of a call on all."""
    case = make(kernels, "logistic", "float64", l2=0.1, seed=12)
    args = (case, 3, True, case.x[:0], np.full(5, 0.1), np.ones((5, 2)))
    whole, sums = steps(*args)
    for m in range(2):
        x, own = steps(*args, range_=(m, m + 1))
        assert x[m].tobytes() == whole[m].tobytes() and own[m].tobytes() == sums[m].tobytes()
        assert x[1 - m].tobytes() == case.x[1 - m].tobytes()


@pytest.mark.parametrize("kernels", [dense, sparse], ids=short)
def test_float32_stays_float32(kernels: ModuleType) -> None:
    """Numba types no variable of a float32 local step as float64, but for the sum of losses that it drops."""
    case = make(kernels, "logistic", "float32")
    f = np.float32
    draws = Draws(np.uint64(SEED), 0, False, 1)
    args = (case.x, case.x[:0].copy(), np.empty((2, 1, 9), f), np.empty((2, 1), f), case.shard, draws, 0, 1, f(0.1))
    args = (*args, np.zeros(2, f), 0, *scratch(case, 1), 0, 2)
    signature = tuple(numba.typeof(arg) for arg in args)
    compiled = numba.njit(kernels.sgd.py_func, error_model="numpy")
    compiled.compile(signature)
    (overload,) = compiled.overloads.values()
    types = {name: str(kind) for name, kind in overload.type_annotation.typemap.items() if "float64" in str(kind)}
    assert not [name for name, kind in types.items() if "array" in kind]
    assert all(name.startswith("add_rows") or "call" in name for name in types), types


def test_vectors() -> None:
    draw = np.random.default_rng(13)
    for dtype in ("float64", "float32"):
        x = draw.standard_normal((5, 103)).astype(dtype)
        center = draw.standard_normal(103)
        out = np.full(5, np.nan)
        vector.distances(x, center, out, 1, 5)
        want = [math.fsum((float(a) - c) ** 2 for a, c in zip(row, center, strict=True)) for row in x]
        np.testing.assert_allclose(out[1:], want[1:], rtol=1e-13)
        assert np.isnan(out[0])
        products = [float(a) * float(b) for a, b in zip(x[0], x[1], strict=True)]
        np.testing.assert_allclose(vector.dot(x[0], x[1]), math.fsum(products), atol=TOLERANCE[dtype])
