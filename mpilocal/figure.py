"""The figure of a run: how far from the optimum, against rounds, samples, bytes and seconds. Needs matplotlib."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mpilocal import atomic
from mpilocal.config.structs import Config
from mpilocal.errors import ConfigError, DataError

Column = NDArray[Any]

SIZE = (7.2, 5.4)  # inches: the width of a page
# Dark to light, so that the lines differ in grey too; their dashes differ as well.
LINES: tuple[tuple[str, Any, float], ...] = (
    ("#1b1b1b", "-", 1.8),
    ("#0060a8", (0, (5, 1.5)), 1.5),
    ("#c1440e", (0, (1.2, 1.2)), 1.8),
    ("#3f8f4f", (0, (5, 1.5, 1.2, 1.5)), 1.5),
    ("#8a6bb0", (0, (8, 3)), 1.5),
)
BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes"))
COUNTS = ((1e9, "billions"), (1e6, "millions"), (1.0, ""))
STYLE: Any = {
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#d0d0d0",
    "grid.linewidth": 0.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "mpilocal",
}


class Drawn(Protocol):
    """What can be drawn: a `Result`."""

    @property
    def config(self) -> Config:
        """What ran."""

    @property
    def history(self) -> dict[str, Column]:
        """Columns by name, (records,)."""

    @property
    def facts(self) -> dict[str, Any]:
        """What was resolved."""


class Line(NamedTuple):
    """One line of every panel."""

    label: str
    values: NDArray[np.float64]  # (records,) NaN where there is nothing to show on a logarithmic axis


def possible() -> bool:
    """Return whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(run: Drawn, path: str | Path) -> list[Path]:
    """Draw a run, as PNG and as SVG.

    Args:
        run: A result with at least one recorded round.
        path: Where to, with any suffix: the files are `path` with .png and with .svg.

    Returns:
        The two files.

    Raises:
        ConfigError: matplotlib is not installed.
        DataError: nothing is recorded yet, or a file cannot be written.
    """
    if not possible():
        raise ConfigError("the figure needs matplotlib: pip install matplotlib, or the extra `plots` of mpilocal")
    if not len(run.history.get("round", ())):
        raise DataError("the run has no recorded round to draw: wait for one")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    path = Path(path)
    stem = path.with_suffix("") if path.suffix.lower() in (".png", ".svg", ".pdf") else path
    files = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
    with rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        _fill(figure, run)
        for file, options in zip(files, ({"dpi": 200}, {"metadata": {"Date": None}}), strict=True):

            def save(temporary: Path, kind: str = file.suffix[1:], options: Any = options) -> None:
                figure.savefig(temporary, format=kind, **options)

            atomic.write(file, save)
    return files


def _fill(figure: Any, run: Drawn) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    label, lines = what(run)
    panels = figure.subplots(2, 2, sharey=True)
    for panel, (title, along) in zip(panels.flat, axes(run.history), strict=True):
        for line, (colour, dashes, width) in zip(lines, _styles(len(lines)), strict=True):
            one = len(along) == 1
            panel.plot(
                along, line.values, color=colour, ls=dashes, lw=width, label=line.label, marker="o" if one else ""
            )
        panel.set_xlabel(title)
        panel.set_yscale("log")
        panel.margins(x=0.03)
        panel.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    values = np.concatenate([line.values for line in lines])
    scale = panels[0, 0].yaxis
    values = values[np.isfinite(values)]
    if values.max(initial=0.0) < 100 * values.min(initial=math.inf):
        scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
        scale.set_major_formatter(StrMethodFormatter("{x:g}"))
    scale.set_minor_formatter(NullFormatter())
    for panel in panels[:, 0]:
        panel.set_ylabel(label)
    if len(lines) > 1:
        panels[0, 0].legend(frameon=False, handlelength=3.2)
    figure.suptitle(title_of(run), fontsize=9)


def _styles(count: int) -> Iterator[tuple[str, Any, float]]:
    for number in range(count):
        yield LINES[number % len(LINES)]


def what(run: Drawn) -> tuple[str, list[Line]]:
    """Return the label of the vertical axis, and the lines: the last iterate and the averages of iterates.

    F − F* where the optimum is known. Otherwise F − min F, the least value that the run has seen, which shows the
    decrease but is no distance; or ‖∇F‖ where F never falls.
    """
    history = run.history
    for name, label in (("suboptimality", "$F(\\bar x) - F^*$"), ("objective", "")):
        columns = {key: column for key, column in history.items() if key == name or key.startswith(f"{name}_")}
        if not columns:
            continue
        least = 0.0
        if name == "objective":
            least = min(float(np.nanmin(column)) for column in columns.values())
            label = "$F(\\bar x)$ − least $F$ of this run\n(the optimum is not known)"
        lines = []
        for key, column in sorted(columns.items()):
            values = _positive(np.asarray(column, np.float64) - least)
            lines.append(Line(key.removeprefix(name).lstrip("_").replace("_", " ") or "last iterate", values))
        if any(np.isfinite(line.values).sum() >= min(2, len(line.values)) for line in lines):
            named = [
                line if line.label == "last iterate" else line._replace(label=f"{line.label} average") for line in lines
            ]
            return label, named
    return "$\\|\\nabla F(\\bar x)\\|$", [
        Line("last iterate", _positive(np.asarray(history["gradient_norm"], np.float64)))
    ]


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values > 0, values, np.nan)


def axes(history: Mapping[str, Column]) -> list[tuple[str, Column]]:
    """Return title and values of the four horizontal axes."""
    sent = np.sum([column for name, column in history.items() if name.endswith("/bytes")], axis=0, dtype=np.float64)
    seconds = history.get("timings/loop_max", np.full(len(history["round"]), math.nan))
    size, unit = _unit(float(np.max(sent, initial=0.0)), BYTES)
    many, count = _unit(float(np.max(history["samples"], initial=0)), COUNTS)
    return [
        ("rounds", history["round"]),
        (f"samples of all workers{count and f' [{count}]'}", history["samples"] / many),
        (f"payload sent by all workers [{unit}]", np.broadcast_to(sent / size, history["round"].shape)),
        ("seconds of local steps and averaging", seconds),
    ]


def _unit(most: float, units: Sequence[tuple[float, str]]) -> tuple[float, str]:
    return next((unit for unit in units if most >= unit[0]), (1.0, units[-1][1]))


def title_of(run: Drawn) -> str:
    """Return what ran, in two lines."""
    config, algorithm = run.config, run.config.algorithm
    source = config.data.source
    name = source if source.startswith(("sklearn:", "synthetic:")) else Path(source).name
    problem = f"{config.problem.loss} loss on {name}"
    if "rows" in run.facts:
        problem += f" ({run.facts['rows']:,} × {run.facts['features']:,})"
    if config.problem.l2:
        problem += f", λ = {config.problem.l2}"
    method = f"{algorithm.name}: {config.workers.count} workers, {brief(algorithm.local_steps)} local steps, "
    method += f"batch {algorithm.batch}, step size {brief(algorithm.step_size)}"
    return f"{_literal(problem)}\n{_literal(method)}"


def brief(value: Any) -> str:
    """Return a number, or a table of the config as its kind and options: inverse-time (scale 2)."""
    if not isinstance(value, Mapping):
        return f"{value:g}" if isinstance(value, float) else str(value)
    options = ", ".join(f"{key} {brief(item)}" for key, item in value.items() if key != "kind")
    return str(value.get("kind", "table")) + (f" ({options})" if options else "")


def _literal(text: str) -> str:
    """Return text in which a dollar sign begins no formula."""
    return text.replace("$", "\\$")
