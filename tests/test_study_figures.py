"""Figures of studies: what they show, on made-up results with known answers, and the files."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mpilocal.errors import ConfigError, DataError
from mpilocal.study import figures
from mpilocal.study.lines import panels_of
from mpilocal.study.results import Results, Run

K, H, B = "workers.count", "algorithm.local_steps", "algorithm.batch"
AXES = {K: [1, 4, 16, 64], H: [1, 4, 16], B: [4]}
NAMES = {"K": K, "H": H}
GAPS = {"name": "gaps", "x": "step", "y": "suboptimality", "panels": K, "lines": H}
ROUNDS = {"kind": "rounds-to", "target": 0.02}
SPEED = {"name": "speed", "x": K, "y": {"kind": "steps-to", "target": 0.02}, "lines": H, "relative_to": {K: 1}}


def run(workers, steps, seed, rounds=40, status="done"):
    """A gap of (1 + 0.1·seed)/(K·round·H) + 1e-5·H, the other average twice that."""
    done = np.arange(rounds + 1)
    gap = (1 + 0.1 * seed) / (workers * np.maximum(done * steps, 0.5)) + 1e-5 * steps
    history = {"round": done, "step": done * steps, "suboptimality": gap, "suboptimality_uniform": 2 * gap}
    history |= {"level1/bytes": done * 1000.0 * workers}
    config = {"workers": {"count": workers}, "algorithm": {"local_steps": steps, "batch": 4}}
    cell = {K: workers, H: steps, B: 4}
    return Run(cell, seed, "report", status, history if status == "done" else {}, {}, config)


def results(seeds=(0, 1, 2), lost=()):
    made = [
        run(k, h, s, status="diverged" if (k, h) in lost else "done") for k in AXES[K] for h in AXES[H] for s in seeds
    ]
    return Results("made up", AXES, made)


def page(table, found=None):
    figures.check([table], AXES, names=NAMES)
    found = results() if found is None else found
    return panels_of(figures.parse(table, AXES, "figures.0", NAMES), found, NAMES, "figures.0")


def test_series():
    found = page(GAPS)
    assert [panel.title for panel in found.panels] == ["K = 1", "K = 4", "K = 16", "K = 64"]
    assert [line.label for line in found.panels[0].lines] == ["H = 1", "H = 4", "H = 16"]
    line = found.panels[1].lines[2]
    np.testing.assert_array_equal(line.x, np.arange(41) * 16)
    for values, seed in ((line.low, 0), (line.middle, 1), (line.high, 2)):
        np.testing.assert_allclose(values, run(4, 16, seed).history["suboptimality"])
    assert (found.x_label, found.y_label) == ("local steps of each worker", "$F(\\bar x) - F^*$")


def test_several_series_and_quartiles():
    table = {**GAPS, "y": ["suboptimality", "suboptimality_uniform"], "select": {H: 1, K: [1, 4]}, "band": "quartiles"}
    lines = page(table).panels[1].lines
    assert [line.label for line in lines] == ["H = 1, last iterate", "H = 1, uniform average"]
    np.testing.assert_allclose(lines[1].middle, 2 * lines[0].middle)
    values = [run(4, 1, seed).history["suboptimality"] for seed in range(3)]
    np.testing.assert_allclose(lines[0].low, np.quantile(values, 0.25, axis=0))
    assert np.isnan(page({**table, "band": "none"}).panels[0].lines[0].low).all()


def test_a_line_goes_as_far_as_half_of_the_seeds():
    made = [run(1, 1, seed, rounds) for seed, rounds in ((0, 10), (1, 20), (2, 40))]
    line = page({**GAPS, "select": {K: 1, H: 1}}, Results("t", AXES, made)).panels[0].lines[0]
    assert len(line.x) == 21
    curves = [one.history["suboptimality"] for one in made]
    assert line.middle[20] == pytest.approx(np.median([curve[min(20, len(curve) - 1)] for curve in curves]))
    assert (np.diff(line.middle) <= 0).all(), "no jump where the first one ends"


def test_quantity_along_an_axis():
    found = page({**SPEED, "relative_to": {}, "y": ROUNDS, "select": {H: [1, 4]}})
    (panel,) = found.panels
    expected = []
    for k in AXES[K]:
        rounds = [int(np.flatnonzero(run(k, 4, seed).history["suboptimality"] <= 0.02)[:1].sum()) for seed in range(3)]
        expected.append((min(rounds), float(np.median(rounds)), max(rounds)))
    line = panel.lines[1]
    assert line.label == "H = 4"
    np.testing.assert_array_equal(line.x, [1, 4, 16, 64])
    np.testing.assert_array_equal(np.stack([line.low, line.middle, line.high], axis=1), expected)
    np.testing.assert_array_equal(panel.lines[0].lost, [1])  # 40 steps of one worker do not reach it
    assert math.isnan(panel.lines[0].middle[0])


def test_relative():
    """Steps to the target fall as 1/K: the speed-up is K, up to whole rounds."""
    line = page({**SPEED, "y": {"kind": "final", "times": "1 + 0 * K"}, "select": {H: 1}}, results(seeds=[0]))
    gaps = [run(k, 1, 0).history["suboptimality"][-1] for k in AXES[K]]
    np.testing.assert_allclose(line.panels[0].lines[0].middle, gaps[0] / np.array(gaps))


def test_lost_cells_are_marked():
    found = page({**SPEED, "select": {H: 16}}, results(lost=[(64, 16)]))
    np.testing.assert_array_equal(found.panels[0].lines[0].lost, [64])
    curves = page(GAPS, results(lost=[(64, 16)])).panels[3].lines
    assert (curves[2].label, curves[2].note, curves[1].note) == ("H = 16", "diverged", "")
    assert not len(curves[2].x)


def test_references():
    references = [
        {"label": "1/(Kt)", "formula": "1 / (K * max(step, 0.5))"},
        {"label": "slope", "slope": -1.0},
        {"label": "given", "points": [[1, 1.0], [100, 0.01]]},
    ]
    panel = page({**GAPS, "references": references}).panels[2]
    formula = [one for one in panel.references if one.label == "1/(Kt)"]
    assert [one.line for one in formula] == [0, 1, 2]  # each line has steps of its own
    np.testing.assert_allclose(formula[1].y, 1 / (16 * np.maximum(formula[1].x, 0.5)))
    (slope,) = [one for one in panel.references if one.label == "slope"]
    assert slope.y[-1] == panel.lines[0].middle[-1]
    np.testing.assert_allclose(slope.y * slope.x, slope.y[-1] * slope.x[-1])
    (given,) = [one for one in panel.references if one.label == "given"]
    np.testing.assert_array_equal(given.y, [1.0, 0.01])
    speed = page({**SPEED, "references": [{"label": "linear", "formula": "K"}]}).panels[0].references
    assert [(one.line, one.y.tolist()) for one in speed] == [(-1, [1, 4, 16, 64])]  # the same for all lines: once


def test_axis_of_names():
    axes = {"variant": ["growing", "constant"]}
    made = [run(1, 1, 0)._replace(cell={"variant": name}) for name in axes["variant"]]
    table = {"name": "n", "x": "variant", "y": {"kind": "final"}}
    figures.check([table], axes)
    found = panels_of(figures.parse(table, axes, "figures.0", {}), Results("t", axes, made), {}, "figures.0")
    assert found.ticks == ["growing", "constant"]
    np.testing.assert_array_equal(found.panels[0].lines[0].x, [0, 1])


TABLES = [
    {**GAPS, "title": "costs $1", "references": [{"label": "$1/t$", "slope": -1.0}], "logarithmic": ["x", "y"]},
    {**SPEED, "logarithmic": ["x", "y"], "references": [{"label": "linear", "formula": "K"}]},
    {"name": "bytes", "x": "bytes", "y": "suboptimality", "select": {K: 4, H: 4}, "logarithmic": []},
]


def test_files(tmp_path):
    pytest.importorskip("matplotlib")
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, tables in zip(folders, (TABLES, TABLES[1:]), strict=True):
        folder.mkdir()
        files = figures.draw(tables, results(lost=[(64, 16)]), folder, NAMES)
        assert [file.name for file in files] == [f"{t['name']}.{kind}" for t in tables for kind in ("png", "svg")]
        assert sorted(folder.iterdir()) == sorted(files)
    for file in files:
        assert file.read_bytes() == (folders[0] / file.name).read_bytes()
    gaps, speed = ((folders[0] / name).read_text(encoding="utf-8") for name in ("gaps.svg", "speed.svg"))
    for text in ("K = 64", "H = 16: diverged", "local steps of each worker", "costs $1", "median of 3 seeds"):
        assert text in gaps
    assert "diverged, or never there" in speed and "linear" in speed and "workers" in speed
    figures.draw(TABLES[2:], results(seeds=[0]), folders[1], NAMES)
    assert (folders[1] / "bytes.png").read_bytes() != (folders[0] / "bytes.png").read_bytes()
    assert figures.draw([], results(), tmp_path) == []


def test_nothing_to_draw(tmp_path):
    pytest.importorskip("matplotlib")
    every = [(k, h) for k in AXES[K] for h in AXES[H]]
    with pytest.raises(DataError, match="nothing can be drawn"):
        figures.draw([GAPS], results(lost=every), tmp_path)
    with pytest.raises(DataError, match="no finished run"):
        figures.draw([GAPS], results(seeds=[]), tmp_path)
    with pytest.raises(ConfigError, match='the figure "bytes" holds a formula that cannot be set'):
        figures.draw([{**TABLES[2], "title": "$\\nothing$"}], results(), tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=r'figures\.0\.y: no "consensus" was recorded'):
        figures.draw([{**GAPS, "y": "consensus"}], results(), tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nmae": "a"}, '"nmae" is not a known key of [figures.0]; did you mean "name"?'),
        ({"name": "a/b"}, "figures.0.name"),
        ({"x": "workers"}, 'figures.0.x = "workers" is neither an axis nor a series; did you mean "workers.count"?'),
        ({"y": "subotimality"}, 'figures.0.y = "subotimality" is not a known series'),
        ({"y": []}, "figures.0.y is empty"),
        ({"y": {"kind": "final"}}, "is a quantity, but x is a series"),
        ({"x": B}, "is a series, but x is an axis"),
        ({"x": B, "y": {"kind": "finale"}}, "figures.0.y.kind"),
        ({"panels": "levels"}, '"levels" is not an axis'),
        ({"lines": K}, "uses an axis twice"),
        ({"lines": []}, f'"{H}" is neither x, panels nor lines'),
        ({"select": {K: 2}}, "figures.0.select.workers.count = 2 is no cell of the grid"),
        ({"where": "K <= 4"}, "figures.0.where needs a quantity"),
        ({"logarithmic": ["z"]}, "figures.0.logarithmic"),
        ({"references": [{"label": "a"}]}, "figures.0.references.0 has to have one of"),
        ({"references": [{"label": "a", "formula": "Q"}]}, '"Q" is not a known name'),
        ({"band": "all"}, "figures.0.band"),
    ],
)
def test_bad_figures(change, said):
    with pytest.raises(ConfigError) as error:
        figures.check([{**GAPS, **change}], AXES, names=NAMES)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_does_not_fit():
    with pytest.raises(ConfigError, match="7 panels do not fit"):
        figures.check([GAPS], {**AXES, K: list(range(1, 8))})
    with pytest.raises(ConfigError, match="11 lines in one panel"):
        figures.check([GAPS], {**AXES, H: list(range(1, 12))})
    with pytest.raises(ConfigError, match=r'figures\.1\.name = "gaps" is that of another'):
        figures.check([GAPS, GAPS], AXES)
    with pytest.raises(ConfigError, match="relative_to selects 4 cells"):
        figures.check([{**SPEED, "relative_to": {K: ">= 1"}}], AXES)
