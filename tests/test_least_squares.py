"""Linear regression over a known law: the excess risk, the closed forms, constant-step SGD (Zou et al. 2021)."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

import mpilocal
from mpilocal.data.synthetic import Synthetic
from mpilocal.errors import ConfigError

LAW = {"rows": 60, "features": 9, "seed": 3, "spectrum": "i^-2", "noise": 0.5}


def config(law: dict[str, Any], **algorithm: Any) -> dict[str, Any]:
    return {
        "data": {"source": "synthetic:regression", "options": law},
        "problem": {"loss": "squared"},
        "workers": {"count": 3},
        "algorithm": {"rounds": 2, "step_size": 0.1, **algorithm},
        "output": {"risk": True},
        "run": {"threads": 1},
    }


def rows_of(law: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    source = Synthetic("regression", law)
    rows = source.read(0, source.total)
    return np.array(rows.dense), rows.labels, source.extra


@pytest.mark.parallel([1, 3])
def test_closed_form() -> None:
    """The normal equations where there are more rows than features, the shortest solution where there are fewer."""
    for l2, features in itertools.product([0.0, 0.05], [9, 90]):
        law = {**LAW, "features": features}
        table = config(law, name="least-squares")
        table["problem"]["l2"] = l2
        result = mpilocal.run(table, comm=MPI.COMM_WORLD)
        a, y, known = rows_of(law)
        n = len(y)
        want = np.linalg.pinv(a.T @ a / n + l2 * np.eye(features), rcond=1e-12) @ a.T @ y / n
        np.testing.assert_allclose(result.average, want, rtol=0, atol=1e-7)
        assert result.history["gradient_norm"][-1] < 1e-9
        away = result.average - known["optimum"]
        assert result.history["risk"][-1] == pytest.approx(0.5 * known["spectrum"] @ away**2, rel=1e-12)
        assert result.history["risk"][0] == pytest.approx(0.5 * known["spectrum"] @ known["optimum"] ** 2, rel=1e-12)
        assert result.average.tobytes() == mpilocal.run(table, comm=MPI.COMM_SELF).average.tobytes()


def test_constant_step_sgd_and_its_averages() -> None:
    """One pass over fresh rows: w ← w + γ (y − ⟨w, a⟩) a, and the means of w_0 … w_{N−1} and of its second half."""
    law = {"rows": 400, "features": 50, "seed": 5, "spectrum": "i^-2"}
    a, y, known = rows_of(law)
    gamma = 0.1 / known["spectrum"].sum()
    table = config(
        law,
        name="sgd",
        rounds=1,
        local_steps=400,
        step_size=gamma,
        sampling="reshuffle",
        iterate_average=["uniform", {"kind": "tail", "start": 0.5}],
    )
    table["workers"] = {"count": 1}
    history = mpilocal.run(table).history

    def risk(w: Any) -> float:
        return float(0.5 * known["spectrum"] @ (w - known["optimum"]) ** 2)

    found = []
    for seed in range(6):  # an order of its own: the same law, other draws
        w, seen = np.zeros(50), []
        for i in np.random.default_rng(seed).permutation(400):
            seen.append(w)
            w = w + gamma * (y[i] - w @ a[i]) * a[i]
        found.append((risk(w), risk(np.mean(seen, axis=0)), risk(np.mean(seen[200:], axis=0))))
    for name, values in zip(("risk", "risk_uniform", "risk_tail"), np.array(found).T, strict=True):
        assert 0.6 * values.min() < history[name][-1] < 1.7 * values.max(), name


def test_sgd_is_benign_where_least_squares_is_not() -> None:
    """Spectrum i^−2, near N = d: the shortest solution follows the noise, averaged SGD does not."""
    law = {"rows": 200, "features": 220, "seed": 1, "spectrum": "i^-2"}
    exact = mpilocal.run(config(law, name="least-squares")).history["risk"][-1]
    table = config(
        law, name="sgd", rounds=1, local_steps=200, step_size=0.06, sampling="reshuffle", iterate_average="uniform"
    )
    table["workers"] = {"count": 1}
    assert mpilocal.run(table).history["risk_uniform"][-1] < 0.1 * exact


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": {"source": "synthetic:classification"}, "problem": {}}, "solves the squared loss"),
        ({"problem": {"loss": "squared", "intercept": True}}, "with one"),
        ({"data": {"source": "sklearn:diabetes"}}, "output.risk = true needs the squared loss"),
    ],
)
def test_where_it_does_not_apply(change: dict[str, Any], said: str) -> None:
    table = {**config(LAW, name="least-squares"), **change}
    if table["data"]["source"].startswith("synthetic"):
        table["output"] = {}
    with pytest.raises(ConfigError, match=said):
        mpilocal.run(table)


@pytest.mark.parametrize(("spectrum", "gamma"), [("i^-2", 0.06), ("i^-1 log^-2", 0.03), ("i^-2", 0.15)])
def test_the_bound_of_zou_is_above_the_mean_risk(spectrum: str, gamma: float) -> None:
    """T13, over draws of the data; and the bound, coordinate by coordinate."""
    law = {"rows": 300, "features": 500, "spectrum": spectrum}
    risks, rows = [], {}
    for seed in range(4):
        table = config(
            {**law, "seed": seed}, name="sgd", rounds=30, local_steps=10, step_size=gamma, sampling="reshuffle"
        )
        table["algorithm"]["iterate_average"] = "uniform"
        table["workers"] = {"count": 1}
        rows = mpilocal.run(table).history
        risks.append(rows["risk_uniform"][1:])
    *_, known = rows_of(law)
    spectrum_, w = known["spectrum"], known["optimum"]
    assert rows["effective_dimension"][0] == 0 and np.isnan(rows["bound_risk"][0])
    for at, n in enumerate(range(10, 301, 10), 1):
        bias = head = tail = rest = 0.0
        count = 0
        for eigenvalue, target in zip(spectrum_, w, strict=True):
            if eigenvalue >= 1 / (gamma * n):
                count += 1
                bias += target**2 / eigenvalue / (gamma * n) ** 2
                head += target**2
            else:
                bias += eigenvalue * target**2
                rest += eigenvalue * target**2
                tail += eigenvalue**2
        room = 1 - 3 * gamma * spectrum_.sum()
        variance = 1.0 / room + 2 * 3 * (head + n * gamma * rest) / (n * gamma * room)
        variance *= count / n + n * gamma**2 * tail
        assert rows["effective_dimension"][at] == pytest.approx(count + n**2 * gamma**2 * tail, rel=1e-12)
        assert rows["bound_risk"][at] == pytest.approx(2 * bias + 2 * variance, rel=1e-12)
    assert (np.mean(risks, axis=0) < rows["bound_risk"][1:]).all()


def gd(data: Any, workers: int, steps: int, rounds: int, eta: float) -> dict[str, Any]:
    return {
        "data": data,
        "problem": {"loss": "squared", "optimum": 0.0},
        "workers": {"count": workers},
        "algorithm": {"rounds": rounds, "local_steps": steps, "batch": "all", "step_size": eta},
        "output": {"contraction": True},
        "run": {"threads": 1},
    }


@pytest.mark.parametrize("steps", [1, 10, 1000])
def test_the_contraction_of_two_rows(steps: int, tmp_path: Any) -> None:
    """Two workers with one unit row each, at cosine c: the errors shrink by 1 − (1 − (1 − η)^H)(1 ∓ c)/2."""
    cosine = 0.6
    np.savez(tmp_path / "two.npz", X=np.array([[1.0, 0.0, 0.0], [cosine, 0.8, 0.0]]), y=np.array([1.0, -2.0]))
    result = mpilocal.run(gd({"source": str(tmp_path / "two.npz")}, 2, steps, 40, 0.2), comm=MPI.COMM_SELF)
    want = 1 - (1 - 0.8**steps) * (1 - cosine) / 2
    assert result.history["contraction"][0] == pytest.approx(want, rel=1e-12)
    gaps = result.history["suboptimality"]
    assert np.sqrt(gaps[-1] / gaps[-2]) == pytest.approx(want, rel=1e-9 if steps > 1 else 1e-3)


@pytest.mark.parallel([1, 3])
def test_local_gd_tends_to_the_shortest_solution() -> None:
    """Overparameterised regression: at the rate of Σ p_m (I − η A_m)^H (Zhu et al., Theorem 1), whatever the ranks."""
    law = {"rows": 20, "features": 30, "spectrum": {"kind": "power", "exponent": 0.0}, "noise": 0.0, "seed": 2}
    table = gd({"source": "synthetic:regression", "options": law}, 5, 20, 1000, 0.03)
    result, alone = mpilocal.run(table, comm=MPI.COMM_WORLD), mpilocal.run(table, comm=MPI.COMM_SELF)
    assert result.average.tobytes() == alone.average.tobytes()
    assert result.history["contraction"].tobytes() == alone.history["contraction"].tobytes()
    a, y, _ = rows_of(law)
    total = np.zeros((30, 30))
    for m in range(5):
        x = a[4 * m : 4 * m + 4]
        total += np.linalg.matrix_power(np.eye(30) - 0.03 * x.T @ x / 4, 20) / 5
    seen = np.linalg.eigvalsh(total)[:-10]  # of the 30 directions no row sees 10
    assert result.history["contraction"][0] == pytest.approx(seen.max(), rel=1e-10)
    gaps = result.history["suboptimality"]
    assert np.sqrt(gaps[900] / gaps[800]) ** (1 / 100) == pytest.approx(seen.max(), rel=1e-3)
    shortest = np.linalg.pinv(a) @ y
    assert np.linalg.norm(result.average - shortest) < 1e-3 * np.linalg.norm(shortest)


def test_contraction_is_of_least_squares() -> None:
    table = gd({"source": "sklearn:breast_cancer"}, 2, 1, 1, 0.1)
    with pytest.raises(ConfigError, match="output.contraction = true is for local-sgd"):
        mpilocal.run({**table, "problem": {"loss": "logistic"}}, comm=MPI.COMM_SELF)
