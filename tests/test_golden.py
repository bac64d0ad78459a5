"""What the papers say, as equations between runs: Stich (2019), Woodworth et al. (2020); and the bits of a run."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import h5py
import naive
import numpy as np
import pytest
from conftest import Launch
from helpers import config, rows_of, specify
from numpy.typing import NDArray

import mpilocal
from mpilocal.exact import SmallSum
from mpilocal.kernels.cpu import dense
from mpilocal.kernels.scalar import Loss
from mpilocal.kernels.shard import Dense, Draws
from mpilocal.threads import Threads

Array = NDArray[np.float64]
PAIRS = ["dense-logistic", "dense-softmax", "sparse-squared", "sparse-logistic", "quadratic", "dense-shared"]


def same(one: Array, other: Array, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * max(1.0, np.max(np.abs(other))))


def run(problem: str, **algorithm: Any) -> mpilocal.api.Result:
    return mpilocal.run(config(problem, "local-sgd", algorithm={"rounds": 12, "local_steps": 1, **algorithm}))


@pytest.mark.parametrize("sampling", ["replacement", "reshuffle"])
@pytest.mark.parametrize("problem", PAIRS)
def test_one_local_step_is_minibatch_sgd(problem: str, sampling: str) -> None:
    """H = 1: averaging iterates after one step is averaging gradients, by two code paths."""
    step = {"kind": "inverse-time", "scale": 1.0, "shift": 8.0}
    for batch in (1, 4, "all"):
        options = {"batch": batch, "step_size": step, "sampling": sampling}
        local, mini = (run(problem, **options, name=name) for name in ("local-sgd", "minibatch-sgd"))
        same(local.average, mini.average)
        for name in ("objective", "gradient_norm", "objective_uniform", "objective_linear", "objective_tail"):
            same(local.history[name], mini.history[name])


def test_one_shot_averaging_is_the_mean_of_independent_runs() -> None:
    """H = T: exactly the mean of what each worker does alone (Stich 2019, section 2: I_T = {T})."""
    count, steps = 5, 40
    table = config("dense-shared", "one-shot", algorithm={"local_steps": steps, "step_size": 0.1, "batch": 2})
    result = mpilocal.run(table)
    a, y, _, _ = rows_of(table["data"])
    rows = np.zeros((count, a.shape[1]))
    for m in range(count):
        shard = Dense(a, y, np.zeros(1, np.int64), np.array([len(y)], np.int64), np.zeros((0, 2, 0)))
        draws = Draws(np.uint64(table["run"]["seed"]), m, False, 2)
        x, sums, weights = np.zeros((1, a.shape[1])), np.zeros((1, 0, a.shape[1])), np.zeros((steps, 0))
        rule = (int(Loss.LOGISTIC), 1, table["problem"]["l2"], np.full(steps, 0.1), 0)
        scratch = (np.empty(8), np.empty(2, np.int64), np.empty((2, 8)))
        dense.sgd(x, x[:0], sums, weights, shard, draws, *rule, *scratch, 0, 1)
        rows[m] = x[0]
    mean = np.empty(a.shape[1])
    SmallSum(a.shape[1], count, Threads()).reduce(None, rows, np.ones(count), float(count), mean)
    assert result.average.tobytes() == mean.tobytes()
    same(result.average, naive.mean(list(rows), [1.0] * count))
    center = rows - mean
    assert result.history["consensus"][-1] == pytest.approx(np.sum(center**2) / count, rel=1e-12)


def test_bound_of_stich() -> None:
    """Theorem 2.2 holds for the quadratically weighted average:

    E F(x̂) − F* ≤ µ a³/(2 S_T) ‖x0 − x*‖² + 4 T (T + 2a)/(µ K S_T) σ² + 256 T/(µ² S_T) G² H² L.
    """
    workers, local_steps, rounds, l2 = 4, 5, 60, 0.1
    steps = local_steps * rounds
    data = {"source": "synthetic:classification", "options": {"rows": 60, "features": 6}, "partition": "shared"}
    gaps = []
    for seed in (1, 2, 3, 4):
        table = config(
            "dense-logistic",
            "local-sgd",
            data=data,
            problem={"l2": l2, "intercept": False},
            workers={"count": workers},
            algorithm={
                "rounds": rounds,
                "local_steps": local_steps,
                "batch": 1,
                "step_size": {"kind": "inverse-time"},
                "iterate_average": ["last", "quadratic"],
            },
            run={"seed": seed},
        )
        result = mpilocal.run(table)
        gaps.append(result.history["objective_quadratic"][-1])
    a, y, _, _ = rows_of(data)
    model, weights = naive.Model("logistic", l2), np.full(len(y), 1 / len(y))
    best = newton(model, a, y, weights)
    gap = float(np.mean(gaps)) - naive.objective(model, a, y, weights, best)
    smoothness = 0.25 * float(np.linalg.eigvalsh(a.T @ a)[-1]) / len(y) + l2
    shift = max(16 * 1.02 * smoothness / l2, local_steps)  # κ from an upper estimate of L: by a per cent or two
    total = steps / 6 * (2 * steps**2 + 6 * shift * steps - 3 * steps + 6 * shift**2 - 6 * shift + 1)
    # G² and σ² over the segment from x0 = 0 to x*, near which the iterates stay.
    second, variance = 0.0, 0.0
    for point in (np.zeros_like(best), best / 2, best):
        each = [naive.row_gradient(model, row, label, point) + l2 * point for row, label in zip(a, y, strict=True)]
        second = max(second, float(np.mean([np.sum(g * g) for g in each])))
        variance = max(variance, float(np.mean([np.sum((g - np.mean(each, axis=0)) ** 2) for g in each])))
    bound = l2 * shift**3 / (2 * total) * float(np.sum(best**2))
    bound += 4 * steps * (steps + 2 * shift) / (l2 * workers * total) * variance
    bound += 256 * steps / (l2**2 * total) * second * local_steps**2 * smoothness
    assert 0 < gap < 0.5 * bound


def newton(model: naive.Model, a: Array, y: Array, weights: Array) -> Array:
    """The minimiser of a smooth strongly convex objective."""
    x = np.zeros((1, a.shape[1]))
    for _ in range(30):
        columns = [naive.hessian_product(model, a, y, weights, x, v[None]).ravel() for v in np.eye(a.shape[1])]
        x = x - np.linalg.solve(np.array(columns), naive.gradient(model, a, y, weights, x).ravel())[None]
    assert np.linalg.norm(naive.gradient(model, a, y, weights, x)) < 1e-12
    return x


def test_quadratics_do_not_see_the_interval() -> None:
    """With equal curvature and additive noise the mean iterate is the same for every H."""
    for step in (0.3, {"kind": "inverse-sqrt", "scale": 0.5}):
        every = run("quadratic", rounds=16, step_size=step, batch=2)
        for local_steps in (2, 8, 16):
            options = {"rounds": 16 // local_steps, "local_steps": local_steps, "step_size": step, "batch": 2}
            result = run("quadratic", **options)
            same(result.average, every.average)
            for name in ("objective_uniform", "objective_quadratic", "objective_tail"):
                same(result.history[name][-1:], every.history[name][-1:])
    hinged = [run("dense-logistic", rounds=16 // h, local_steps=h, step_size=0.3).average for h in (1, 16)]
    assert np.max(np.abs(hinged[0] - hinged[1])) > 1e-4  # which is not so for other losses


@pytest.mark.parametrize("problem", PAIRS)
def test_inner_and_outer_step_sizes(problem: str) -> None:
    """η_in = 0 is minibatch SGD with step H η_out; η_in = η_out is Local SGD (Woodworth et al. 2020)."""
    steps, eta = 4, 0.05
    options = {"rounds": 6, "local_steps": steps, "batch": 2}
    outer = run(problem, **options, step_size=eta, inner_step_size=0.0)
    mini = run(problem, **options, step_size=steps * eta, name="minibatch-sgd")
    same(outer.average, mini.average)
    same(outer.history["objective"], mini.history["objective"])
    equal = run(problem, **options, step_size=eta, inner_step_size=eta)
    local = run(problem, **options, step_size=eta)
    same(equal.average, local.average)
    same(equal.history["objective"], local.history["objective"])
    nearly = run(problem, **options, step_size=eta, inner_step_size=1e-7)
    same(nearly.average, outer.average, 1e-5)


def test_server_step_of_one_is_none() -> None:
    """η_g = 1 + ulp is the other code path: it agrees with the average itself."""
    options = {"rounds": 6, "local_steps": 3, "step_size": 0.1}
    other = run("sparse-logistic", **options, server_step_size=1 + 2**-52)
    same(other.average, run("sparse-logistic", **options).average)


def test_thumb_twiddling_ignores_the_interval() -> None:
    runs = [run("sparse-logistic", local_steps=h, batch=3, step_size=0.1, name="thumb-twiddling") for h in (1, 7)]
    assert runs[0].average.tobytes() == runs[1].average.tobytes()
    same(runs[0].average, run("sparse-logistic", batch=3, step_size=0.1, name="minibatch-sgd").average)


def test_reshuffled_epoch_of_one_worker_sees_every_row_once() -> None:
    """With a step so small that x stays, an epoch of single rows is one full gradient."""
    table = config("dense-logistic", "one-shot", workers={"count": 1})
    options = {"local_steps": 23, "batch": 1, "step_size": 1e-9, "sampling": "reshuffle", "iterate_average": "last"}
    table["algorithm"] = {**table["algorithm"], **options}
    spec = specify(table)
    want = -1e-9 * 23 * spec.gradient(np.zeros((1, 7)))
    same(mpilocal.run(table).average * 1e9, want.ravel() * 1e9, 1e-6)


BITS = {
    "local": ("dense-logistic", "reshuffle", {"workers": {"count": 7}}),
    "softmax": ("sparse-softmax", "local-sgd", {"workers": {"count": 4, "weights": "uniform"}}),
    "shared": ("sparse-shared", "inner-outer", {"workers": {"count": 5}}),
    "single": ("dense-squared", "server", {"run": {"dtype": "float32"}}),
    "many": ("sparse-logistic", "local-sgd", {"workers": {"count": 90}, "algorithm": {"iterate_average": "last"}}),
    "kept": ("sparse-logistic", "growing", {"workers": {"count": 90}}),
    "minibatch": ("quadratic", "minibatch-growing", {"workers": {"count": 6}}),
    "period": ("dense-logistic", "local-sgd", {"workers": {"count": 5}}),
}
THREADED = ("local", "many", "minibatch")
LAUNCHED = """
import json, sys
from mpi4py import MPI
import mpilocal
out, tables = sys.argv[1], json.loads(sys.argv[2])
for name, table in tables.items():
    mpilocal.run(table, comm=MPI.COMM_WORLD, output=f"{out}/{name}")
