"""A study's figure on paper. Needs matplotlib."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpilocal import atomic
from mpilocal import figure as house
from mpilocal.errors import ConfigError
from mpilocal.study.figures import Figure
from mpilocal.study.lines import Page, Panel

Floats = NDArray[np.float64]
MARKERS = "os^Dv"
GREY = "#707070"
REFERENCES = ((0, (1, 1)), (0, (4, 1, 1, 1)), (0, (6, 2)), (0, (6, 1.5, 1, 1.5, 1, 1.5)))
LOST = "diverged, or never there"
BANDS = {"range": "smallest to largest", "quartiles": "the middle half"}


def save(figure: Figure, page: Page, folder: Path) -> list[Path]:
    """Draw NAME.png and NAME.svg into a folder; the same numbers give the same bytes.

    Raises:
        ConfigError: a text of the figure holds a formula, between dollar signs, that cannot be set.
        DataError: a file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Paper

    rows, columns, size = _shape(len(page.panels))
    files = [folder / f"{figure.name}.{kind}" for kind in ("png", "svg")]
    with rc_context(house.STYLE):
        paper = Paper(figsize=size, layout="constrained")
        _fill(paper, figure, page, rows, columns)
        for file, options in zip(files, ({"dpi": 200}, {"metadata": {"Date": None}}), strict=True):

            def write(temporary: Path, kind: str = file.suffix[1:], options: Any = options) -> None:
                paper.savefig(temporary, format=kind, **options)

            try:
                atomic.write(file, write)
            except ValueError as error:
                said = " ".join(str(error).split())
                raise ConfigError(f'the figure "{figure.name}" holds a formula that cannot be set: {said}') from error
    return files


def _shape(panels: int) -> tuple[int, int, tuple[float, float]]:
    """Return rows, columns and the size in inches, of a page's width at most."""
    columns = {1: 1, 2: 2, 4: 2}.get(panels, 3)
    rows = -(-panels // columns)
    width = house.SIZE[0]
    return rows, columns, (5.0, 4.0) if panels == 1 else (width, 1.0 + 2.5 * rows)


def _fill(paper: Any, figure: Figure, page: Page, rows: int, columns: int) -> None:
    grid = paper.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    order = list(dict.fromkeys(line.label for panel in page.panels for line in panel.lines))
    names = list(dict.fromkeys(one.label for panel in page.panels for one in panel.references))
    spare = list(grid.flat)[len(page.panels) :]
    for axes in spare:
        axes.remove()
    for place, (axes, panel) in enumerate(zip(grid.flat, page.panels, strict=False)):
        _draw(axes, panel, order, names, figure)
        gone = [f"{line.label}: {line.note}" if line.label else line.note for line in panel.lines if line.note]
        axes.set_title("\n".join(part for part in (panel.title, *gone) if part))
        if place + columns >= len(page.panels):
            axes.tick_params(labelbottom=True)
            if columns < 3 or place % columns == 1:  # once in three narrow columns
                axes.set_xlabel(page.x_label)
    if rows > 1:
        paper.supylabel(page.y_label, fontsize=9, ma="center")
    else:
        grid[0, 0].set_ylabel(page.y_label)
    _scales(list(grid.flat)[: len(page.panels)], figure, page)
    _legend(paper, len(page.panels), names)
    wide = 72 if len(page.panels) == 1 else 105  # letters
    said = textwrap.wrap(figure.title, wide)
    if page.seeds > 1:
        band = f", band: {BANDS[figure.band]}" if figure.band in BANDS else ""
        said.append(f"line: {figure.aggregate.replace('-', ' ')} of {page.seeds} {page.each}{band}")
    said += textwrap.wrap(page.note, wide)
    if said:
        paper.suptitle("\n".join(said), fontsize=9)


def _draw(axes: Any, panel: Panel, order: list[str], names: list[str], figure: Figure) -> None:
    looks = {label: place for place, label in enumerate(order)}
    for line in panel.lines:
        place = looks[line.label]
        colour, dashes, width = house.LINES[place % len(house.LINES)]
        points = len(line.x) <= 12
        marker = MARKERS[place % len(MARKERS)] if points or place >= len(house.LINES) else ""
        face = "white" if place >= len(house.LINES) else colour
        low, middle, high = (_drawable(one, figure) for one in (line.low, line.middle, line.high))
        axes.plot(
            line.x,
            middle,
            color=colour,
            ls=dashes,
            lw=width,
            marker=marker,
            ms=4.5,
            mfc=face,
            markevery=1 if points else max(1, len(line.x) // 8),
            label=line.label,
        )
        if np.isfinite(low).any() and not np.array_equal(low, high, equal_nan=True):
            axes.fill_between(line.x, low, high, color=colour, alpha=0.18, lw=0)
        if len(line.lost):
            top = np.full(len(line.lost), 0.97)
            axes.plot(
                line.lost, top, transform=axes.get_xaxis_transform(), color=colour, marker="x", ls="none", label=LOST
            )
    for reference in panel.references:
        colour = GREY if reference.line < 0 else house.LINES[looks[panel.lines[reference.line].label] % 5][0]
        dashes = REFERENCES[names.index(reference.label) % len(REFERENCES)]
        y = _drawable(reference.y, figure)
        axes.plot(reference.x, y, color=colour, ls=dashes, lw=1.0, label=reference.label, zorder=1.5)


def _drawable(values: Floats, figure: Figure) -> Floats:
    return np.where(values > 0, values, np.nan) if "y" in figure.logarithmic else values


def _scales(grid: list[Any], figure: Figure, page: Page) -> None:
    from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator, StrMethodFormatter

    lines = [line for panel in page.panels for line in panel.lines]
    at = np.unique(np.concatenate([line.x for line in lines]))
    for axes in grid:
        axes.margins(x=0.04)
        if "x" in figure.logarithmic and not page.ticks:
            axes.set_xscale("log", nonpositive="mask")
        if "y" in figure.logarithmic:
            axes.set_yscale("log", nonpositive="mask")
        if page.ticks:
            axes.set_xticks(range(len(page.ticks)), page.ticks)
        elif len(at) <= 8:
            axes.xaxis.set_major_locator(FixedLocator(at.tolist()))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.4g}"))
    if "y" in figure.logarithmic:
        scale = grid[0].yaxis
        low, high = grid[0].get_ylim()
        if high < 100 * low:
            scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
            scale.set_major_formatter(StrMethodFormatter("{x:g}"))
        scale.set_minor_formatter(NullFormatter())


def _legend(paper: Any, panels: int, names: list[str]) -> None:
    from matplotlib.lines import Line2D

    handles: dict[str, Any] = {}
    for axes in paper.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            if label == LOST:
                handle = Line2D([], [], color=GREY, marker="x", ls="none")
            handles.setdefault(label, handle)
    for place, name in enumerate(names):
        handles[name] = Line2D([], [], color=GREY, ls=REFERENCES[place % len(REFERENCES)], lw=1.0)
    if len(handles) > 1 or LOST in handles:
        columns = _columns(list(handles), paper.get_size_inches()[0], 3 if panels == 1 else 5)
        paper.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False, handlelength=3.2
        )


def _columns(labels: list[str], width: float, most: int) -> int:
    """Return as many columns of a legend, filled one after the other, as fit into a width in inches, at most `most`."""
    for columns in range(min(len(labels), most), 1, -1):
        rows = -(-len(labels) // columns)
        letters = [max(map(len, labels[at : at + rows])) for at in range(0, len(labels), rows)]
        if sum(0.55 + 0.075 * most_here for most_here in letters) <= width:
            return columns
    return 1
