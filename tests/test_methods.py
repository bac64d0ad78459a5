"""Every method on every problem against `naive`, and what the methods share."""

from __future__ import annotations

from typing import Any

import helpers
import naive
import numpy as np
import pytest
from helpers import METHODS, PROBLEMS, config, specify

import mpilocal
from mpilocal.api import Result
from mpilocal.errors import ConfigError


def agrees(result: Result, spec: helpers.Spec, tolerance: float) -> None:
    """The history and x̄ are those of the specification, relative to the largest number of each."""
    history = result.history

    def close(got: Any, want: Any) -> None:
        want = np.asarray(want)
        assert np.max(np.abs(got - want)) <= tolerance * max(1.0, np.max(np.abs(want)))

    close(result.average, spec.rounds[-1].x.ravel())
    close(history["objective"], [spec.objective(one.x) for one in spec.rounds])
    close(history["gradient_norm"], [np.linalg.norm(spec.gradient(one.x)) for one in spec.rounds])
    close(history["consensus"], [one.consensus for one in spec.rounds])
    for name, weight in spec.averages.items():
        points = [naive.average_of(one.visits, weight, one.x) for one in spec.rounds]
        close(history[f"objective_{name}"], [spec.objective(point) for point in points])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_as_specified(problem: str, method: str) -> None:
    table = config(problem, method)
    agrees(mpilocal.run(table), specify(table), 1e-12)


@pytest.mark.parametrize("method", ["local-sgd", "local-gd", "server", "inner-outer", "minibatch"])
@pytest.mark.parametrize("problem", ["dense-logistic", "dense-softmax", "sparse-logistic", "sparse-squared"])
def test_float32(problem: str, method: str) -> None:
    table = config(problem, method, run={"dtype": "float32"})
    agrees(mpilocal.run(table), specify(table), 3e-5)


@pytest.mark.parametrize("method", ["local-sgd", "minibatch", "inner-zero"])
@pytest.mark.parametrize("problem", ["dense-logistic", "sparse-squared-hinge"])
def test_the_plain_reduction_differs_by_rounding_only(problem: str, method: str) -> None:
    table = config(problem, method, run={"reduction": "allreduce"})
    agrees(mpilocal.run(table), specify(table), 1e-12)


@pytest.mark.parametrize("partition", ["contiguous", "shared"])
@pytest.mark.parametrize(
    ("method", "average"),
    [
        ("local-sgd", "last"),
        ("local-sgd", "uniform"),
        ("server", "last"),
        ("inner-outer", "last"),
        ("minibatch", "tail"),
    ],
)
def test_more_workers_than_one_limb_carries(partition: str, method: str, average: str) -> None:
    data = {"source": "synthetic:classification", "options": {"rows": 150, "features": 4, "density": 0.6}}
    table = config(
        "sparse-logistic",
        method,
        data={**data, "partition": partition},
        workers={"count": 70},
        algorithm={"iterate_average": average, "rounds": 3},
        run={"threads": 2},
    )
    agrees(mpilocal.run(table), specify(table), 1e-12)


@pytest.mark.parametrize("problem", ["dense-logistic", "sparse-squared"])
def test_a_longer_period_is_a_longer_round(problem: str) -> None:
    """Averaging every second round of 3 steps is averaging every round of 6."""
    often = mpilocal.run(config(problem, "local-sgd", algorithm={"local_steps": 6, "rounds": 2}))
    table = config(problem, "local-sgd", algorithm={"local_steps": 3, "rounds": 4})
    seldom = mpilocal.run({**table, "levels": [{"group": "world", "period": 2}]})
    np.testing.assert_allclose(seldom.average, often.average, rtol=0, atol=1e-13)
    for name in ("objective", "objective_uniform", "objective_quadratic", "consensus"):
        np.testing.assert_allclose(seldom.history[name][[0, 2, 4]], often.history[name], rtol=0, atol=1e-13)
    assert seldom.history["level1/averagings"].tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("problem", ["dense-logistic", "sparse-logistic", "quadratic"])
@pytest.mark.parametrize("local_steps", [1, 5])
def test_one_worker_is_sgd(problem: str, local_steps: int) -> None:
    """Bit for bit: the iterates, their averages and what is measured."""
    options = {"local_steps": local_steps, "rounds": 4, "sampling": "reshuffle"}
    one = mpilocal.run(config(problem, "local-sgd", workers={"count": 1}, algorithm=options))
    sgd = mpilocal.run(config(problem, "local-sgd", workers={"count": 1}, algorithm={**options, "name": "sgd"}))
    assert one.average.tobytes() == sgd.average.tobytes()
    for name, column in one.history.items():
        if not name.startswith(("timings/", "level")):
            assert column.tobytes() == sgd.history[name].tobytes(), name


def test_sgd_is_one_worker() -> None:
    with pytest.raises(ConfigError, match="workers.count = 1"):
        mpilocal.run(config("dense-logistic", "local-sgd", algorithm={"name": "sgd"}))


@pytest.mark.parametrize("name", ["minibatch-sgd", "thumb-twiddling"])
def test_gradients_are_averaged_in_every_round(name: str) -> None:
    table = config("dense-logistic", "local-sgd", algorithm={"name": name})
    with pytest.raises(ConfigError, match=r"period"):
        mpilocal.run({**table, "levels": [{"group": "world", "period": 2}]})


@pytest.mark.parametrize("method", METHODS)
def test_counts(method: str) -> None:
    """Steps, samples and the ledger are closed forms in M, each worker counted as a machine."""
    table = config("dense-logistic", method)
    options, rounds = METHODS[method], METHODS[method]["rounds"]
    history = mpilocal.run(table).history
    bounds = np.array(naive.bounds(options.get("local_steps", 1), rounds))
    one_step = options.get("name", "").startswith(("minibatch", "thumb-twiddling"))
    vectors = 2 if options.get("name") in ("local-ac-sa", "fedac") else 1
    assert history["step"].tolist() == (list(range(rounds + 1)) if one_step else bounds.tolist())
    batch, rows, workers, dim = options.get("batch", 1), 23, 3, 7
    each = rows if batch == "all" else batch * workers
    if batch == "all" and one_step:
        assert history["samples"].tolist() == [r * rows for r in range(rounds + 1)]
    elif options.get("name") == "thumb-twiddling":
        assert history["samples"].tolist() == [r * each for r in range(rounds + 1)]
    else:
        assert history["samples"].tolist() == (bounds * each).tolist()
    assert history["level1/averagings"].tolist() == [vectors * r for r in range(rounds + 1)]
    assert history["level1/vectors"].tolist() == [vectors * workers * r for r in range(rounds + 1)]
    assert history["level1/bytes"].tolist() == [vectors * 8 * dim * workers * r for r in range(rounds + 1)]
