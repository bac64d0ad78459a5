"""Running studies: the grid, what is tuned on seeds of its own, what is kept, and files that are no study."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from mpi4py import MPI
from study_helpers import STUDY, written

from mpilocal.errors import ConfigError, DataError, LaunchError
from mpilocal.store import lock
from mpilocal.study import formula, grid, results, runner, structs, tune


def made(path: Path, folder: Path, comm: Any = MPI.COMM_SELF) -> results.Results:
    study, files = structs.load(path)
    return runner.run(study, grid.cells_of(study, files), comm, folder, files)


def same(one: results.Results, two: results.Results) -> None:
    assert (one.title, one.axes, len(one.runs)) == (two.title, two.axes, len(two.runs))
    for a, b in zip(one.runs, two.runs, strict=True):
        assert a._replace(history={}) == b._replace(history={})
        assert a.history.keys() == b.history.keys()
        for name in a.history:
            if not name.startswith("timings/"):
                np.testing.assert_array_equal(a.history[name], b.history[name])


@pytest.mark.slow
@pytest.mark.parallel([1, 2, 3])
def test_a_study(tmp_path):
    comm = MPI.COMM_WORLD
    if comm.rank == 0:
        written(tmp_path)
    comm.Barrier()
    found = made(tmp_path / "study.toml", tmp_path / "out", comm)
    assert found.axes == {"variant": ["local", "minibatch"], "workers.count": [2, 4], "algorithm.local_steps": [1, 4]}
    reported = [run for run in found.runs if run.role == "report"]
    assert [(run.cell["variant"], run.seed) for run in reported] == [
        *[("local", seed) for _ in range(4) for seed in (1, 2)],
        *[("minibatch", seed) for seed in (1, 2)],
    ]
    for run in reported:
        assert run.status == "done" and run.history["samples"][-1] >= 96 * 2
        assert run.config["run"]["seed"] == run.seed
        assert run.config["algorithm"]["step_size"] == run.tuned["algorithm.step_size"]
        tried = {
            one.tuned["algorithm.step_size"]: one.history["suboptimality"][-1] if one.history else math.inf
            for one in found.runs
            if one.role == "tune" and one.cell == run.cell
        }
        best = min(tried, key=lambda value: tried[value])
        assert best == run.tuned["algorithm.step_size"]
        assert min(tried) < best < max(tried)  # the grid grew until the best was inside
        assert {one.seed for one in found.runs if one.role == "tune"} == {11}
    same(results.read(tmp_path / "out" / "results.h5"), found)
    if comm.rank == 0:  # any number of ranks finds the same, and a study that was cut off goes on
        kept = sorted((tmp_path / "out" / "runs").glob("*.h5"))
        again = tmp_path / "again"
        (again / "runs").mkdir(parents=True)
        for file in kept[::2]:
            shutil.copy(file, again / "runs")
        (again / "runs" / kept[1].name).write_bytes(kept[1].read_bytes()[:1000])  # damaged
        times = {file.name: file.stat().st_mtime_ns for file in (again / "runs").iterdir() if file.name != kept[1].name}
        same(made(tmp_path / "study.toml", again), found)
        assert times == {name: (again / "runs" / name).stat().st_mtime_ns for name in times}
        assert sorted(file.name for file in (again / "runs").glob("*.h5")) == [file.name for file in kept]


def test_a_run_that_diverges_is_a_result(tmp_path):
    path = written(tmp_path, tune={"values": [1e9, 1e10], "extensions": 0}, grid=[{"axes": {"workers.count": [2]}}])
    found = made(path, tmp_path / "out")
    assert {run.status for run in found.runs} == {"diverged"} and not any(run.history for run in found.runs)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grid": []}, "grid is empty"),
        ({"grid": [{"axes": {"workers.count": []}}]}, "grid.0.axes.workers.count"),
        ({"grid": [{"axes": {"workers.cuont": [1]}}]}, "cuont"),
        ({"grid": [{"axis": {}}]}, '"axis" is not a known key'),
        ({"grid": [{"variant": "a"}, {"variant": "a"}]}, "the same variant"),
        ({"grid": [{"axes": {"algorithm.batch": [0]}}]}, "in the cell algorithm.batch = 0: algorithm.batch = 0"),
        ({"seeds": {"tune": []}}, "seeds.tune is missing"),
        ({"seeds": {"tune": [2]}}, "share 2"),
        ({"tune": {"values": [2.0, 1.0]}}, "must ascend"),
        ({"derive": {"algorithm.rounds": "K * J"}}, '"J" is not a known name'),
        ({"derive": {"algorithm.rounds": "__import__('os')"}}, "is no formula"),
        ({"derive": {"algorithm.rounds": "1 / 0"}}, "has no value"),
        ({"names": {"K": "data.features"}}, "is not set in the base"),
        ({"titel": "x"}, '"titel" is not a known key'),
        ({"names": {"K": "H + 1", "H": "K"}}, "names.K is defined by itself: K → H → K"),
        ({"names": {"rho": "25 +"}}, "names.rho"),
        ({"names": {"rho": "25 * sigma"}}, 'names.rho: "sigma" is not a known name'),
        ({"tune": {"families": [{"values": [1.0, 2.0]}]}}, "tune has to have either values or families"),
        ({"grid": [{"tune": {"key": "run.seed", "quantity": {}, "values": [1.0, 2.0]}}]}, "grid.0.tune.quantity.kind"),
        ({"tune": {"quantity": {"kind": "steps-to", "target": "goal"}}}, '"goal" is not a known name'),
    ],
)
def test_what_is_no_study(tmp_path, changes, said):
    with pytest.raises(ConfigError) as caught:
        study, files = structs.load(written(tmp_path, **changes))
        grid.cells_of(study, files)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_sizes(tmp_path):
    path = written(tmp_path, quick={"seeds": {"report": [5]}, "derive": {"algorithm.rounds": "2"}})
    assert structs.load(path)[0].seeds.report == [1, 2]
    quick = structs.load(path, "quick")[0]
    assert quick.seeds.report == [5] and quick.seeds.tune == [11] and quick.derive == {"algorithm.rounds": "2"}
    one = written(tmp_path, quick={"grid": {"1": {"axes": {"workers.count": [2]}}}})
    grids = structs.load(one, "quick")[0].grids()
    assert [g.axes.get("workers.count") for g in grids] == [[2, 4], [2]] and grids[1].set == STUDY["grid"][1]["set"]
    with pytest.raises(ConfigError, match=r"grid\.2: grid has 2 entries"):
        structs.load(written(tmp_path, quick={"grid": {"2": {}}}), "quick")
    path = written(tmp_path, quick={"seeds": {"report": [5]}})
    assert structs.load(path, "full")[0].seeds.report == [1, 2]
    assert structs.load(path, "", ["seeds.report=[7]"])[0].seeds.report == [7]


def test_the_grid_grows_where_the_best_is():
    family = structs.Family(values=[1.0, 2.0])

    def ends(score: Any) -> list[float]:
        scores: dict[float, float] = {}
        while following := tune.missing(family, 3, scores):
            scores |= {value: score(value) for value in following}
        return sorted(scores)

    assert ends(lambda x: abs(x - 5)) == [1, 2, 4, 8]
    assert ends(lambda x: x) == [0.125, 0.25, 0.5, 1, 2]
    assert ends(lambda x: -x) == [1, 2, 4, 8, 16]
    assert ends(lambda x: math.inf) == [0.125, 0.25, 0.5, 1, 2]
    assert ends(lambda x: abs(x - 1.4)) == [0.5, 1, 2]


def test_formulas():
    assert formula.evaluate("ceil(2e3 / (K * 3)) - max(1, K)", {"K": 4}, "x") == 163
    with pytest.raises(ConfigError, match="x"):
        formula.evaluate("K.real", {"K": 4}, "x")


FAMILIES = {
    "key": "algorithm.step_size.value",
    "quantity": {"kind": "final", "of": "suboptimality*"},
    "families": [
        {"values": [0.5, 1.0], "set": {"algorithm.step_size.kind": "constant"}},
        {"values": [0.25, 0.5], "set": {"algorithm.step_size.kind": "constant", "algorithm.step_size.warmup": 3}},
    ],
}


@pytest.mark.slow
def test_the_best_of_all_families_is_taken(tmp_path):
    path = tmp_path / "study.toml"
    base = structs.merged(STUDY["base"], {"algorithm": {"iterate_average": ["last", "uniform"]}})
    path.write_text(tomli_w.dumps({**STUDY, "base": base, "tune": FAMILIES}))
    found = made(path, tmp_path / "out")
    for run in [one for one in found.runs if one.role == "report"]:
        tried: dict[tuple[int, float], float] = {}
        for one in [one for one in found.runs if one.role == "tune" and one.cell == run.cell]:
            place = (one.tuned.get("algorithm.step_size.warmup", 0), one.tuned["algorithm.step_size.value"])
            gaps = [math.inf, *(c[-1] for name, c in one.history.items() if name.startswith("suboptimality"))]
            tried[place] = min(gaps)
        for warmup in (0, 3):  # each family grew until its best was inside
            own = {value: score for (steps, value), score in tried.items() if steps == warmup}
            assert min(own) < min(own, key=lambda value: own[value]) < max(own)
        best = min(tried, key=lambda place: tried[place])
        assert best == (run.tuned.get("algorithm.step_size.warmup", 0), run.tuned["algorithm.step_size.value"])
        assert run.config["algorithm"]["step_size"].get("warmup", 0) == best[0]


def test_cells_share_runs(tmp_path):
    """Two cells of one config that tune for different things run it once; each has what it chose."""
    path = tmp_path / "study.toml"
    axes = {"workers.count": [4]}
    other = {**STUDY["tune"], "quantity": {"kind": "steps-to", "target": "half"}, "values": [0.5, 1.0, 2.0]}
    names = {**STUDY["names"], "half": 0.5, "rest": "1 - half"}
    grids = [{"variant": "end", "axes": axes}, {"variant": "half", "axes": axes, "tune": other}]
    path.write_text(tomli_w.dumps({**STUDY, "names": names, "grid": grids}))
    found = made(path, tmp_path / "out")
    keys = [(run.cell["variant"], run.role, run.seed, run.tuned["algorithm.step_size"]) for run in found.runs]
    assert len(set(keys)) == len(keys)
    distinct = {(role, seed, value) for _, role, seed, value in keys}
    assert len(list((tmp_path / "out" / "runs").glob("*.h5"))) == len(distinct) < len(keys)
    assert {run.cell["variant"] for run in found.runs if run.role == "report"} == {"end", "half"}


def test_a_grid_derives_what_it_needs(tmp_path):
    changes = {"grid": [{"axes": {"workers.count": [4]}, "derive": {"algorithm.rounds": "7 * K"}}]}
    study, files = structs.load(written(tmp_path, **changes))
    (cell,) = grid.cells_of(study, files)
    assert cell.table["algorithm"]["rounds"] == 28


def test_fresh_data_in_each_run(tmp_path):
    """What takes the seed beside the draws: also the data, for tuning and for the report."""
    study, files = structs.load(written(tmp_path, seeds={"keys": ["run.seed", "data.options.seed"]}))
    cells = grid.cells_of(study, files)
    for seed in (1, 11):
        config = grid.unit_of(cells, 0, seed, "report", {}).config
        assert config.run.seed == config.data.options["seed"] == seed
    plain = grid.unit_of([cells[0]._replace(seeds=structs.Seeds(report=[1]))], 0, 1, "report", {})
    assert "seed" not in plain.config.data.options


def test_two_at_once(tmp_path):
    (tmp_path / "out").mkdir()
    held = lock.hold(tmp_path / "out")
    with pytest.raises(LaunchError, match="is in use by pid"):
        made(written(tmp_path), tmp_path / "out")
    os.close(held)
    (tmp_path / "out" / "runs").mkdir(exist_ok=True)
    (tmp_path / "out" / "runs" / ".x.h5.tmp-1-00000000").touch()  # a killed writer's
    made(written(tmp_path, grid=[{"axes": {"workers.count": [4]}}]), tmp_path / "out")
    assert not [one for one in tmp_path.rglob("*") if ".tmp-" in one.name]


def test_what_holds_no_results(tmp_path):
    (tmp_path / "results.h5").write_bytes(b"nothing")
    with pytest.raises(DataError, match="holds no results"):
        results.read(tmp_path / "results.h5")
