"""Which cells a claim or a figure is about.

A selection is a table of axis → value, list of values, condition on a number (`"<= 16"`), `"smallest"` or `"largest"`;
an axis that it does not name has all its values. A value of the axis itself comes before all of these.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mpilocal.config.typed import shown
from mpilocal.errors import ConfigError, suggest
from mpilocal.study.names import RELATIONS, Known
from mpilocal.study.quantities import Quantity, row
from mpilocal.study.results import Results, Run

Axes = Mapping[str, Sequence[Any]]
MOST = 100_000


class Point(NamedTuple):
    """A cell with its reported runs, in the order of the seeds; several cells where they are pooled, in their order."""

    key: dict[str, Any]
    runs: list[Run]

    @property
    def samples(self) -> list[list[Run]]:
        """Return the runs of which each gives one number: those of a pooled cell together, else each alone."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(_text(run.cell), []).append(run)
        return list(found.values()) if len(found) > 1 else [[run] for run in self.runs]

    @property
    def drawn(self) -> list[tuple[str, int]]:
        """Return what a run is paired by with those of other cells: the axes that are pooled, and the seed."""
        rest = [{axis: value for axis, value in run.cell.items() if axis not in self.key} for run in self.runs]
        return [(_text(one), run.seed) for one, run in zip(rest, self.runs, strict=True)]


def points_of(results: Results) -> list[Point]:
    """Return the cells in the order of the results."""
    found: dict[str, Point] = {}
    for run in results.runs:
        if run.role == "report":
            key = unpooled(run.cell, results.pool)
            found.setdefault(_text(key), Point(key, [])).runs.append(run)
    for point in found.values():
        point.runs.sort(key=lambda run: (_text(run.cell), run.seed))
    return list(found.values())


def unpooled(cell: Mapping[str, Any], pool: Sequence[str]) -> dict[str, Any]:
    """Return axis → value of a cell without the axes that are pooled."""
    return {axis: value for axis, value in cell.items() if axis not in pool}


def points_at(axes: Axes, cells: Iterable[Mapping[str, Any]] | None) -> list[Point]:
    """Return cells without runs: `cells`, or all combinations of the values of the axes."""
    if cells is None:
        if math.prod(map(len, axes.values())) > MOST:
            return []
        cells = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return [Point(dict(key), []) for key in cells]


def check(table: Mapping[str, Any], axes: Axes, where: str) -> None:
    """Refuse a selection of axes or values that the grid does not have (ConfigError)."""
    for axis, wanted in table.items():
        check_axis(axis, axes, where)
        _values(axis, wanted, axes, where)


def check_axis(axis: str, axes: Axes, where: str) -> None:
    """Refuse what is no axis (ConfigError)."""
    if axis not in axes:
        raise ConfigError(f'{where}: "{axis}" is not an axis of the grid; {suggest(axis, axes)}')


def select(points: Sequence[Point], table: Mapping[str, Any], axes: Axes, where: str) -> list[Point]:
    """Return the cells of a selection (ConfigError where there is none)."""
    check(table, axes, where)
    allowed = {axis: [_text(one) for one in _values(axis, wanted, axes, where)] for axis, wanted in table.items()}
    found = [
        point
        for point in points
        if all(axis in point.key and _text(point.key[axis]) in values for axis, values in allowed.items())
    ]
    if points and not found:
        raise ConfigError(f"{where} = {shown(table)} selects no cell of the grid: correct it")
    return found


def where_holds(
    points: Sequence[Point], condition: str, quantity: Quantity, names: Mapping[str, str], where: str
) -> list[Point]:
    """Return the cells whose runs all meet a condition, "" being none; series are taken where the quantity is."""
    if not condition:
        return list(points)
    return [
        point
        for point in points
        if all(Known(run, names, row(quantity, run, where)).holds(condition, where) for run in point.runs)
    ]


def grouped(points: Sequence[Point], apart: Iterable[str]) -> dict[str, list[Point]]:
    """Return the cells that differ on the axes `apart` alone, together: their other axes, as text → cells."""
    dropped = set(apart)
    axes = dict.fromkeys(axis for point in points for axis in point.key)
    return by(points, [axis for axis in axes if axis not in dropped])


def by(points: Iterable[Point], axes: Iterable[str]) -> dict[str, list[Point]]:
    """Return the cells that agree on these axes, together: the axes, as text → cells."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(_text({axis: point.key.get(axis) for axis in axes}), []).append(point)
    return found


def pairs(ones: Sequence[Point], others: Sequence[Point], apart: Iterable[str]) -> list[tuple[Point, Point]]:
    """Return the pairs of two different cells that agree on all axes which both have, those `apart` left out."""
    dropped = set(apart)
    return [
        (one, other)
        for one in ones
        for other in others
        if all(_text(one.key[axis]) == _text(other.key[axis]) for axis in (one.key.keys() & other.key.keys()) - dropped)
        and _text(one.key) != _text(other.key)
    ]


def varying(points: Sequence[Point], apart: Iterable[str] = ()) -> list[str]:
    """Return the axes on which the cells differ, those `apart` left out."""
    dropped = set(apart)
    axes = list(dict.fromkeys(axis for point in points for axis in point.key if axis not in dropped))
    return [axis for axis in axes if len({_text(point.key.get(axis)) for point in points}) > 1]


def named(point: Point, axes: Iterable[str], names: Mapping[str, str]) -> str:
    """Return what tells a cell from others: `K = 4, H = 16`, by the names of the study or the last parts of keys."""
    short = {dotted: name for name, dotted in names.items()}
    return ", ".join(
        shown_value(point.key[axis])
        if axis == "variant"
        else f"{short.get(axis) or axis.rpartition('.')[2]} = {shown_value(point.key[axis])}"
        for axis in axes
        if axis in point.key
    )


def shown_value(value: Any) -> str:
    """Return a value of an axis in words."""
    return value if isinstance(value, str) else shown(value)


def is_number(value: Any) -> bool:
    """Return whether a value of an axis is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def place(value: Any, values: Sequence[Any]) -> float:
    """Return where a value stands on its axis: itself where all are numbers, else its place in the grid."""
    return float(value) if all(map(is_number, values)) else float([_text(one) for one in values].index(_text(value)))


def _values(axis: str, wanted: Any, axes: Axes, where: str) -> list[Any]:
    known = {_text(value): value for value in axes[axis]}
    if _text(wanted) in known:
        return [wanted]
    if isinstance(wanted, list) and wanted:
        return [one for item in wanted for one in _values(axis, item, axes, where)]
    numbers = [value for value in axes[axis] if is_number(value)]
    if wanted in ("smallest", "largest") and numbers:
        return [min(numbers) if wanted == "smallest" else max(numbers)]
    parts = re.fullmatch(r"\s*(<=|>=|<|>)\s*(\S+)\s*", wanted) if isinstance(wanted, str) else None
    if parts and (limit := _number(parts[2])) is not None:
        found = [value for value in numbers if RELATIONS[parts[1]](value, limit)]
        if not found:
            raise ConfigError(f"{where}.{axis} = {shown(wanted)} holds for no value of this axis: {_list(axes[axis])}")
        return found
    raise ConfigError(f"{where}.{axis} = {shown(wanted)} is no cell of the grid: this axis has {_list(axes[axis])}")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _list(values: Sequence[Any]) -> str:
    return ", ".join(map(shown, values))


def _text(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return json.dumps(int(value) if whole else value, sort_keys=True)
