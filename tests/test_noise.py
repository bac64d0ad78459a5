"""The variance of a drawn gradient, beside the definition, on any number of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from scipy.sparse import csr_array

import mpilocal
from mpilocal.errors import ConfigError


def table(source: str, **more: Any) -> dict[str, Any]:
    found = {
        "data": {"source": source, "partition": "contiguous"},
        "problem": {"loss": "logistic", "l2": 0.3, "intercept": True},
        "workers": {"count": 5, "weights": "uniform"},
        "algorithm": {"rounds": 6, "local_steps": 2, "batch": 3, "step_size": 0.4},
        "output": {"record_every": 2, "noise": True},
        "run": {"threads": 1},
    }
    return {**found, **more}


def rows(sparse: bool) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(3)
    a = draw.standard_normal((53, 7)) * (draw.random((53, 7)) < (0.4 if sparse else 1.0))
    return a, np.where(draw.random(53) < 0.5, 1.0, -1.0)


def by_definition(a: np.ndarray, y: np.ndarray, weights: np.ndarray, x: np.ndarray) -> float:
    wide = np.column_stack([a, np.ones(len(a))])
    gradients = (-y / (1 + np.exp(y * (wide @ x))))[:, None] * wide  # the l2 term is the same in all
    return float(weights @ np.sum((gradients - weights @ gradients) ** 2, axis=1))


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("sparse", [False, True])
def test_noise(tmp_path, sparse):
    a, y = rows(sparse)
    path = tmp_path / "rows.npz"
    if MPI.COMM_WORLD.rank == 0:
        if sparse:
            matrix = csr_array(a)
            np.savez(path, data=matrix.data, indices=matrix.indices, indptr=matrix.indptr, shape=matrix.shape, y=y)
        else:
            np.savez(path, X=a, y=y)
    MPI.COMM_WORLD.Barrier()
    counts = [11, 11, 11, 10, 10]
    weights = np.repeat([1 / (5 * count) for count in counts], counts)
    for rounds in (0, 2, 6):  # of these the iterate is known
        changes = [f"algorithm.rounds={max(rounds, 1)}", f"output.record_every={max(rounds, 1)}"]
        found = mpilocal.run(table(str(path)), comm=MPI.COMM_WORLD, overrides=changes)
        x = found.average if rounds else np.zeros(8)
        noise = found.history["gradient_noise"][-1 if rounds else 0]
        np.testing.assert_allclose(noise, by_definition(a, y, weights, x), rtol=1e-12)
        alone = mpilocal.run(table(str(path)), comm=MPI.COMM_SELF, overrides=changes)
        assert alone.history["gradient_noise"].tobytes() == found.history["gradient_noise"].tobytes()


def test_it_is_there_only_where_it_is_asked_for(tmp_path):
    a, y = rows(False)
    np.savez(tmp_path / "rows.npz", X=a, y=y)
    config = table(str(tmp_path / "rows.npz"), output={"record_every": 2})
    assert "gradient_noise" not in mpilocal.run(config, output=tmp_path / "run").history
    with pytest.raises(ConfigError, match=r"output\.noise was false and cannot become true"):
        mpilocal.resume(tmp_path / "run", overrides=["output.noise=true", "algorithm.rounds=9"])
