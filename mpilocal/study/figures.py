"""The tables [[figures]] of a study's file, and the lines that they show: from the results alone, without running."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from mpilocal import figure as house
from mpilocal.config.typed import build, shown
from mpilocal.errors import ConfigError, DataError, suggest
from mpilocal.study import names as naming
from mpilocal.study import quantities, selection, series
from mpilocal.study.aggregate import How
from mpilocal.study.results import Results
from mpilocal.study.series import is_series

Table = dict[str, Any]
PANELS = 6
LINES = 10  # of a panel, that can be told apart


class Reference(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A line to compare with: one of `formula`, `slope` and `points`."""

    label: str
    formula: Annotated[str, Meta(description="Of y, in keys of the config and series: once for each line.")] = ""
    slope: Annotated[float | None, Meta(description="A power of x through the end of the first line.")] = None
    points: Annotated[list[tuple[float, float]], Meta(description="(x, y).")] = field(default_factory=list)


class Figure(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A figure of up to 6 panels."""

    name: Annotated[str, Meta(description="Of the files: NAME.png and NAME.svg.")]
    x: Annotated[str, Meta(description="A series, or an axis of the grid.")]
    y: Annotated[
        str | Table | list[str | Table], Meta(description="A series; where x is an axis, a quantity. Or several.")
    ]
    title: str = ""
    select: Annotated[Table, Meta(description="The cells, as in a claim.")] = field(default_factory=dict)
    where: Annotated[str, Meta(description="A condition on cells; needs a quantity.")] = ""
    panels: Annotated[str, Meta(description="The axis of the panels.")] = ""
    lines: Annotated[str | list[str], Meta(description="The axes of the lines.")] = field(default_factory=list)
    aggregate: Annotated[How, Meta(description="Over the seeds, the line.")] = "median"
    band: Annotated[Literal["range", "quartiles", "none"], Meta(description="Over the seeds.")] = "range"
    envelope: Annotated[bool, Meta(description="As in a claim.")] = False
    logarithmic: list[Literal["x", "y"]] = field(default_factory=lambda: ["y"])
    relative_to: Annotated[Table, Meta(description="Draw the quantity of these cells over that: a speed-up.")] = field(
        default_factory=dict
    )
    references: list[Reference] = field(default_factory=list)
    x_label: str = ""
    y_label: str = ""

    @property
    def each(self) -> list[str]:
        """Return the axes of the lines."""
        return [self.lines] if isinstance(self.lines, str) else self.lines

    @property
    def shown(self) -> list[Any]:
        """Return what is drawn, one or several."""
        return self.y if isinstance(self.y, list) else [self.y]


def parse(table: Any, axes: selection.Axes, where: str, names: Mapping[str, str]) -> Figure:
    """Return a figure from its table; `where` is its dotted key, `names` those of the study.

    Raises:
        ConfigError: a key, axis, series or quantity is not known, or x and y do not fit each other.
    """
    found = build(Figure, table, where)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", found.name):
        raise ConfigError(f"{where}.name = {shown(found.name)} is no name of a file: use letters, digits, - and _")
    if found.x not in axes and not is_series(found.x):
        known = [*axes, *series.SERIES]
        raise ConfigError(f'{where}.x = "{found.x}" is neither an axis nor a series; {suggest(found.x, known)}')
    if not found.shown:
        raise ConfigError(f"{where}.y is empty: write a series or a quantity")
    for number, one in enumerate(found.shown):
        key = f"{where}.y.{number}" if isinstance(found.y, list) else f"{where}.y"
        if found.x in axes and isinstance(one, str):
            raise ConfigError(
                f'{key} = "{one}" is a series, but x is an axis: write a quantity, as {{ kind = "final" }}'
            )
        if found.x not in axes and not isinstance(one, str):
            raise ConfigError(f"{key} = {shown(one)} is a quantity, but x is a series: write the name of a series")
        if isinstance(one, str):
            series.check(one, key)
        else:
            quantities.parse(one, key, names)
    if found.x not in axes and (found.where or found.relative_to):
        raise ConfigError(f"{where}.{'where' if found.where else 'relative_to'} needs a quantity, so an axis as x")
    for key, chosen in (("panels", [found.panels] if found.panels else []), ("lines", found.each)):
        for axis in chosen:
            selection.check_axis(axis, axes, f"{where}.{key}")
    used = [*([found.panels] if found.panels else []), *found.each, *([found.x] if found.x in axes else [])]
    if len(set(used)) < len(used):
        raise ConfigError(f"{where} uses an axis twice among x, panels and lines: {', '.join(used)}")
    if found.where:
        left, _, right = naming.split(found.where, f"{where}.where")
        for side in (left, right):
            naming.check(side, names, f"{where}.where")
    for number, reference in enumerate(found.references):
        key = f"{where}.references.{number}"
        if (bool(reference.formula), reference.slope is not None, bool(reference.points)).count(True) != 1:
            raise ConfigError(f"{key} has to have one of formula, slope and points")
        if reference.formula:
            naming.check(reference.formula, names, f"{key}.formula", more=("target",))
    return found


def check(
    tables: Any,
    axes: selection.Axes,
    cells: Iterable[Mapping[str, Any]] | None = None,
    names: Mapping[str, str] | None = None,
) -> None:
    """Refuse figures that cannot be drawn, before anything runs.

    Args:
        tables: [[figures]] of the study's file.
        axes: Axis → its values.
        cells: Axis → value of every cell; default: all combinations of the values.
        names: Short name → dotted key of the config, for formulas.

    Raises:
        ConfigError: a key, series, quantity, axis or cell is not possible, or there are too many panels or lines.
    """
    if not isinstance(tables, list):
        raise ConfigError("figures is no list of tables: write [[figures]] once for each")
    points = selection.points_at(axes, cells)
    taken: set[str] = set()
    for number, table in enumerate(tables):
        where = f"figures.{number}"
        figure = parse(table, axes, where, names or {})
        if figure.name in taken:
            raise ConfigError(f'{where}.name = "{figure.name}" is that of another figure: give each its own')
        taken.add(figure.name)
        chosen = selection.select(points, figure.select, axes, f"{where}.select")
        check_layout(figure, chosen, where)
        if figure.relative_to:
            base = selection.select(points, figure.relative_to, axes, f"{where}.relative_to")
            for point in chosen:
                base_of(point, base, figure, where)


def check_layout(figure: Figure, chosen: Sequence[selection.Point], where: str) -> None:
    """Refuse what does not fit on a page, and lines of more than one cell at a place (ConfigError)."""
    for group in selection.by(chosen, [figure.panels, *figure.each, figure.x]).values():
        if len(group) > 1:
            free = selection.varying(group)[0]
            raise ConfigError(f'{where}: "{free}" is neither x, panels nor lines: select one of its values')
    panels = panelled(figure, chosen)
    if len(panels) > PANELS:
        raise ConfigError(f"{where}.panels: {len(panels)} panels do not fit on a page: select {PANELS} at most")
    for group in panels:
        lines = len(selection.grouped(group, [figure.x])) * len(figure.shown)
        if lines > LINES:
            raise ConfigError(f"{where}: {lines} lines in one panel cannot be told apart: select {LINES} at most")


def panelled(figure: Figure, chosen: Sequence[selection.Point]) -> list[list[selection.Point]]:
    """Return the cells of each panel."""
    return list(selection.by(chosen, [figure.panels]).values())


def base_of(point: selection.Point, base: Sequence[selection.Point], figure: Figure, where: str) -> selection.Point:
    """Return the cell over which one is drawn (ConfigError unless there is just one)."""
    found = [one for one in base if one.key == point.key]
    found += [other for _, other in selection.pairs([point], base, figure.relative_to)]
    if len(found) != 1:
        raise ConfigError(f"{where}.relative_to selects {len(found)} cells for one that is drawn: select one for each")
    return found[0]


def draw(
    tables: Sequence[Any], results: Results, folder: str | Path, names: Mapping[str, str] | None = None
) -> list[Path]:
    """Draw the figures of a study, each as PNG and as SVG.

    Returns:
        The files, NAME.png and NAME.svg of each.

    Raises:
        ConfigError: as `check`, a series was not recorded, or matplotlib is not installed.
        DataError: a file cannot be written, or nothing can be drawn.
    """
    if not tables:
        return []
    if not house.possible():
        raise ConfigError("figures need matplotlib: pip install matplotlib, or the extra `plots` of mpilocal")
    if not results.runs:
        raise DataError("the study has no finished run to draw: wait for one")
    from mpilocal.study import drawing, lines

    files = []
    for number, table in enumerate(tables):
        where = f"figures.{number}"
        figure = parse(table, results.axes, where, names or {})
        files += drawing.save(figure, lines.panels_of(figure, results, names or {}, where), Path(folder))
    return files
