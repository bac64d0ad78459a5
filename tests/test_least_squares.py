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