"""


def contents(path: Path) -> dict[str, Any]:
    """Every dataset and attribute of a file outside /timings, as bytes."""
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if name.split("/")[0] == "timings":
            return
        attributes = {k: v for k, v in item.attrs.items() if "REFERENCE" not in k and "DIMENSION" not in k}
        found[name] = (item.dtype, item.shape, item[()].tobytes()) if isinstance(item, h5py.Dataset) else None
        found[f"{name}@"] = {k: str(v) for k, v in attributes.items()}

    with h5py.File(path, "r", locking=False) as file:
        file.visititems(visit)
    return found


@pytest.mark.slow
def test_the_same_bits_on_any_ranks_and_threads(tmp_path: Path, mpiexec: Launch) -> None:
    """x̄ of every round, the history outside /timings, and the checkpoints, on 1 to 4 ranks of 1 and 2 threads."""
    tables = {}
    for name, (problem, method, sections) in BITS.items():
        table = config(problem, method, **sections, output={"iterates": True, "checkpoint_every": 3})
        if name in ("many", "kept"):
            table["data"] = {**table["data"], "options": {**table["data"]["options"], "rows": 200}}
        if name == "period":
            table["levels"] = [{"group": "world", "period": 3}]
        for threads in (1, 2) if name in THREADED else (1,):
            tables[f"{name}-{threads}"] = {**table, "run": {**table["run"], "threads": threads}}
    for ranks in (1, 2, 3, 4):
        done = mpiexec(ranks, "-c", LAUNCHED, str(tmp_path / str(ranks)), json.dumps(tables), module=None, timeout=240)
        assert done.returncode == 0, done.stderr
    for name, ranks in itertools.product(tables, (1, 2, 3, 4)):
        first = tmp_path / "1" / f"{name.partition('-')[0]}-1"
        files = sorted(str(path.relative_to(first)) for path in first.rglob("*.h5"))
        assert "history.h5" in files and "iterates.h5" in files and len(files) > 3
        other = tmp_path / str(ranks) / name
        assert sorted(str(path.relative_to(other)) for path in other.rglob("*.h5")) == files
        for file in files:
            assert contents(other / file) == contents(first / file), (name, ranks, file)


@pytest.mark.parallel([2, 3])
def test_the_plain_reduction_over_ranks() -> None:
    """`allreduce` differs from `exact` by rounding."""
    from mpi4py import MPI

    for problem, method in (("dense-logistic", "local-sgd"), ("sparse-squared", "minibatch")):
        exact = mpilocal.run(config(problem, method), comm=MPI.COMM_WORLD)
        plain = mpilocal.run(config(problem, method, run={"reduction": "allreduce"}), comm=MPI.COMM_WORLD)
        same(plain.average, exact.average)
        same(plain.history["objective"], exact.history["objective"])
        alone = mpilocal.run(config(problem, method))
        assert alone.average.tobytes() == exact.average.tobytes()
        assert math.isfinite(exact.history["objective"][-1])
