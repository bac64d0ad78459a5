"""What the tests of the optimum share: a prepared run, and its optimum with a cache of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpilocal import config as configs
from mpilocal import optimum
from mpilocal.kernels.cpu import dense, sparse  # noqa: F401  (their compiled code is kept where the session keeps it)
from mpilocal.optimum import Optimum
from mpilocal.optimum import cache as optimum_cache
from mpilocal.prepare import Prepared, prepare

Find = Callable[..., Optimum]


def made_of(source: str, loss: str = "logistic", comm: Any = None, folder: Path = Path(), **more: Any) -> Prepared:
    """A prepared run: `workers`, `run`, `options` are tables, what is left is of the problem."""
    from mpi4py import MPI

    table: dict[str, Any] = {
        "data": {"source": source, "options": more.pop("options", {})},
        "workers": {"count": 3, **more.pop("workers", {})},
        "run": {"threads": 1, **more.pop("run", {})},
        "algorithm": {"name": "local-sgd", "rounds": 1, "local_steps": 1, "batch": 1, "step_size": 0.1},
    }
    if "features" in more:
        table["data"]["features"] = more.pop("features")
    table["problem"] = {"loss": loss, "optimum": "auto", **more}
    return prepare(configs.load(table), comm or MPI.COMM_SELF, folder)


@pytest.fixture(name="find")
def find_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Find:
    """`find(source, loss, says=…, …)`: F* of a run with a cache of this test's own; `says` must be in a warning."""
    from mpi4py import MPI

    monkeypatch.setattr(optimum_cache, "user_cache", lambda: tmp_path)

    def call(source: str, loss: str = "logistic", says: str = "", **more: Any) -> Optimum:
        warnings: list[str] = []
        prepared = made_of(source, loss, **more)
        found, _ = optimum.find(prepared, MPI.COMM_SELF, warnings.append)
        prepared.close()
        assert bool(warnings) == bool(says), warnings
        assert says in "".join(warnings)
        return found

    return call


def saved(folder: Path, a: np.ndarray, y: np.ndarray) -> str:
    np.savez(folder / "rows.npz", X=a, y=y)
    return str(folder / "rows.npz")
