"""Every compiled kernel against `naive`, for every loss, storage, precision and way to sample."""

from __future__ import annotations

import itertools
import math
from types import ModuleType
from typing import Any

import naive
import naive_methods
import numpy as np
import pytest
from kernel_cases import (
    FIRST_WORKER,
    KEPT,
    LOSSES,
    SEED,
    STORAGES,
    TOLERANCE,
    close,
    make,
    scratch,
    short,
    specified,
    steps,
)
from numpy.typing import NDArray

from mpilocal.algorithms.recursions import AcSa, FedAc, Stage
from mpilocal.exact import StreamSum
from mpilocal.kernels.cpu import dense, sparse, vector
from mpilocal.kernels.shard import Draws
from mpilocal.threads import Threads


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
        squares = np.empty((2, 1))
        kernels.square_norms(squares, point, *common, 0, 2)
        only = np.empty((2, 1))
        kernels.losses(only, point, *common, 0, 2)
        for m, worker in enumerate(case.workers):
            each = np.ones(len(worker.y))
            rows = (model._replace(ridge=None), worker.a, worker.y, each)
            close(values[m, :1], np.array([naive.objective(*rows, x)]), TOLERANCE[dtype])
            close(out[m], naive.gradient(*rows, x).ravel(), TOLERANCE[dtype])
            gradients = [naive.row_gradient(model, row, y, x) for row, y in zip(worker.a, worker.y, strict=True)]
            close(only[m], np.array([naive.objective(*rows, x)]), TOLERANCE[dtype])
            close(squares[m], np.array([np.sum(np.square(gradients))]), TOLERANCE[dtype])
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
@pytest.mark.parametrize(("kernels", "loss"), STORAGES, ids=short)
def test_accelerated_steps(kernels: ModuleType, loss: str, dtype: str) -> None:
    """The recursions of the papers, over restarts and long enough for the two sequences to be nearly one."""
    case = make(kernels, loss, dtype, seed=7)
    known = [(AcSa(mu, [Stage(0, 3.0), Stage(9, 8.0)]), [(9, 3.0), (50, 8.0)], mu) for mu in (0.0, 0.1)]
    both: list[tuple[Any, Any]] = [(rule, naive_methods.multi_stage(*stages)) for rule, *stages in known]
    for coefficients in ((0.1, 0.5, 20.0, 21.0), (0.05, 0.05, 1.5, 4.0)):
        step = naive_methods.fedac(*coefficients)
        both.append((FedAc(*coefficients), lambda t, step=step: step))
    options = itertools.product(both, [0.0, 0.3], [False, True], [1, 3, "all"], [False, True])
    for (rule, step_at), l2, intercept, batch, reshuffle in options:
        scale = 0.3 if loss == "exponential" else 1
        case = make(kernels, loss, dtype, intercept=intercept, l2=l2, seed=1, scale=scale)
        size = 0 if batch == "all" else int(batch)
        first, last = 4, 18
        x, v = case.x.copy(), case.x[::-1].copy()
        draws = Draws(np.uint64(SEED), FIRST_WORKER, reshuffle, size)
        kind = (int(LOSSES[loss]), case.model.outputs, case.dtype.type(l2), first)
        table = rule(first, last).astype(dtype)
        work = (*scratch(case, size)[:2], np.empty((2, case.dim), dtype))
        kernels.accelerated(x, v, table, case.shard, draws, *kind, *work, 0, 2)
        for m, worker in enumerate(case.workers):
            sampling = naive.Sampling(SEED, batch, reshuffle)
            want = case.matrix(case.x[m]), case.matrix(case.x[1 - m])
            for t in range(first, last):
                gradient = naive_methods.gradient(case.of(m), sampling, [worker._replace(weight=1.0)], t, 1)
                want = step_at(t)(gradient, *want)
            close(x[m], want[0].ravel(), 4 * TOLERANCE[dtype])
            close(v[m], want[1].ravel(), 4 * TOLERANCE[dtype])


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


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kernels", [dense, sparse], ids=short)
def test_streamed_steps(kernels: ModuleType, dtype: str) -> None:
    """Iterates that are summed and forgotten give the bits of the sum of kept ones, however many are held at once."""
    case = make(kernels, "logistic", dtype, intercept=True, seed=14)
    count, dim, start = 7, case.dim, case.x[:1]
    begin = 3 * np.arange(count)
    shard = case.shard._replace(begin=begin, end=begin + 5)
    none, weights = case.x[:0], np.empty((4, 0), dtype)
    draws = Draws(np.uint64(SEED), FIRST_WORKER, False, 2)
    rule = (shard, draws, int(LOSSES["logistic"]), 1, case.dtype.type(0.1), np.full(4, 0.3, dtype), 7)
    kept = np.repeat(start, count, axis=0)
    kernels.sgd(kept, none, np.empty((count, 0, dim)), weights, *rule, *scratch(case, 2), 0, count)
    assert len(np.unique(kept, axis=0)) == count
    distances = np.sum((kept.astype(np.float64) - start) ** 2, axis=1)
    scale = np.linspace(0.5, 1.0, count)
    want = StreamSum(dim, count, Threads(1))
    want.add(kept, scale)
    for group in (1, 3, 16):
        got, out = StreamSum(dim + 1, count, Threads(1)), np.empty(dim + 1)
        held = (scale, got.width, np.full((group, dim), np.nan, dtype), np.full((group, dim + 1), np.nan))
        own = (*held, *scratch(case, 2), got.tops, got.limbs, *got.scratch[0])
        for first, last in ((2, count), (0, 2)):
            kernels.sgd_streamed(start, none, np.empty((group, 0, dim)), weights, *rule, *own, first, last)
        assert got.tops[:dim].tobytes() == want.tops.tobytes()
        assert got.limbs[:, :dim].tobytes() == want.limbs.tobytes()
        got.reduce(None, 1.0, out)
        np.testing.assert_allclose(out[dim], scale @ distances, rtol=1e-13)


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
