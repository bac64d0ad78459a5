"""The tables [[claims]] of a study's file: their kinds and keys, checked before anything runs.

| kind | what must hold |
|---|---|
| `bound` | in every selected cell the quantity is `at_most`, `at_least` or `equals` ± `tolerance`; or its largest value is `within` a factor of its smallest |
| `every` | in every selected cell it has the `relation` to `factor` times that of the cells `against`, or to `against_quantity` |
| `ratio` | that of the cells `one` over that of `other`, as in `bound` |
| `ordering` | it is increasing or decreasing `along` an axis, whatever the other axes are, or from one of `selections` to the next |
| `slope` | the least-squares slope of its logarithm over that of an axis, or of its series over another series, as in `bound` |
| `table` | in each of the cells `entries` it is `within` a factor of their value, and with `median_within` so is the median; where values differ by `order` and more it has their order |
"""  # noqa: E501

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct, field

from mpilocal.config.typed import build, shown
from mpilocal.errors import ConfigError, suggest
from mpilocal.study import names as naming
from mpilocal.study import quantities, selection
from mpilocal.study.aggregate import How
from mpilocal.study.selection import Axes
from mpilocal.study.series import is_series

Table = dict[str, Any]
Limit: TypeAlias = Annotated[float | str, Meta(description="A number, or a formula.")]
LIMITS = ("at_most", "at_least", "equals")
Relation = Literal["<=", ">=", "<", ">"]


