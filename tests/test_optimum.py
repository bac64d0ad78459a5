"""F* on request: against closed forms, other solvers and golden values; certificates; minima that are not attained."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optimum_helpers import Find, find_fixture, made_of, saved  # noqa: F401  (a fixture)

from mpilocal import optimum
from mpilocal.errors import ConfigError
from mpilocal.optimum import cache as optimum_cache
from mpilocal.optimum import loose_bound
from mpilocal.optimum import solve as optimum_solve

CUSTOM = """
import math


def value(z, y, one):
    return math.log1p(math.exp(-abs(z * y))) + max(-z * y, one - one)


def slope(z, y, one):
    return -y / (one + math.exp(z * y))


class plain:
    value, slope = value, slope


class curved(plain):
    curvature = lambda z, y, one: math.exp(-abs(z)) / (one + math.exp(-abs(z))) ** 2
"""


def regression(rows: int = 50, features: int = 6) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(5)
    a = draw.standard_normal((rows, features)) * 10.0 ** np.arange(features)
    a[:, -1] = 0  # a column that no row uses
    a[:, -2] = a[:, 0]
    return a, draw.standard_normal(rows)


@pytest.mark.parametrize("weights", ["samples", "uniform"])
@pytest.mark.parametrize("l2", [0.0, 0.5])
def test_squared_has_the_closed_form(find: Find, tmp_path: Path, l2: float, weights: str) -> None:
    a, y = regression()
    found = find(saved(tmp_path, a, y), "squared", l2=l2, workers={"weights": weights})
    sizes = np.array([17, 17, 16])
    c = np.repeat(1 / (3 * sizes), sizes) if weights == "uniform" else np.full(50, 1 / 50)
    root = np.sqrt(c)[:, None]
    stacked = np.vstack([root * a, math.sqrt(l2) * np.eye(a.shape[1])])
    x = np.linalg.lstsq(stacked, np.concatenate([root[:, 0] * y, np.zeros(a.shape[1])]), rcond=1e-14)[0]
    expected = 0.5 * float(c @ (a @ x - y) ** 2) + 0.5 * l2 * float(x @ x)
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert found.attained and found.gradient_norm <= 1e-10
    assert math.isnan(found.dual) == (l2 == 0)
    assert ("l2 = 0" in found.note) == (l2 == 0)


def test_quadratic_has_the_closed_form(find: Find) -> None:
    options = {"rows": 60, "features": 5, "mu": 0.01, "seed": 3}
    found = find("synthetic:quadratic", "quadratic", l2=0.1, options=options)
    prepared = made_of("synthetic:quadratic", "quadratic", options=options)
    b, h = prepared.problem.shard.a.mean(axis=0), prepared.problem.shard.ridge[0, 0] + 0.1
    assert found.value == pytest.approx(-0.5 * float(np.sum(b * b / h)), rel=1e-13)
    assert found.dual <= found.value and found.value - found.dual < 1e-15


@pytest.mark.parametrize("intercept", [False, True])
def test_logistic_agrees_with_scikit_learn(find: Find, intercept: bool) -> None:
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression

    a, y = load_breast_cancer(return_X_y=True)
    a = (a - a.mean(axis=0)) / a.std(axis=0)
    found = find("sklearn:breast_cancer", l2=1e-2, intercept=intercept, options={"standardize": True})
    theirs = LogisticRegression(C=100 / len(y), fit_intercept=intercept, solver="newton-cholesky", tol=1e-12).fit(a, y)
    x = theirs.coef_[0]
    margins = np.where(y > 0, 1, -1) * (a @ x + theirs.intercept_)
    assert found.value == pytest.approx(np.logaddexp(0, -margins).mean() + 0.005 * float(x @ x), rel=1e-12)
    assert math.isnan(found.dual) == intercept
    assert ("intercept is not regularised" in found.note) == intercept


@pytest.mark.parametrize("loss", ["squared-hinge", "smooth-hinge", "exponential", "softmax"])
def test_other_losses_reach_the_target(find: Find, loss: str) -> None:
    found = find("sklearn:breast_cancer", loss, l2=1e-3)
    assert found.gradient_norm <= 1e-10 and found.attained and not found.note
    assert 0 <= found.value - found.dual <= 1e-15


@pytest.mark.parametrize("loss", ["logistic", "exponential", "softmax", "squared-hinge", "smooth-hinge"])
@pytest.mark.parametrize("source", ["synthetic:separable", "sklearn:breast_cancer"])
def test_separable_rows_have_the_infimum_0(find: Find, loss: str, source: str) -> None:
    flat = loss.endswith("hinge")
    for _ in range(2):  # solved, then kept
        found = find(source, loss, says="" if flat else "inf F = 0 is not attained")
        assert (found.value, found.dual, found.attained) == (0.0, 0.0, flat)
    assert "separable" in found.facts()["optimum_note"]


@pytest.mark.parametrize("loss", ["logistic", "exponential"])
def test_rows_separable_in_part(find: Find, tmp_path: Path, loss: str) -> None:
    # The rows with a second feature have one label; of the first, the optimum is known: log odds 1/2 and its like.
    a = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1], [0, 2]])
    y = np.array([1.0, 1, -1, 1, 1])
    found = find(saved(tmp_path, a, y), loss, says="the minimum is not attained")
    p = 2 / 3
    expected = -3 / 5 * (p * math.log(p) + (1 - p) * math.log(1 - p)) if loss == "logistic" else 2 * math.sqrt(2) / 5
    assert found.value == pytest.approx(expected, abs=1e-9) and found.value >= expected
    assert not found.attained and math.isnan(found.dual)


DUAL: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {  # ℓ'(z; y) and ℓ*(u; y)
    "logistic": (
        lambda z, y: -y / (1 + np.exp(y * z)),
        lambda u, y: -u * y * np.log(-u * y) + (1 + u * y) * np.log1p(u * y),
    ),
    "squared": (lambda z, y: z - y, lambda u, y: u * u / 2 + u * y),
    "squared-hinge": (lambda z, y: -2 * y * np.maximum(0, 1 - y * z), lambda u, y: u * u / 4 + u * y),
}


@pytest.mark.parametrize("loss", DUAL)
def test_the_bound_is_the_dual_value(loss: str) -> None:
    # D(u) = −Σ c ℓ*(u) − ‖Σ c u a‖²/(2 l2) at u = ℓ'(⟨a, x⟩) is F(x) − ‖∇F(x)‖²/(2 l2), at any x.
    prepared = made_of("sklearn:breast_cancer", loss, l2=0.3, options={"standardize": True})
    problem = prepared.problem
    a, y = problem.shard.a, problem.shard.y
    x = np.random.default_rng(1).standard_normal(problem.dim) / 10
    z = a @ x
    slope, conjugate = DUAL[loss]
    u = slope(z, y)
    s = a.T @ u / len(y)
    dual = -float(np.mean(conjugate(u, y))) - float(s @ s) / 0.6
    value = problem.evaluate(x)
    assert value.objective - value.gradient_norm**2 / 0.6 == pytest.approx(dual, rel=1e-12)
    solution = optimum_solve.Solution(x, value.objective, value.gradient_norm, True, "", 0, 0)
    assert optimum._certified(problem, solution)[0] == pytest.approx(dual, rel=1e-12)
    assert value.objective - dual == pytest.approx(loose_bound(value.gradient_norm, 0.3), rel=1e-12)


def test_float32_is_solved_in_float64_on_the_rounded_data(find: Find, tmp_path: Path) -> None:
    a, y = regression()
    for table in (np.asarray(a), np.asarray(a) * (np.random.default_rng(0).random(a.shape) < 0.5)):
        source = saved(tmp_path, table, y)
        narrow = find(source, "squared", l2=0.1, run={"dtype": "float32"})
        rounded = saved(tmp_path, table.astype(np.float32).astype(float), y.astype(np.float32).astype(float))
        wide = find(rounded, "squared", l2=0.1)
        assert narrow.gradient_norm <= 1e-10
        assert narrow.value == pytest.approx(wide.value, rel=1e-15)


def test_a_given_number_and_none(find: Find) -> None:
    assert find("synthetic:separable", optimum=0.25).facts() == {"optimum": 0.25}
    assert find("synthetic:separable", optimum=None).facts() == {}
    assert math.isnan(find("synthetic:separable", optimum=None).value)
    assert loose_bound(2.0, 0.5) == 4.0 and loose_bound(1.0, 0.0) == math.inf


def test_a_spent_effort_is_said(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpilocal.optimum.search.PRODUCTS", 30)
    found = find("sklearn:breast_cancer", l2=1e-3, says="stopped after 30 Hessian products; ‖∇F‖ = ")
    assert found.gradient_norm > 1e-10 and found.dual < found.value < math.log(2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "curved"])
def test_a_loss_of_the_users_own(find: Find, tmp_path: Path, name: str) -> None:
    draw = np.random.default_rng(2)
    source = saved(tmp_path, draw.standard_normal((90, 4)), np.where(draw.random(90) < 0.5, 1.0, -1.0))
    (tmp_path / "loss.py").write_text(CUSTOM)
    built_in = find(source, l2=0.01)
    found = find(source, f"loss.py:{name}", l2=0.01, folder=tmp_path)
    assert found.value == pytest.approx(built_in.value, rel=1e-14) and math.isnan(found.dual)
    assert "only if the loss is convex" in found.note
    assert ("has no curvature" in found.note) == (name == "plain")


@pytest.mark.parallel([1, 2, 3])
def test_ranks_agree_in_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    easy = {"l2": 0.1, "options": {"standardize": True}}  # few products, each of which waits for all ranks
    cases: list[tuple[str, str, dict[str, Any]]] = [
        ("sklearn:breast_cancer", "logistic", {**easy, "workers": {"count": 5, "weights": "uniform"}}),
        ("synthetic:classification", "softmax", {"l2": 0.1, "options": {"density": 0.3}, "run": {"dtype": "float32"}}),
        ("synthetic:separable", "smooth-hinge", {}),
        ("synthetic:quadratic", "quadratic", {}),
    ]
    for source, loss, more in cases:
        found = []
        for folder, ranks in (("alone", MPI.COMM_SELF), ("together", comm), ("together", comm)):
            if ranks is MPI.COMM_SELF and comm.rank > 0:
                continue
            monkeypatch.setattr(optimum_cache, "user_cache", lambda folder=folder: tmp_path / folder)
            prepared = made_of(source, loss, ranks, **{**more})
            found.append(optimum.find(prepared, ranks, lambda text: pytest.fail(text))[0])
            prepared.close()
        assert all(len(set(comm.allgather(one))) == 1 for one in found[-2:])
        assert len({one._replace(dual=one.dual if one.dual == one.dual else None) for one in found}) == 1
    if comm.rank == 0:
        kept = [sorted((tmp_path / folder / "optima").iterdir()) for folder in ("alone", "together")]
        assert [path.name for path in kept[0]] == [path.name for path in kept[1]] and len(kept[0]) == 2 * len(cases)
        assert [path.read_bytes() for path in kept[0]] == [path.read_bytes() for path in kept[1]]

    def fail(search: Any) -> None:
        search.evaluate(np.zeros(search.problem.dim))
        raise ConfigError("the solver failed")

    monkeypatch.setattr(optimum_solve, "_minimise", fail)
    with pytest.raises(ConfigError, match="the solver failed"):
        optimum.find(made_of("sklearn:breast_cancer", comm=comm, l2=0.5), comm, lambda text: None)


@pytest.mark.parametrize(("name", "features", "l2", "expected"), [
    ("w8a", 300, "1/n", 0.126180686510513),
    ("a9a", 123, 1e-2, 0.3727237468639262),
    ("a9a", 123, 1e-3, 0.3333407520687161),
    ("a9a", 123, 1e-4, 0.3245069247137570),
])  # fmt: skip
def test_golden(find: Find, data: Path, name: str, features: int, l2: Any, expected: float) -> None:
    found = find(str(data / "libsvm" / f"{name}.gz"), l2=l2, features=features)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.gradient_norm <= 1e-10 and 0 <= found.value - found.dual < 1e-14
