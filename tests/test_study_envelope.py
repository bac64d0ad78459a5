"""The best of all values that were tried, on the runs that choose."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from study_helpers import FINAL, NAMES, H, K, run, written
from test_claims import row

import mpilocal
from mpilocal.errors import ConfigError
from mpilocal.study import runner, structs
from mpilocal.study.grid import cells_of
from mpilocal.study.results import Results


def tuned(seed, *curves, status="done"):
    """Tuning runs of one cell, a step size each."""
    made = [run(1, 1, seed, status=status, rounds=len(curve), suboptimality=np.array(curve)) for curve in curves]
    return [one._replace(role="tune", history=numbered(one)) for one in made]


def numbered(one):
    """Its history with rounds from 0."""
    return {**one.history, "round": one.history["round"] - 1} if one.history else {}


def made(*runs) -> Results:
    return Results("t", {K: [1], H: [1]}, [run(1, 1, 1), *runs])


def test_the_best_at_each_record() -> None:
    found = made(*tuned(7, [3.0, 1.0, 2.0], [3.0, 2.0, 0.5], [3.0, 4.0, 9.0]), *tuned(8, [3.0, 2.0, 1.5]))
    table = {"kind": "bound", "envelope": True, "equals": 1.0}  # the mean of 0.5 and 1.5
    assert row(found, **table).holds is True
    at = {"kind": "at", "round": 1}
    assert row(found, **table | {"quantity": at, "equals": 1.5}).holds is True
    assert row(found, **table | {"envelope": False}).holds is False  # what is reported ends at 0.1


def test_a_run_that_ended_early_stays_where_it_did() -> None:
    found = made(*tuned(7, [3.0, 1.0], [3.0, 2.0, 1.5, 0.7]))
    assert row(found, kind="bound", envelope=True, equals=0.7).holds is True
    at = {"kind": "at", "round": 2}
    assert row(found, quantity=at, kind="bound", envelope=True, equals=1.0).holds is True


def test_what_diverged_is_never_the_best() -> None:
    lost = tuned(7, [3.0], status="diverged")
    assert row(made(*lost, *tuned(7, [3.0, 1.0])), kind="bound", envelope=True, equals=1.0).holds is True
    assert row(made(*lost), kind="bound", envelope=True, at_most=1e9).holds is False


def test_it_is_of_tuned_cells_only() -> None:
    found = row(made(), kind="bound", envelope=True, at_most=1.0)
    assert found.holds is False and found.measured == "no cell meets the condition"


def test_of_runs(tmp_path) -> None:
    """Against the least of runs that are made one by one."""
    study, files = structs.load(written(tmp_path))
    found = runner.run(study, cells_of(study, files), MPI.COMM_SELF, tmp_path / "out", files)
    ends = {}
    for one in found.runs:
        if one.role == "tune":
            key = tuple(one.cell.values())
            history = mpilocal.run(one.config, comm=MPI.COMM_SELF).history
            assert (history["suboptimality"] == one.history["suboptimality"]).all()
            ends[key] = min(ends.get(key, np.inf), history["suboptimality"][-1])
    assert len(ends) == 5
    for key, end in ends.items():
        chosen = dict(zip(("variant", K, H), key, strict=False))
        table = {"kind": "bound", "envelope": True, "select": chosen, "equals": float(end), "tolerance": 1e-15}
        assert row_of(found, table).holds is True, key


def row_of(found, table):
    from mpilocal.study import claims

    table = {"claim": "c", "quantity": FINAL, **table}
    return claims.evaluate([table], found, NAMES)[0]


def test_entries_by_name(tmp_path) -> None:
    told = {"paper": [{"cell": {"workers.count": 2, "algorithm.local_steps": 1}, "value": 1.0}]}
    claim = {"kind": "table", "claim": "c", "quantity": FINAL, "within": 2.0, "entries": "paper"}
    study, _ = structs.load(written(tmp_path, told=told, claims=[claim]))
    assert study.claims[0]["entries"] == told["paper"]
    with pytest.raises(ConfigError, match=r'claims.0.entries: "papr" is not a table of told; .*"paper"'):
        structs.load(written(tmp_path, told=told, claims=[{**claim, "entries": "papr"}]))
