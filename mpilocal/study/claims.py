"""The claims of a study beside what was measured: what holds, what does not, and what that rests on."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mpilocal.config.typed import shown
from mpilocal.study import claim_kinds as kinds
from mpilocal.study import envelope, selection
from mpilocal.study.claim_kinds import AnyClaim, Bound, Compared, Every, Ordering, Parted, Ratio, Slope, Told, check
from mpilocal.study.measure import Cells, Measured, fit, met, quotient, related, spread
from mpilocal.study.names import definitions
from mpilocal.study.quantities import parse, verdict
from mpilocal.study.reference import told
from mpilocal.study.results import Results
from mpilocal.study.selection import Point
from mpilocal.study.series import is_series

WIDTH = 120
HEAD = ("claim", "predicted", "measured", "holds", "rests on")
SIGNS = {"at_most": "≤", "at_least": "≥", "equals": "=", "<=": "≤", ">=": "≥", "<": "<", ">": ">"}
SHOWN = 4  # cells, one by one; of more, the range


class Row(NamedTuple):
    """A claim as the table shows it."""

    claim: str
    predicted: str
    measured: str
    holds: bool | None  # None: only an observation
    rests: str


class Part(NamedTuple):
    """What was found in one place of a claim."""

    label: str
    text: str
    value: float
    holds: bool


def evaluate(tables: Sequence[Any], results: Results, names: Mapping[str, str] | None = None) -> list[Row]:
    """Return a row for each claim.

    Raises:
        ConfigError: as `check`, or a series was not recorded.
    """
    names = names or {}
    return [_row(kinds.parse(table, f"claims.{at}", names), results, names, at) for at, table in enumerate(tables)]


def _row(claim: AnyClaim, results: Results, names: Mapping[str, str], number: int) -> Row:
    where = f"claims.{number}"
    results = envelope.of(results) if claim.envelope else results
    quantity = parse(claim.quantity, f"{where}.quantity", names)
    points = selection.points_of(results)
    cells = Cells(quantity, claim.aggregate, names, f"{where}.quantity")
    chosen = selection.select(points, claim.select, results.axes, f"{where}.select")
    chosen = selection.where_holds(chosen, claim.where, quantity, names, f"{where}.where")
    if isinstance(claim, Told):
        holds, measured = told(claim, cells, chosen, results, where)
        return Row(claim.claim, _predicted(claim, ()), measured, None if claim.observe else holds, claim.rests)
    parts = _parts(claim, cells, chosen, points, results, where)
    holds = bool(parts) and all(part.holds for part in parts)
    measured = _said(parts)
    if isinstance(claim, Bound) and parts:
        apart = spread([part.value for part in parts])
        if claim.within is not None:
            holds = apart <= claim.within
            measured = f"largest over smallest {apart:.4g}: {measured}"
    predicted = _predicted(claim, _formulas(claim, cells, chosen, points, results, where))
    if isinstance(claim, Bound):
        predicted += _vacuous(claim, cells, chosen, where)
    return Row(claim.claim, predicted, measured, None if claim.observe else holds, claim.rests)


def _parts(
    claim: Parted, cells: Cells, chosen: list[Point], points: list[Point], results: Results, where: str
) -> list[Part]:
    if isinstance(claim, Bound):
        label = _labels(chosen, cells.names)
        found = [cells.measure(point) for point in chosen]
        return [_part(claim, cells, label(at), one, at, where) for one, at in zip(found, chosen, strict=True)]
    if isinstance(claim, Ratio):
        two = _over(claim, chosen, points, results, where)
        label = _labels([one for one, _ in two], cells.names)
        return [_part(claim, cells, label(one), quotient(cells, one, other), one, where) for one, other in two]
    if isinstance(claim, Slope):
        return _slopes(claim, cells, chosen, results, where)
    if isinstance(claim, Every):
        return _compared(claim, cells, chosen, points, results, where)
    return _ordered(claim, cells, chosen, points, results, where)


def _over(
    claim: Ratio, chosen: Sequence[Point], points: Sequence[Point], results: Results, where: str
) -> list[tuple[Point, Point]]:
    """Return the pairs of cells of which a ratio is taken."""
    ones, others = (_among(chosen, points, side, results, where) for side in (claim.one, claim.other))
    return selection.pairs(ones, others, {*claim.one, *claim.other})


def _formulas(
    claim: AnyClaim, cells: Cells, chosen: list[Point], points: list[Point], results: Results, where: str
) -> list[float]:
    """Return what the formula of a claim is in each cell; for a ratio, over what it is in the other."""
    if not isinstance(claim, Ratio):
        found = [cells.formula(claim.formula, point, f"{where}.formula") for point in chosen]
        return [value for value in found if value is not None]
    ratios = []
    for pair in _over(claim, chosen, points, results, where):
        one, other = (cells.formula(claim.formula, point, f"{where}.formula") for point in pair)
        if one is not None and other:
            ratios.append(one / other)
    return ratios


def _among(
    chosen: Sequence[Point], points: Sequence[Point], table: Mapping[str, Any], results: Results, where: str
) -> list[Point]:
    """Return the cells of a selection among those that were chosen, which may be none."""
    kept = {id(point) for point in chosen}
    return [point for point in selection.select(points, table, results.axes, where) if id(point) in kept]


def _part(claim: Compared, cells: Cells, label: str, found: Measured, point: Point, where: str) -> Part:
    limits = {key: cells.limit(getattr(claim, key), point, f"{where}.{key}") for key in kinds.LIMITS}
    holds = met(found, **limits, tolerance=claim.tolerance, interval=claim.interval)
    return Part(label, str(found), found.value, holds)


def _slopes(claim: Slope, cells: Cells, chosen: list[Point], results: Results, where: str) -> list[Part]:
    found = []
    if is_series(claim.along):
        label = _labels(chosen, cells.names)
        for point in chosen:
            x, values = cells.curves(point, claim.along)
            slope = fit(x, values, cells.how, claim.range)._replace(note=verdict(point.runs))
            found.append(_part(claim, cells, label(point), slope, point, where))
        return found
    groups = selection.grouped([point for point in chosen if claim.along in point.key], [claim.along])
    label = _labels(chosen, cells.names, [claim.along])
    for group in groups.values():
        at = [float(point.key[claim.along]) for point in group]
        slope = fit(at, [cells.values(point) for point in group], cells.how, claim.range)
        lost = [cells.measure(point) for point in group]
        slope = slope._replace(note="; ".join(dict.fromkeys(one.note for one in lost if one.note)))
        found.append(_part(claim, cells, label(group[0]), slope, group[0], where))
    return found


def _compared(
    claim: Every, cells: Cells, chosen: list[Point], points: list[Point], results: Results, where: str
) -> list[Part]:
    others = cells
    if claim.against_quantity is not None:
        key = f"{where}.against_quantity"
        others = cells._replace(quantity=parse(claim.against_quantity, key, cells.names), where=key)
    two = [(point, point) for point in chosen]
    if claim.against:
        against = selection.select(points, claim.against, results.axes, f"{where}.against")
        two = selection.pairs(chosen, against, set(claim.against))
    label, other_label = _labels([one for one, _ in two], cells.names), _labels([one for _, one in two], cells.names)
    found = []
    for one, other in two:
        left, right = cells.measure(one), others.measure(other)
        name = ", ".join(
            filter(
                None, (label(one), f"against {other_label(other)}" if other is not one and other_label(other) else "")
            )
        )
        holds = related(left.value, claim.relation, claim.factor * right.value)
        found.append(Part(name, f"{left} and {right}", left.value / right.value if right.value else left.value, holds))
    return found


def _ordered(
    claim: Ordering, cells: Cells, chosen: list[Point], points: list[Point], results: Results, where: str
) -> list[Part]:
    relation = {"increasing": "<", "decreasing": ">"}[claim.direction] + ("" if claim.strict else "=")
    chains: list[list[Point]] = []
    if claim.along:
        values = results.axes[claim.along]
        present = [point for point in chosen if claim.along in point.key]
        for group in selection.grouped(present, [claim.along]).values():
            chains.append(sorted(group, key=lambda point: selection.place(point.key[claim.along], values)))
        label = _labels(chosen, cells.names, [claim.along])
    else:
        parts = [_among(chosen, points, one, results, f"{where}.selections") for one in claim.selections]
        apart = {axis for one in claim.selections for axis in one}
        for one, other in itertools.pairwise(parts):
            chains += [list(pair) for pair in selection.pairs(one, other, apart)]
        label = _labels(chosen, cells.names)
    found = []
    for chain in chains:
        seen = [cells.measure(point) for point in chain]
        holds = len(seen) > 1 and all(related(one.value, relation, two.value) for one, two in itertools.pairwise(seen))
        name = label(chain[0]) if claim.along else " then ".join(map(label, chain))
        found.append(Part(name, ", ".join(one.brief for one in seen), seen[0].value, holds))
    return found


def _labels(points: Sequence[Point], names: Mapping[str, str], apart: Sequence[str] = ()) -> Callable[[Point], str]:
    """Return what tells these cells apart from each other, the axes `apart` left out."""
    axes = selection.varying(points, apart)
    return lambda point: selection.named(point, axes, names)


def _vacuous(claim: Bound, cells: Cells, chosen: Sequence[Point], where: str) -> str:
    """Return in how many cells a bound by formula lies above the value at the start."""
    found = sum(cells.vacuous(claim.at_most, point, f"{where}.at_most") for point in chosen)
    return f"; vacuous in {found} of {len(chosen)}: above the start" if found else ""


def _said(parts: Sequence[Part]) -> str:
    if not parts:
        return "no cell meets the condition"
    if len(parts) <= SHOWN:
        return "; ".join(f"{part.label}: {part.text}" if part.label else part.text for part in parts)
    ordered = sorted(parts, key=lambda part: part.value)
    bad = [part for part in parts if not part.holds]
    said = f"{len(parts)} cells, from {ordered[0].text} to {ordered[-1].text}"
    if bad:
        more = f"; and {len(bad) - SHOWN + 1} more" if len(bad) >= SHOWN else ""
        said += f"; not in {len(bad)}: " + "; ".join(f"{part.label}: {part.text}" for part in bad[: SHOWN - 1]) + more
    return said


def _predicted(claim: AnyClaim, formulas: Sequence[float]) -> str:
    said = f"{claim.predicted:g}" if isinstance(claim.predicted, float) else claim.predicted
    said = said or _comparison(claim)
    if formulas:
        low, high = min(formulas), max(formulas)
        value = f"{low:.4g}" if low == high else f"{low:.4g} … {high:.4g}"
        said = f"{said}; {claim.formula} = {value}" if said else f"{claim.formula} = {value}"
    return said


def _comparison(claim: AnyClaim) -> str:
    if isinstance(claim, Ordering):
        strictly = "strictly " if claim.strict else ""
        return f"{strictly}{claim.direction}" + (f" along {claim.along}" if claim.along else "")
    if isinstance(claim, Every):
        factor = f"{claim.factor:g} times " if claim.factor != 1 else ""
        other = ", ".join(f"{axis} = {shown(value)}" for axis, value in claim.against.items())
        return f"{SIGNS[claim.relation]} {factor}that of {other or 'the other quantity'}"
    if isinstance(claim, Bound) and claim.within is not None:
        return f"constant within {claim.within:g}"
    if isinstance(claim, Told):
        said = f"{len(claim.entries)} numbers within {claim.within:g}"
        said += f", their median within {claim.median_within:g}" if claim.median_within is not None else ""
        return said + (f", in order where they differ by {claim.order:g}" if claim.order is not None else "")
    given = [(SIGNS[key], getattr(claim, key)) for key in kinds.LIMITS if getattr(claim, key) is not None]
    said = " and ".join(f"{sign} {value}" if isinstance(value, str) else f"{sign} {value:g}" for sign, value in given)
    return said + (f" ± {claim.tolerance:g}" if claim.tolerance else "")


def notes(tables: Sequence[Any], names: Mapping[str, str]) -> str:
    """Return what the names in formulas of the claims stand for, where that is a number or a formula."""
    texts = []
    for at, one in enumerate(tables):
        claim = kinds.parse(one, f"claims.{at}", names)
        quantity = parse(claim.quantity, f"claims.{at}.quantity", names)
        limits = [getattr(claim, key) for key in kinds.LIMITS] if isinstance(claim, Compared) else []
        texts += [claim.where, claim.formula, quantity.cost, quantity.times, *(str(limit) for limit in limits if limit)]
    return ", ".join(definitions(texts, names))


def table(rows: Sequence[Row], width: int = WIDTH) -> str:
    """Return the claims as aligned text, no line longer than `width`."""
    marks = {True: "yes", False: "NO", None: "-"}
    cells = [HEAD, *((row.claim, row.predicted, row.measured, marks[row.holds], row.rests) for row in rows)]
    widths = [max(len(cell[column]) for cell in cells) for column in range(len(HEAD))]
    while sum(widths) + 2 * (len(HEAD) - 1) > width and max(widths) > 12:
        widths[widths.index(max(widths))] -= 1
    lines = []
    for cell in cells:
        parts = [textwrap.wrap(text, size) or [""] for text, size in zip(cell, widths, strict=True)]
        for line in itertools.zip_longest(*parts, fillvalue=""):
            lines.append("  ".join(text.ljust(size) for text, size in zip(line, widths, strict=True)).rstrip())
        if cell is HEAD:
            lines.append("-" * min(width, sum(widths) + 2 * (len(HEAD) - 1)))
    return "\n".join(lines)


__all__ = ["Row", "check", "evaluate", "notes", "table"]
