"""Where Local-GD goes on separable data: the direction of the pooled max-margin separator (Zhu et al.)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from numpy.typing import NDArray

import mpilocal
from mpilocal.errors import ConfigError
from mpilocal.kernels.scalar import Loss
from mpilocal.kernels.shard import Dense, Sparse
from mpilocal.optimum.margin import max_margin
from mpilocal.projection import nearest

SVM = np.array([1.0, 0.0])
LIMIT = np.log(6) / 3.5  # of E ‖w‖ for the two points, each with its own worker


@pytest.fixture
def two_points(tmp_path: Path) -> Path:
    """a_1 = (1, 3) of class +1 and a_2 = (−1, 0.5) of class −1: margins y a = (1, 3), (1, −0.5), so w_svm = e₁."""
    file = tmp_path / "two.npz"
    np.savez(file, X=np.array([[1.0, 3.0], [-1.0, 0.5]]), y=np.array([1.0, -1.0]))
    return file


def run(file: Path, name: str, local_steps: int, rounds: int, loss: str = "logistic", eta: float = 0.2, **more: Any):
    algorithm = {"name": name, "rounds": rounds, "local_steps": local_steps, "batch": "all", "step_size": eta, **more}
    result = mpilocal.run(
        {
            "data": {"source": str(file)},
            "problem": {"loss": loss},
            "workers": {"count": 2},
            "algorithm": algorithm,
            "output": {"record_every": rounds},
            "run": {"threads": 1},
        }
    )
    return result.average, float(result.history["objective"][-1])


def error(w: NDArray[np.float64], svm: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(w / np.linalg.norm(w) - svm / np.linalg.norm(svm)))


@pytest.mark.parametrize(
    ("local_steps", "rounds", "expected", "scaled", "objective"),
    [(1, 1000, 0.1033, 0.5181, 1.024), (10, 1000, 0.06995, 0.5126, 1.008), (1000, 1000, 0.0429, 0.5117, 1.007)],
)
def test_two_points(
    two_points: Path, local_steps: int, rounds: int, expected: float, scaled: float, objective: float
) -> None:
    """E, E ‖w‖ → ln(6)/3.5 and F η H k → 1/margin² = 1 of vanilla Local-GD."""
    w, value = run(two_points, "local-sgd", local_steps, rounds)
    assert error(w, SVM) == pytest.approx(expected, rel=1e-3)
    assert error(w, SVM) * np.linalg.norm(w) == pytest.approx(scaled, abs=2e-4)
    assert value * 0.2 * local_steps * rounds == pytest.approx(objective, abs=2e-3)
    if local_steps > 1:
        assert abs(scaled - LIMIT) < 2e-3


@pytest.mark.slow
def test_two_points_after_long(two_points: Path) -> None:
    """At η H k = 2e7 modified Local-GD is a factor behind vanilla Local-GD, whose error is 0.03096."""
    w, _ = run(two_points, "modified-local-gd", 1000, 10**5)
    assert error(w, SVM) == pytest.approx(0.03542, rel=3e-4)


def test_with_the_exponential_loss(two_points: Path) -> None:
    w, value = run(two_points, "local-sgd", 100, 10000, "exponential", 0.05)
    assert error(w, SVM) * np.linalg.norm(w) == pytest.approx(LIMIT, abs=2e-3)
    assert value * 0.05 * 1e6 == pytest.approx(1.0, abs=2e-2)


@pytest.mark.parametrize("pull", [0.0, 0.3])
@pytest.mark.parametrize("exponent", [1.0, 0.5])
def test_modified_as_specified(two_points: Path, pull: float, exponent: float) -> None:
    a = np.array([[1.0, 3.0], [1.0, -0.5]])
    w = np.zeros(2)
    for k in range(6):
        ends = []
        for row in a:
            v = w.copy()
            for _ in range(3):
                v = v - 0.2 * (-row / (1 + np.exp(row @ v)) + pull * (v - w))
            ends.append(v)
        w = (1 - (k + 2) ** -exponent) * np.mean(ends, axis=0)
    got, _ = run(two_points, "modified-local-gd", 3, 6, options={"pull": pull, "anchor_exponent": exponent})
    np.testing.assert_allclose(got, w, rtol=0, atol=1e-14)


def separable(name: str, rounds: int, **options: Any) -> dict[str, Any]:
    return {
        "data": {"source": "synthetic:separable", "options": {"rows": 24, "features": 6, "seed": 0}},
        "workers": {"count": 5},
        "algorithm": {"name": name, "rounds": rounds, "step_size": 1.0, "options": options},
        "output": {"record_every": rounds},
        "run": {"threads": 1},
    }


def test_aggregations_of_exact_local_solutions() -> None:
    """Means of projections stop at a feasible point; Halpern's reach the max-margin vector as 1/k, Dykstra's faster."""
    svm = np.eye(6)[0]

    def after(rounds: int, aggregation: str) -> NDArray[np.float64]:
        return mpilocal.run(separable("local-projection", rounds, aggregation=aggregation)).average

    assert error(after(100, "mean"), svm) == pytest.approx(error(after(1000, "mean"), svm), rel=0.02)
    assert error(after(1000, "mean"), svm) > 0.02
    assert 5 < error(after(100, "halpern"), svm) / error(after(1000, "halpern"), svm) < 20
    np.testing.assert_allclose(after(3000, "dykstra"), svm, atol=1e-10)  # the vector itself, not its direction only


@pytest.mark.parallel([1, 2, 3])
def test_the_direction_is_recorded() -> None:
    """‖x̄‖ and E of x̄ and of the local iterates, the separator found among many rows; the same bits on all ranks."""

    comm = MPI.COMM_WORLD
    for intercept, dtype in ((False, "float64"), (True, "float64"), (False, "float32")):
        table = separable("local-sgd", 3)
        table["data"]["options"] = {"rows": 3000, "features": 7, "seed": 4}
        table["algorithm"] = {"rounds": 3, "local_steps": 4, "batch": "all", "step_size": 0.5}
        table["problem"] = {"loss": "logistic", "intercept": intercept}
        table["output"] = {"direction": True}
        table["run"] = {"dtype": dtype, "threads": 1}
        result = mpilocal.run(table, comm=comm)
        history, w = result.history, result.average
        assert history["norm"][-1] == pytest.approx(np.linalg.norm(w), rel=1e-12)
        assert np.isnan(history["direction_error"][0])
        if not intercept:
            assert history["direction_error"][-1] == pytest.approx(
                error(w, np.eye(7)[0]), rel=1e-9 if dtype == "float64" else 1e-5
            )
        drift = history["local_direction_error"][1:] - history["direction_error"][1:]
        assert (np.abs(drift) < 0.5).all() and (drift != 0).any()
        alone = mpilocal.run(table, comm=MPI.COMM_SELF)
        for name in ("norm", "direction_error", "local_direction_error"):
            assert alone.history[name].tobytes() == history[name].tobytes(), name


@pytest.mark.parametrize("sparse", [False, True])
def test_the_separator_is_the_shortest(sparse: bool) -> None:
    """Against scikit-learn's SVC with a large C, on rows of which few lie on the margin."""
    from sklearn.svm import SVC

    draw = np.random.default_rng(5)
    a = draw.standard_normal((900, 6)) * (draw.random((900, 6)) < (0.5 if sparse else 1))
    truth = draw.standard_normal(6)
    a = a[np.abs(a @ truth) > 0.3]
    y = np.sign(a @ truth)
    shard: Any = Dense(a, y, np.array([0]), np.array([len(a)]), np.empty((0, 2, 0)))
    if sparse:
        rows, columns = np.nonzero(a)
        pointers = np.searchsorted(rows, np.arange(len(a) + 1)).astype(np.int64)
        shard = Sparse(a[rows, columns], columns.astype(np.int32), pointers, y, shard.begin, shard.end, 6)
    problem: Any = SimpleNamespace(
        loss=Loss.LOGISTIC, name="logistic", blocks=SimpleNamespace(shard=shard), dim=6, intercept=False
    )
    w = max_margin(problem, MPI.COMM_SELF)
    assert (y * (a @ w)).min() == pytest.approx(1.0, abs=1e-10)
    machine = SVC(C=1e8, kernel="linear", tol=1e-8).fit(np.vstack([a, -a]), np.concatenate([y, -y]))
    assert np.linalg.norm(w) <= np.linalg.norm(machine.coef_) * (1 + 1e-6)
    np.testing.assert_allclose(w, machine.coef_[0], rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("loss", "rows", "said"),
    [
        ("squared", [[1.0, 0.0], [0.0, 1.0]], "needs a loss on margins"),
        ("logistic", [[1.0, 0.5], [1.0, 0.5]], "no hyperplane through the origin separates these rows"),
    ],
)
def test_where_there_is_no_direction(tmp_path: Path, loss: str, rows: list[list[float]], said: str) -> None:
    file = tmp_path / "rows.npz"
    np.savez(file, X=np.array(rows), y=np.array([1.0, -1.0]))
    table = separable("local-sgd", 2)
    table |= {"data": {"source": str(file)}, "workers": {"count": 1}, "problem": {"loss": loss}}
    table |= {"algorithm": {"rounds": 1, "step_size": 0.1}, "output": {"direction": True}}
    with pytest.raises(ConfigError, match=said):
        mpilocal.run(table)


