"""Kernels at their limits: huge margins, strong regularisation, long rounds, sparse rows, single precision."""

from __future__ import annotations

import itertools
import math
from types import ModuleType

import naive
import numba
import numpy as np
import pytest
from kernel_cases import LOSSES, ONE, SEED, STORAGES, TOLERANCE, close, make, scratch, short, specified, steps

from mpilocal.kernels import scalar
from mpilocal.kernels.cpu import dense, sparse
from mpilocal.kernels.scalar import Loss
from mpilocal.kernels.shard import Draws, Sparse


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


@pytest.mark.slow
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
def test_float32_stays_float32(kernels: ModuleType) -> None:
    """Numba types no variable of a float32 local step as float64, but for the sum of losses that it drops."""
    case = make(kernels, "logistic", "float32")
    f = np.float32
    draws = Draws(np.uint64(SEED), 0, False, 1)
    args = (case.x, case.x[:0].copy(), np.empty((2, 1, 9)), np.empty((2, 1)), case.shard, draws, 0, 1, f(0.1))
    args = (*args, np.zeros(2, f), 0, *scratch(case, 1), 0, 2)
    signature = tuple(numba.typeof(arg) for arg in args)
    compiled = numba.njit(kernels.sgd.py_func, error_model="numpy")
    compiled.compile(signature)
    (overload,) = compiled.overloads.values()
    types = {name: str(kind) for name, kind in overload.type_annotation.typemap.items() if "float64" in str(kind)}
    # The averages of the iterates are kept in float64, or a long float32 sum would stand still.
    kept = ("sums", "weights", "weighted", "drifted")
    assert not [name for name, kind in types.items() if "array" in kind and not any(one in name for one in kept)]
    inlined = ("add_rows", "fold")  # the sum of losses that it drops, and the sums again
    named = {name for name in types if name.isidentifier() and not name.startswith(inlined)}
    assert {name for name in named if not any(one in name for one in kept)} <= {"w", "back"}, types
