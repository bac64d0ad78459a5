"""Quadratics with a curvature on either side of 0, and with one of their own for each worker."""

from __future__ import annotations

import math
from typing import Any

import naive
import numpy as np
import pytest
from mpi4py import MPI
from numpy.typing import NDArray

import mpilocal
from mpilocal.data.synthetic import Synthetic
from mpilocal.errors import ConfigError, DataError

SPECTRA = [[1.0, 0.2, 0.5], [0.3, 0.9, 0.1], [0.6, 0.4, 1.2]]
KINDS: dict[str, Any] = {
    "source": "synthetic:quadratic",
    "partition": "label",
    "options": {"rows": 30, "features": 3, "sigma": 0.4, "groups": 3, "zeta": 0.7, "spectra": SPECTRA},
}
HARD: dict[str, Any] = {"source": "synthetic:hard-instance", "partition": "shared", "options": {"rows": 64}}


def config(data: Any, workers: int, output: Any = None, **algorithm: Any) -> dict[str, Any]:
    return {
        "data": data,
        "problem": {"loss": "quadratic", "optimum": "auto"},
        "workers": {"count": workers},
        "algorithm": {"rounds": 6, "local_steps": 4, "step_size": 0.3, **algorithm},
        "output": output or {},
        "run": {"threads": 1},
    }


def kinds_by_hand(rounds: int, steps: int, eta: float) -> NDArray[np.float64]:
    """Local GD on the three quadratics."""
    law = Synthetic("quadratic", KINDS["options"])
    rows = law.read(0, 30)
    assert rows.dense is not None
    x = np.zeros(3)
    for _ in range(rounds):
        ends = []
        for g in range(3):
            own, b = x.copy(), rows.dense[rows.labels == g].mean(axis=0)
            for _ in range(steps):
                own = own - eta * (np.array(SPECTRA[g]) * own - b)
            ends.append(own)
        x = np.mean(ends, axis=0)
    return x


@pytest.mark.parallel([1, 2, 3])
def test_each_worker_has_its_curvature() -> None:
    comm = MPI.COMM_WORLD
    found = mpilocal.run(config(KINDS, 3, {"divergence": True}, batch="all"), comm=comm)
    np.testing.assert_allclose(found.average, kinds_by_hand(6, 4, 0.3), rtol=1e-13)
    alone = mpilocal.run(config(KINDS, 3, {"divergence": True}, batch="all"), comm=MPI.COMM_SELF)
    assert alone.average.tobytes() == found.average.tobytes()
    law = Synthetic("quadratic", KINDS["options"])
    rows, x = law.read(0, 30), found.average
    assert rows.dense is not None
    b = np.array([rows.dense[rows.labels == g].mean(axis=0) for g in range(3)])
    gradients = np.array(SPECTRA) * x - b
    mean = gradients.mean(axis=0)
    assert found.history is not None
    np.testing.assert_allclose(found.history["gradient_norm"][-1], np.linalg.norm(mean), rtol=1e-12)
    wanted = np.mean(np.sum((gradients - mean) ** 2, axis=1))
    np.testing.assert_allclose(found.history["divergence"][-1], wanted, rtol=1e-12)
    best = b.mean(axis=0) / np.mean(SPECTRA, axis=0)
    gap = 0.5 * np.sum(np.mean(SPECTRA, axis=0) * (x - best) ** 2)
    np.testing.assert_allclose(found.history["suboptimality"][-1], gap, rtol=1e-10)