def test_a_projection_is_the_nearest_point() -> None:
    draw = np.random.default_rng(3)
    for _ in range(20):
        rows = draw.standard_normal((8, 5))
        rows[:, 0] = np.abs(rows[:, 0]) + 0.1
        point = draw.standard_normal(5)
        near = nearest(rows, point)
        assert near is not None
        margins = rows @ near
        assert margins.min() >= 1 - 1e-9
        active = rows[margins < 1 + 1e-7]
        # near − point = Σ α_j a_j over the rows on the margin, α ≥ 0.
        alpha, *_ = np.linalg.lstsq(active.T, near - point, rcond=None)
        np.testing.assert_allclose(active.T @ alpha, near - point, atol=1e-9)
        assert alpha.min(initial=0.0) >= -1e-9
        inside = near + 2 * (near - point)
        if (rows @ inside).min() >= 1:
            assert (nearest(rows, inside) == inside).all()


def test_a_worker_that_cannot_be_separated(tmp_path: Path) -> None:
    file = tmp_path / "same.npz"
    np.savez(file, X=np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), y=np.array([1.0, -1.0, 1.0]))
    table = separable("local-projection", 2)
    table["data"], table["workers"] = {"source": str(file)}, {"count": 2}
    with pytest.raises(ConfigError, match="rows of worker 0 cannot be separated"):
        mpilocal.run(table)


@pytest.mark.parametrize("name", ["modified-local-gd", "local-projection"])
def test_they_act_where_all_average(name: str) -> None:
    table = separable(name, 2)
    table["workers"] = {"count": 4}
    with pytest.raises(ConfigError, match="acts where all workers average"):
        mpilocal.run({**table, "levels": [{"group": 2}]})
