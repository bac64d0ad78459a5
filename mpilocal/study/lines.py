"""What a figure shows: its panels and lines as numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpilocal.errors import DataError
from mpilocal.study import envelope, selection
from mpilocal.study.aggregate import aggregate
from mpilocal.study.figures import Figure, Reference, base_of, check_layout, panelled
from mpilocal.study.formula import NoValue
from mpilocal.study.measure import Cells
from mpilocal.study.names import Known, definitions
from mpilocal.study.quantities import Quantity, parse, verdict
from mpilocal.study.results import Results
from mpilocal.study.selection import Point
from mpilocal.study.series import average_of, column, label_of, lost

Floats = NDArray[np.float64]
NONE = np.empty(0)
MOST = 200  # points at which a formula over a series is evaluated


class Line(NamedTuple):
    """A line of a panel; all of one length, NaN where there is nothing to show."""

    label: str
    x: Floats
    middle: Floats
    low: Floats
    high: Floats
    lost: Floats  # x of cells that diverged, or never came there
    note: str = ""  # what became of runs of a curve that diverged or failed


class Drawn(NamedTuple):
    """A reference line."""

    label: str
    x: Floats
    y: Floats
    line: int  # the line of the panel to which it belongs, −1: to all


class Panel(NamedTuple):
    """A panel."""

    title: str
    lines: list[Line]
    references: list[Drawn]


class Page(NamedTuple):
    """All that is drawn of a figure."""

    panels: list[Panel]
    x_label: str
    y_label: str
    ticks: list[str]  # labels of the places 0, 1, …, where x is an axis of no numbers
    seeds: int  # or pooled cells
    each: str  # what there are so many of
    note: str  # what names in its formulas stand for


def panels_of(figure: Figure, results: Results, names: Mapping[str, str], where: str) -> Page:
    """Return the numbers of a figure.

    Raises:
        ConfigError: as `figures.check`, or a series was not recorded.
        DataError: nothing can be drawn.
    """
    results = envelope.of(results) if figure.envelope else results
    points = selection.points_of(results)
    chosen = selection.select(points, figure.select, results.axes, f"{where}.select")
    check_layout(figure, chosen, where)
    along_axis = figure.x in results.axes
    shown: list[Quantity | str] = []
    for number, one in enumerate(figure.shown):
        key = f"{where}.y.{number}" if isinstance(figure.y, list) else f"{where}.y"
        shown.append(one if isinstance(one, str) else parse(one, key, names))
    if along_axis:
        chosen = [point for point in chosen if figure.x in point.key]
    if figure.where and isinstance(shown[0], Quantity):
        chosen = selection.where_holds(chosen, figure.where, shown[0], names, f"{where}.where")
    many = len(shown) > 1
    panels = []
    for group in panelled(figure, chosen):
        title = _literal(selection.named(group[0], [figure.panels], names)) if figure.panels else ""
        panel = Panel(title, [], [])
        for cells in selection.by(group, figure.each).values():
            if along_axis:
                cells.sort(key=lambda point: _place(point, figure, results))
            name = _literal(selection.named(cells[0], figure.each, names))
            for one in shown:
                label = ", ".join(part for part in (name, _short(one) if many else "") if part)
                if isinstance(one, str):
                    panel.lines.append(_curve(figure, cells[0], one, label, where))
                else:
                    measure = Cells(one, figure.aggregate, names, f"{where}.y")
                    panel.lines.append(_quantity(figure, cells, measure, label, results, points, where))
                _formulas(figure, panel, cells, one, names, where)
        panel.references.extend(_fixed(figure.references, panel.lines))
        panels.append(panel)
    if not any(np.isfinite(line.middle).any() or len(line.lost) for panel in panels for line in panel.lines):
        raise DataError(f"{where}: nothing can be drawn: no selected run has a value")
    ticks: list[str] = []
    if along_axis and not all(map(selection.is_number, results.axes[figure.x])):
        ticks = [_literal(selection.shown_value(value)) for value in results.axes[figure.x]]
    seeds = max(len(point.samples) for point in chosen)
    return Page(
        panels,
        figure.x_label or label_of(figure.x),
        figure.y_label or _y_label(figure, shown, names),
        ticks,
        seeds,
        "draws" if results.pool else "seeds",
        _literal(", ".join([*_targets(shown), *definitions(_texts(figure, shown), names)])),
    )


def _targets(shown: Sequence[Quantity | str]) -> list[str]:
    goals = {f"target = {one.goal:g}" for one in shown if isinstance(one, Quantity) and not math.isnan(one.goal)}
    return sorted(goals) if len(goals) == 1 else []


def _texts(figure: Figure, shown: Sequence[Quantity | str]) -> list[str]:
    """Return all formulas of a figure."""
    quantities = [one for one in shown if isinstance(one, Quantity)]
    found = [text for one in quantities for text in (one.cost, one.times)]
    return [*found, figure.where, *(reference.formula for reference in figure.references)]


def _y_label(figure: Figure, shown: Sequence[Quantity | str], names: Mapping[str, str]) -> str:
    labels = list(dict.fromkeys(label_of(one) if isinstance(one, str) else one.label for one in shown))
    said = labels[0]
    if len(labels) > 1:
        named = [one for one in shown if isinstance(one, str)]
        said = label_of("suboptimality") if named and all(one.startswith("suboptimality") for one in named) else "value"
    if figure.relative_to:
        base = selection.named(Point(figure.relative_to, []), figure.relative_to, names)
        said = f"{said},\nof {_literal(base)} over that"
    return said


def _place(point: Point, figure: Figure, results: Results) -> float:
    return selection.place(point.key[figure.x], results.axes[figure.x])


def _short(name: Quantity | str) -> str:
    """Return what tells suboptimality and suboptimality_uniform apart."""
    if isinstance(name, Quantity):
        return name.label
    if name in ("suboptimality", "objective"):
        return "last iterate"
    return average_of(name) or label_of(name)


def _curve(figure: Figure, point: Point, name: str, label: str, where: str) -> Line:
    """Return a series over another; it goes as far as half of the seeds do, those that ended staying where they did."""
    runs = [run for run in point.runs if not lost(run)]
    said = verdict(point.runs)
    if not runs:
        return Line(label, NONE, NONE, NONE, NONE, NONE, said)
    xs = [column(run, figure.x, f"{where}.x") for run in runs]
    ys = [column(run, name, f"{where}.y") for run in runs]
    records = sorted(map(len, xs), reverse=True)[(len(xs) + 1) // 2 - 1]
    middle, low, high = (np.full(records, math.nan) for _ in range(3))
    x = np.full(records, math.nan)
    for at in range(records):
        here = [place for place in range(len(xs)) if at < len(xs[place])]
        x[at] = np.median([xs[place][at] for place in here])
        middle[at], low[at], high[at] = _spread(figure, np.array([y[min(at, len(y) - 1)] for y in ys]))
    return Line(label, x, middle, low, high, NONE, said)


def _quantity(
    figure: Figure,
    cells: Sequence[Point],
    measure: Cells,
    label: str,
    results: Results,
    points: Sequence[Point],
    where: str,
) -> Line:
    """Return a quantity along an axis."""
    x = np.array([_place(point, figure, results) for point in cells])
    found = np.full((len(cells), 3), math.nan)
    gone = []
    for place, point in enumerate(cells):
        seeds = measure.values(point)
        if figure.relative_to:
            base = selection.select(points, figure.relative_to, results.axes, f"{where}.relative_to")
            with np.errstate(invalid="ignore", divide="ignore"):
                top = aggregate(measure.values(base_of(point, base, figure, where)), measure.how)
                seeds = np.where(np.isfinite(seeds), top / seeds, math.inf)
        found[place] = _spread(figure, seeds)
        if not math.isfinite(found[place, 0]):
            gone.append(x[place])
    return Line(label, x, found[:, 0], found[:, 1], found[:, 2], np.array(gone))


def _spread(figure: Figure, values: Floats) -> tuple[float, float, float]:
    """Return the middle of the seeds and the ends of their band, NaN where they are not finite."""
    ordered = np.sort(values)
    ends = {"range": (0.0, 1.0), "quartiles": (0.25, 0.75), "none": (math.nan, math.nan)}[figure.band]
    found = [float(aggregate(values, figure.aggregate))]
    for share in ends:
        whole = np.isfinite(ordered).all() and not math.isnan(share)
        found.append(float(np.quantile(ordered, share)) if whole else math.nan)
    middle, low, high = (one if math.isfinite(one) else math.nan for one in found)
    return middle, low, high


def _formulas(
    figure: Figure, panel: Panel, cells: Sequence[Point], one: Quantity | str, names: Mapping[str, str], where: str
) -> None:
    """Add the references by formula of the panel's newest line; one that is the same for all lines stands once."""
    line = panel.lines[-1]
    for number, reference in enumerate(figure.references):
        if not reference.formula:
            continue
        key = f"{where}.references.{number}.formula"
        if isinstance(one, str):
            run = next((run for run in cells[0].runs if not lost(run)), None)
            records = len(column(run, "round")) if run else 0
            places = np.unique(np.linspace(0, max(records - 1, 0), min(records, MOST)).astype(int))
            x = column(run, figure.x)[places] if run else NONE
            y = [_value(Known(run, names, int(at)), reference.formula, key) for at in places] if run else []
        else:
            measure = Cells(one, figure.aggregate, names, f"{where}.y")
            x = line.x
            values = [measure.formula(reference.formula, point, key) for point in cells]
            y = [math.nan if value is None or math.isinf(value) else value for value in values]
        drawn = Drawn(reference.label, x, np.array(y, np.float64), len(panel.lines) - 1)
        _add(panel, drawn)


