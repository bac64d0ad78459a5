"""The figure of a run, and the progress line."""

from __future__ import annotations

import io
import math
from typing import Any, NamedTuple

import numpy as np
import pytest

from mpilocal import config as configs
from mpilocal import figure, progress
from mpilocal.errors import ConfigError, DataError

STEP = {"kind": "inverse-time", "scale": 2.0}


class Run(NamedTuple):
    config: configs.Config
    history: dict[str, Any]
    facts: dict[str, Any]


def made(records=30, *, optimum=True, averages=(), **columns):
    """A run that decreases like 1/round."""
    rounds = np.arange(records) * 10
    gap = 1 / (1.0 + rounds)
    history = {"round": rounds, "samples": rounds * 1_000_000, "objective": 0.3 + gap, "gradient_norm": gap}
    history |= {"level1/bytes": rounds * 2400, "timings/loop_max": rounds * 1e-3}
    for name in averages:
        history[f"objective_{name}"] = 0.3 + 2 * gap
    if optimum:
        for name in [name for name in history if name.startswith("objective")]:
            history[name.replace("objective", "suboptimality")] = history[name] - 0.3
    config = configs.convert(
        {
            "data": {"source": "/data/$HOME_w8a.h5"},
            "problem": {"l2": "1/n"},
            "workers": {"count": 4},
            "algorithm": {"rounds": 300, "step_size": STEP},
        }
    )
    return Run(config, history | columns, {"rows": 100, "features": 3})


@pytest.mark.parametrize(
    "run",
    [
        made(averages=("uniform", "quadratic")),
        made(optimum=False),
        made(1),
        made(1, optimum=False),
        made(suboptimality=np.zeros(30)),
        made(suboptimality=np.full(30, -1e-17), gradient_norm=np.zeros(30)),
        made(averages=[f"{kind}_{n}" for kind in ("tail", "linear") for n in range(4)]),
    ],
)
def test_draw(run, tmp_path):
    pytest.importorskip("matplotlib")
    png, svg = figure.draw(run, tmp_path / "run.v2.png")
    assert (png, svg) == (tmp_path / "run.v2.png", tmp_path / "run.v2.svg")
    assert png.read_bytes().startswith(b"\x89PNG") and png.stat().st_size > 10_000
    text = svg.read_text()
    for words in ("rounds", "samples of all workers", "payload sent by all workers", "seconds of local steps"):
        assert words in text
    assert "w8a.h5 (100 × 3), λ = 1/n" in text and "step size inverse-time (scale 2)" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.v2.png", "run.v2.svg"]


def test_what_is_drawn():
    label, lines = figure.what(made(averages=("uniform",)))
    assert "F^*" in label and [line.label for line in lines] == ["last iterate", "uniform average"]
    label, lines = figure.what(made(optimum=False))
    assert "the optimum is not known" in label
    assert np.isnan(lines[0].values[-1]) and np.all(lines[0].values[:-1] > 0)  # the least value itself has no logarithm
    flat = made(optimum=False, objective=np.full(30, 0.3))
    assert "nabla" in figure.what(flat)[0]


def test_axes_have_units():
    titles = [title for title, _ in figure.axes(made().history)]
    assert titles[1:3] == ["samples of all workers [millions]", "payload sent by all workers [kB]"]
    titles = [title for title, _ in figure.axes(made(2).history | {"samples": np.array([0, 9])})]
    assert titles[1] == "samples of all workers"


def test_what_cannot_be_drawn(tmp_path, monkeypatch):
    empty = made()._replace(history={})
    monkeypatch.setattr(figure, "possible", lambda: True)
    with pytest.raises(DataError, match="no recorded round"):
        figure.draw(empty, tmp_path / "x.png")
    monkeypatch.setattr(figure, "possible", lambda: False)
    with pytest.raises(ConfigError, match="needs matplotlib: pip install matplotlib"):
        figure.draw(made(), tmp_path / "x.png")


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


class Broken(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


def rows(count, step=10):
    return ({"round": n * step, "objective": 0.5, "suboptimality": 1 / (n + 1)} for n in range(count))


def test_plain_lines_come_every_so_often():
    stream, time = io.StringIO(), [0.0]
    told = progress.Progress(1000, 0, stream, now=lambda: time[0])
    for row in rows(100):
        told(row)
        time[0] += 1.0
    told.close()
    told.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[0] == "round 0/1000   suboptimality 1.0000e+00"
    assert lines[1] == "round 100/1000   suboptimality 9.0909e-02   10 rounds/s   1:30 left"
    assert lines[-1].startswith("round 990/1000")  # the last state, when it was not due


def test_a_terminal_has_a_bar():
    stream, time = Terminal(), [0.0]
    told = progress.Progress(100, 0, stream, now=lambda: time[0])
    for row in rows(11):
        told(row)
        time[0] += 1.0
    told.close()
    shown = stream.getvalue()
    assert shown.count("\r") == 11 and shown.endswith("\n") and "100 % round 100/100" in shown
    assert progress.bar(0.5, io.StringIO()) == "##########..........  50 %"


def test_nobody_needs_to_watch():
    told = progress.Progress(100, 0, Broken())
    for row in rows(3):
        told(row)
    told.close()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0:00"), (6.2, "0:07"), (754, "12:34"), (3 * 3600, "3:00:00"), (2 * 86400 + 5 * 3600, "2 days 5:00")],
)
def test_clock(seconds, said):
    assert progress.clock(seconds) == said
    assert math.ceil(seconds) >= 0