class Claim(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """What all claims share."""

    claim: Annotated[str, Meta(description="In words.")]
    quantity: Annotated[Table, Meta(description="What is compared.")]
    aggregate: Annotated[How, Meta(description="Over the seeds.")] = "mean"
    select: Annotated[Table, Meta(description="The cells: axis → value, list or condition.")] = field(
        default_factory=dict
    )
    where: Annotated[str, Meta(description="A condition on cells, as `H <= sqrt(step / (K * b))`.")] = ""
    predicted: Annotated[str | float, Meta(description="By theory, in words; else the comparison itself.")] = ""
    formula: Annotated[str, Meta(description="By theory, the quantity; its value is shown beside it.")] = ""
    rests: Annotated[str, Meta(description="The prediction: on a theorem, a derivation, memory.")] = "observation"
    envelope: Annotated[
        bool, Meta(description="Of the tuning runs, the best of all values that were tried: as papers choose.")
    ] = False
    observe: Annotated[bool, Meta(description="Only show what was measured; nothing has to hold.")] = False


class Compared(Claim, frozen=True, kw_only=True):
    """A claim of numbers."""

    at_most: Limit | None = None
    at_least: Limit | None = None
    equals: Limit | None = None
    tolerance: Annotated[float, Meta(ge=0, description="Of `equals`.")] = 0.0
    interval: Annotated[bool, Meta(description="The whole bootstrap interval has to meet it.")] = False


class Bound(Compared, frozen=True, kw_only=True, tag="bound"):
    """A number in each cell, or how far apart the cells are."""

    within: Annotated[float, Meta(ge=1, description="Largest over smallest, at most.")] | None = None


class Ratio(Compared, frozen=True, kw_only=True, tag="ratio"):
    """One cell over another, the axes that neither names being equal."""

    one: Table
    other: Table


class Slope(Compared, frozen=True, kw_only=True, tag="slope"):
    """A power law."""

    along: Annotated[str, Meta(description="An axis of numbers, or a series.")]
    range: Annotated[list[float], Meta(min_length=2, max_length=2, description="Of it: from, to.")] | None = None


class Every(Claim, frozen=True, kw_only=True, tag="every"):
    """A comparison of cells with others, the axes that `against` does not name being equal."""

    relation: Relation
    against: Annotated[Table, Meta(description="Axis → value of the other cells; none: the same cell.")] = field(
        default_factory=dict
    )
    against_quantity: Annotated[Table | None, Meta(description="Default: the same quantity.")] = None
    factor: Annotated[float, Meta(gt=0)] = 1.0


class Ordering(Claim, frozen=True, kw_only=True, tag="ordering"):
    """An order of cells."""

    direction: Literal["increasing", "decreasing"]
    along: Annotated[str, Meta(description="An axis.")] = ""
    selections: Annotated[list[Table], Meta(description="Selections, in order, instead of an axis.")] = field(
        default_factory=list
    )
    strict: Annotated[bool, Meta(description="Equal values are not in order.")] = True


class Entry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A number that somebody has told."""

    cell: Annotated[Table, Meta(description="A selection of one cell.")]
    value: Annotated[float, Meta(gt=0)]


class Told(Claim, frozen=True, kw_only=True, tag="table"):
    """Cell by cell against numbers that somebody has told."""

    entries: Annotated[list[Entry], Meta(min_length=1)]
    within: Annotated[float, Meta(ge=1, description="Of each, the factor.")]
    median_within: Annotated[Annotated[float, Meta(ge=1)] | None, Meta(description="The median of these factors.")] = (
        None
    )
    order: Annotated[
        Annotated[float, Meta(gt=1)] | None, Meta(description="Values that differ by this factor have to be in order.")
    ] = None


Parted: TypeAlias = Bound | Ratio | Slope | Every | Ordering
AnyClaim: TypeAlias = Parted | Told
KINDS: dict[str, type[AnyClaim]] = {
    "bound": Bound,
    "ratio": Ratio,
    "slope": Slope,
    "every": Every,
    "ordering": Ordering,
    "table": Told,
}


def parse(table: Any, where: str, names: Mapping[str, str]) -> AnyClaim:
    """Return a claim from its table; `where` is its dotted key, `names` those of the study.

    Raises:
        ConfigError: a key, kind or name is not known, or the comparison is none.
    """
    kind = table.get("kind") if isinstance(table, Mapping) else None
    if kind is None:
        raise ConfigError(f"{where}.kind is missing: write one of: {', '.join(KINDS)}")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(f"{where}.kind = {shown(kind)} is not known; {suggest(str(kind), KINDS)}")
    found: AnyClaim = build(KINDS[kind], table, where)
    quantity = quantities.parse(found.quantity, f"{where}.quantity", names)
    if found.where:
        left, _, right = naming.split(found.where, f"{where}.where")
        for side in (left, right):
            naming.check(side, names, f"{where}.where")
    if found.formula:
        naming.check(found.formula, names, f"{where}.formula", more=("target",))
    if isinstance(found, Compared):
        _compared(found, where, names)
    if isinstance(found, Every):
        if found.against_quantity is not None:
            quantities.parse(found.against_quantity, f"{where}.against_quantity", names)
        elif not found.against:
            raise ConfigError(f"{where} compares with nothing: write against or against_quantity")
    if isinstance(found, Ordering) and bool(found.along) == (len(found.selections) > 1):
        raise ConfigError(f"{where} has to have either along, an axis, or selections, two at least")
    if isinstance(found, Slope):
        _slope(found, quantity, where)
    return found


def _compared(claim: Compared, where: str, names: Mapping[str, str]) -> None:
    limits = {key: getattr(claim, key) for key in LIMITS}
    given = [key for key, limit in limits.items() if limit is not None]
    within = isinstance(claim, Bound) and claim.within is not None
    if not given and not within and not claim.observe:
        more = ", within" if isinstance(claim, Bound) else ""
        raise ConfigError(f"{where} compares with nothing: write at_most, at_least or equals{more}, or observe = true")
    if within and (given or claim.interval):
        raise ConfigError(f"{where}.within stands alone: remove {'interval' if claim.interval else given[0]}")
    if claim.equals is not None and len(given) > 1:
        raise ConfigError(f"{where}.equals stands alone: remove {given[0]}")
    if claim.tolerance and claim.equals is None:
        raise ConfigError(f"{where}.tolerance is that of equals, which is missing: write it")
    for key in given:
        if isinstance(limits[key], str):
            naming.check(limits[key], names, f"{where}.{key}", more=("target",))


def _slope(claim: Slope, quantity: quantities.Quantity, where: str) -> None:
    if claim.range is not None and not claim.range[0] < claim.range[1]:
        raise ConfigError(f"{where}.range = {shown(claim.range)} is empty: write the smaller end first")
    if is_series(claim.along) and (quantity.kind != "final" or quantity.times):
        raise ConfigError(
            f"{where}: over the series {claim.along} a slope is of the whole series {shown(quantity.of)}: "
            'write quantity.kind = "final" without times'
        )


def check(
    tables: Any,
    axes: Axes,
    cells: Iterable[Mapping[str, Any]] | None = None,
    names: Mapping[str, str] | None = None,
) -> None:
    """Refuse claims that cannot be evaluated, before anything runs.

    Args:
        tables: [[claims]] of the study's file.
        axes: Axis → its values.
        cells: Axis → value of every cell; default: all combinations of the values.
        names: Short name → dotted key of the config, for formulas.

    Raises:
        ConfigError: a key, quantity, series, axis, cell or comparison is not possible; the sentence names it.
    """
    names = names or {}
    if not isinstance(tables, list):
        raise ConfigError("claims is no list of tables: write [[claims]] once for each")
    points = selection.points_at(axes, cells)
    for number, table in enumerate(tables):
        where = f"claims.{number}"
        claim = parse(table, where, names)
        chosen = selection.select(points, claim.select, axes, f"{where}.select")
        if isinstance(claim, Ratio):
            one = selection.select(chosen, claim.one, axes, f"{where}.one")
            other = selection.select(chosen, claim.other, axes, f"{where}.other")
            _paired(selection.pairs(one, other, {*claim.one, *claim.other}), points, where)
        elif isinstance(claim, Every) and claim.against:
            found = selection.select(points, claim.against, axes, f"{where}.against")
            _paired(selection.pairs(chosen, found, set(claim.against)), points, where)
        elif isinstance(claim, Ordering) and claim.selections:
            parts = [
                selection.select(chosen, one, axes, f"{where}.selections.{place}")
                for place, one in enumerate(claim.selections)
            ]
            apart = {axis for one in claim.selections for axis in one}
            for one, other in itertools.pairwise(parts):
                _paired(selection.pairs(one, other, apart), points, where)
        elif isinstance(claim, Told):
            for place, entry in enumerate(claim.entries):
                one_cell(
                    selection.select(chosen, entry.cell, axes, f"{where}.entries.{place}.cell"), points, entry, where
                )
        elif isinstance(claim, Ordering | Slope) and not (isinstance(claim, Slope) and is_series(claim.along)):
            _along(claim, chosen, axes, where)


def one_cell(
    found: list[selection.Point], points: list[selection.Point], entry: Entry, where: str
) -> selection.Point | None:
    """Return the cell of an entry, None where cells are not listed (ConfigError unless there is just one)."""
    if points and len(found) != 1:
        raise ConfigError(f"{where}: the entry {shown(entry.cell)} is of {len(found)} cells: select one")
    return found[0] if found else None


def _paired(found: list[tuple[selection.Point, selection.Point]], points: list[selection.Point], where: str) -> None:
    if points and not found:
        raise ConfigError(f"{where} compares no two cells: its selections agree on no value of the other axes")


def _along(claim: Ordering | Slope, chosen: list[selection.Point], axes: Axes, where: str) -> None:
    selection.check_axis(claim.along, axes, f"{where}.along")
    if isinstance(claim, Slope) and not all(selection.is_number(value) and value > 0 for value in axes[claim.along]):
        raise ConfigError(
            f"{where}.along: the values of {claim.along} are not all positive numbers: choose another axis"
        )
    groups = selection.grouped([point for point in chosen if claim.along in point.key], [claim.along])
    if chosen and max(map(len, groups.values()), default=0) < 2:
        raise ConfigError(f"{where}: fewer than two selected cells differ in {claim.along}: select more")
