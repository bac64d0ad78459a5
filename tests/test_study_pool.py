"""Cells that count like seeds: draws of the data, or curvatures of which the worst is looked for."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from study_helpers import FINAL, NAMES, H, run, written
from test_claims import row

from mpilocal.errors import ConfigError
from mpilocal.study import claims, results, runner, structs
from mpilocal.study.grid import axes_of, cells_of, keys_of
from mpilocal.study.results import Results
from mpilocal.study.selection import points_of


def pooled(*gaps, seeds=(1, 2)):
    """Cells over H and a drawn axis: of each draw, what H = 1 and H = 4 end at with the first seed."""
    made = []
    for draw, pair in enumerate(gaps):
        for steps, gap in zip((1, 4), pair, strict=True):
            for seed in seeds:
                one = run(1, steps, seed, suboptimality=np.full(10, gap * seed))
                made.append(one._replace(cell={H: steps, "data.options.seed": draw}))
    return Results("t", {H: [1, 4]}, made, ["data.options.seed"])


def test_pooled_cells_count_like_seeds():
    found = pooled((1.0, 2.0), (2.0, 1.0), (1.0, 8.0))
    table = {"kind": "ratio", "one": {H: 4}, "other": {H: 1}, "aggregate": "geometric-mean", "at_least": 1.999}
    said = row(found, **table)
    assert said.holds is True
    assert said.measured.startswith("2 ["), "the geometric mean of 2, 1/2 and 8, paired by draw"
    assert row(found, **table | {"at_least": 2.01}).holds is False
    # The mean over the seeds of a draw comes first: 1.5 times its value, so (1.5 · 3 · 1.5)^(1/3) for H = 1.
    value = 1.5 * 2 ** (1 / 3)
    assert row(found, kind="bound", select={H: 1}, aggregate="geometric-mean", equals=value, tolerance=1e-12).holds
    assert row(pooled((1.0, 2.0)), kind="bound", select={H: 1}, equals=1.5, tolerance=1e-12).holds


def test_a_pooled_axis_cannot_be_selected():
    table = {"kind": "bound", "at_most": 1.0, "claim": "c", "quantity": FINAL, "select": {"data.options.seed": 1}}
    with pytest.raises(ConfigError, match=r'"data.options.seed" is not an axis'):
        claims.evaluate([table], pooled((1.0, 2.0)), NAMES)


def test_the_worst_of_pooled_cells() -> None:
    found = pooled((1.0, 2.0), (2.0, 1.0), (1.0, 8.0), seeds=(1,))
    table = {"kind": "bound", "select": {H: 4}, "equals": 8.0}
    assert row(found, **table, aggregate="largest").holds is True
    assert row(found, **table | {"equals": 1.0}, aggregate="smallest").holds is True


def test_pooled_cells_are_tuned_apart(tmp_path) -> None:
    """Each draw of the data has its own step size; only axes of the grid can be pooled."""
    grid = [{"axes": {H: [1, 4], "data.options.seed": [0, 1, 2]}}]
    study, files = structs.load(written(tmp_path, grid=grid, pool=["data.options.seed"]))
    cells = cells_of(study, files)
    assert keys_of(cells, study.pool) == [{H: 1}, {H: 4}] and axes_of(cells, study.pool) == {H: [1, 4]}
    assert len(cells) == 6 and {cell.table["data"]["options"]["seed"] for cell in cells} == {0, 1, 2}
    made = runner.run(study, cells, MPI.COMM_SELF, tmp_path / "out", files)
    assert made == results.read(tmp_path / "out" / "results.h5")._replace(runs=made.runs)
    points = points_of(made)
    assert [point.key for point in points] == [{H: 1}, {H: 4}]
    assert [len(point.samples) for point in points] == [3, 3]
    chosen = {one.cell["data.options.seed"]: one.tuned for one in points[0].runs}
    assert len(chosen) == 3
    with pytest.raises(ConfigError, match='pool: "data.seed" is not an axis'):
        structs.load(written(tmp_path, grid=grid, pool=["data.seed"]))


def test_a_grid_has_seeds_of_its_own(tmp_path) -> None:
    grid = [{"variant": "few", "axes": {H: [1]}}, {"variant": "many", "axes": {H: [1]}, "seeds": {"report": [5, 6, 7]}}]
    study, files = structs.load(written(tmp_path, grid=grid))
    few, many = cells_of(study, files)
    assert (few.seeds.report, many.seeds.report, many.seeds.tune) == ([1, 2], [5, 6, 7], [11])
    made = runner.run(study, [few, many], MPI.COMM_SELF, tmp_path / "out", files)
    assert [len(point.runs) for point in points_of(made)] == [2, 3]
    grid[1]["seeds"]["report"] = [11]
    with pytest.raises(ConfigError, match="share 11"):
        structs.load(written(tmp_path, grid=grid))