@pytest.mark.parametrize("name", ["minibatch-sgd", "minibatch-ac-sa"])
def test_one_step_rounds_see_the_mean_curvature(name: str) -> None:
    one, other = (
        mpilocal.run(config(KINDS, 3, name=each, local_steps=1, rounds=5), comm=MPI.COMM_SELF)
        for each in (name, name.replace("minibatch", "local"))
    )
    np.testing.assert_allclose(one.average, other.average, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("sampling", ["replacement", "reshuffle"])
def test_the_hard_instance_is_its_formula(sampling: str) -> None:
    """Local SGD on f(x; z) as Woodworth et al. write it, with H = 2, λ = 0.3, B = 1.5."""
    law = {"rows": 65, "L": 2.0, "mu": 0.3, "sigma": 0.8, "distance": 1.5}
    found = mpilocal.run(
        config({**HARD, "options": law}, 3, {"divergence": True}, sampling=sampling, batch=2), comm=MPI.COMM_SELF
    )
    z = Synthetic("hard-instance", law).extra["noise"]
    assert abs(z.mean()) < 1e-15 and z[0] == -z[-1] and abs(np.mean(z**2) - 0.64) < 1e-12
    root = math.sqrt(0.3 / 2.0)

    def gradient(x: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
        bent = 2.0 / 4 * (x[2] + max(x[2], 0.0))
        return np.array([0.3 * (x[0] - 1.5), 2.0 * (x[1] - root * 1.5), bent + noise])

    def value(x: NDArray[np.float64]) -> float:
        bent = 2.0 / 8 * (x[2] ** 2 + max(x[2], 0.0) ** 2)
        return float(0.15 * (x[0] - 1.5) ** 2 + (x[1] - root * 1.5) ** 2 + bent)

    x, t = np.zeros(3), 0
    for _ in range(6):
        ends = []
        for m in range(3):
            own = x.copy()
            for k in range(4):
                picks = [naive.draw(1, m, 2 * (t + k) + s, 65, sampling == "reshuffle") for s in range(2)]
                own = own - 0.3 * np.mean([gradient(own, z[i]) for i in picks], axis=0)
            ends.append(own)
        x, t = np.mean(ends, axis=0), t + 4
    np.testing.assert_allclose(found.average, x, rtol=1e-12, atol=1e-14)
    assert found.history is not None
    np.testing.assert_allclose(found.history["suboptimality"][-1], value(x), rtol=1e-9)
    np.testing.assert_allclose(found.history["suboptimality"][0], value(np.zeros(3)), rtol=1e-12)
    assert (found.history["divergence"] == 0).all()


@pytest.mark.slow
def test_averaged_local_iterates_drift_below() -> None:
    """T7: x̄₃ → −(4/(9 √(2π))) η σ √K where K η L ≪ 1, and hardly at all for K = 1."""
    eta, workers = 0.02, 20_000
    found = {}
    for steps in (1, 16):
        rounds = round(30 / (eta * steps))
        table = config(
            {**HARD, "options": {"rows": 4096, "distance": 0.0}}, workers, {"record_every": 4},
            rounds=rounds, local_steps=steps, step_size=eta,
        )  # fmt: skip
        result = mpilocal.run(table, comm=MPI.COMM_SELF)
        # Past the start the sign and the size of x̄₃ are those of its own gap (L/8) x̄₃².
        assert result.history is not None
        gaps = result.history["suboptimality"][len(result.history["round"]) // 2 :]
        assert result.average[2] < 0
        found[steps] = -math.sqrt(8 * float(np.mean(gaps))) / eta
    small = -4 / (9 * math.sqrt(2 * math.pi)) * math.sqrt(16)
    assert found[16] == pytest.approx(small, rel=0.15)
    assert abs(found[1]) < 0.1


def test_constants_are_those_of_the_law() -> None:
    """σ*² and ζ*² of quadratics are those of their rows everywhere; on logistic rows by hand."""
    options = {"rows": 40, "features": 4, "sigma": 0.5, "groups": 4, "zeta": 0.6, "L": 3.0, "mu": 0.2}
    data = {"source": "synthetic:quadratic", "options": options}
    found = mpilocal.run(config(data, 4, {"constants": True}), comm=MPI.COMM_SELF).history
    rows = Synthetic("quadratic", options).read(0, 40).dense
    assert found is not None and rows is not None
    means = rows.reshape(4, 10, 4).mean(axis=1)
    apart = float(np.mean(np.sum((means - means.mean(axis=0)) ** 2, axis=1)))
    spread = float(np.mean(np.sum((rows.reshape(4, 10, 4) - means[:, None]) ** 2, axis=2)))
    curvature = np.geomspace(0.2, 3.0, 4)
    wanted = {
        "smoothness": 3.0,
        "convexity": 0.2,
        "distance": float(np.linalg.norm(means.mean(axis=0) / curvature)),
        "optimum_noise": spread,
        "optimum_divergence": apart,
    }
    for name, number in wanted.items():
        assert (found[name] == found[name][0]).all()
        np.testing.assert_allclose(found[name][0], number, rtol=1e-10, err_msg=name)


def test_constants_where_the_infimum_is_not_attained() -> None:
    """On separable rows σ*² and ζ*² tend to 0, and x* lies at infinity."""
    table = config({"source": "synthetic:separable", "options": {"rows": 40, "features": 4}}, 4, {"constants": True})
    table["problem"] = {"loss": "logistic", "optimum": "auto"}
    found = mpilocal.run(table, comm=MPI.COMM_SELF).history
    assert found is not None and np.isinf(found["distance"]).all()
    assert found["optimum_noise"][0] < 1e-9 and found["optimum_divergence"][0] < 1e-9


@pytest.mark.parallel([1, 3])
def test_constants_on_any_ranks_and_after_a_resume(tmp_path: Any) -> None:
    comm = MPI.COMM_WORLD
    table = config({"source": "sklearn:breast_cancer", "options": {"standardize": True}, "partition": "label"}, 4)
    table["problem"] = {"loss": "logistic", "l2": 0.1, "optimum": "auto"}
    table["algorithm"] |= {"start": "normal", "step_size": 0.1}
    table["output"] = {"constants": True}
    alone = mpilocal.run(table, comm=MPI.COMM_SELF).history
    assert alone is not None and alone["optimum_divergence"][0] > 1e-3
    mpilocal.run(table, comm=comm, output=tmp_path / "run")
    mpilocal.resume(tmp_path / "run", overrides=["algorithm.rounds=9"], comm=comm)
    if comm.rank == 0:
        history = mpilocal.load(tmp_path / "run").history
        for name in ("smoothness", "convexity", "distance", "optimum_noise", "optimum_divergence"):
            assert len(history[name]) == 10 and (history[name] == alone[name][0]).all(), name


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"data": {**KINDS, "partition": "iid"}}, ConfigError, r'of 3 kinds, .*partition = "label"'),
        ({"workers": {"count": 2}}, ConfigError, r"set workers.count = 3"),
        ({"output": {"noise": True}}, ConfigError, r"output.noise = true is for rows of one curvature"),
        ({"output": {"constants": True}, "problem": {"loss": "squared"}}, ConfigError, r"needs the minimiser"),
        (
            {"data": {**KINDS, "options": {**KINDS["options"], "spectra": SPECTRA[:2]}}},
            ConfigError,
            r"spectra must hold 3 lists of 3 numbers",
        ),
        ({"data": {"source": "synthetic:regression"}}, DataError, r"needs dense rows with the array /extra/curvature"),
    ],
)
def test_refusals(changes: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        mpilocal.run({**config(KINDS, 3), **changes}, comm=MPI.COMM_SELF)