def _value(known: Known, formula: str, where: str) -> float:
    """Return the value of a formula, NaN where it has none, as at step 0."""
    try:
        return known.evaluate(formula, where)
    except NoValue:
        return math.nan


def _add(panel: Panel, drawn: Drawn) -> None:
    for place, other in enumerate(panel.references):
        same = other.label == drawn.label and len(other.x) == len(drawn.x)
        if same and np.allclose(other.x, drawn.x) and np.allclose(other.y, drawn.y, rtol=1e-9, atol=0, equal_nan=True):
            panel.references[place] = other._replace(line=-1)
            return
    panel.references.append(drawn)


def _fixed(references: Sequence[Reference], lines: Sequence[Line]) -> list[Drawn]:
    """Return the references that no formula gives."""
    found = []
    for reference in references:
        if reference.points:
            x, y = np.array(reference.points, np.float64).T
            found.append(Drawn(reference.label, x, y, -1))
        elif reference.slope is not None:
            for line in lines:
                good = np.flatnonzero(np.isfinite(line.middle) & (line.middle > 0) & (line.x > 0))
                if len(good) > 1:
                    x, end = line.x[good], good[-1]
                    y = line.middle[end] * (x / line.x[end]) ** reference.slope
                    found.append(Drawn(reference.label, x, y, -1))
                    break
    return found


def _literal(text: str) -> str:
    """Return values of the grid so that a dollar sign begins no formula."""
    return text.replace("$", "\\$")
