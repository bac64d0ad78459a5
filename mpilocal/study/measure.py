"""What claims compare: a quantity in a cell, its aggregate over the seeds and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpilocal.study.aggregate import How, aggregate, interval
from mpilocal.study.names import RELATIONS, Known
from mpilocal.study.quantities import Quantity, curve, row, value, verdict
from mpilocal.study.selection import Point
from mpilocal.study.series import column, lost

Floats = NDArray[np.float64]


class Measured(NamedTuple):
    """A number with its bootstrap interval, NaN where there is none."""

    value: float
    low: float
    high: float
    never: str = ""  # what an infinite value means
    note: str = ""  # what became of runs that diverged or failed

    @property
    def brief(self) -> str:
        """Return it without the interval."""
        if not math.isfinite(self.value):
            return self.note or (self.never if math.isinf(self.value) else "") or "no value"
        return f"{self.value:.4g}" + (f" ({self.note})" if self.note else "")

    def __str__(self) -> str:
        if not math.isfinite(self.value) or math.isnan(self.low):
            return self.brief
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]" + (f" ({self.note})" if self.note else "")


class Cells(NamedTuple):
    """How to measure a cell."""

    quantity: Quantity
    how: How
    names: Mapping[str, str]
    where: str

    def values(self, point: Point) -> Floats:
        """Return the quantity of each seed, (seeds,); of pooled cells the mean of each, (cells,)."""
        found = [[value(self.quantity, run, self.names, self.where) for run in runs] for runs in point.samples]
        return np.array([aggregate(np.array(one), "mean") for one in found])

    def measure(self, point: Point) -> Measured:
        """Return the aggregate over the seeds."""
        values = self.values(point)
        low, high = interval(lambda places: aggregate(values[places], self.how), len(values))
        never = "never" if self.quantity.kind.endswith("-to") else "infinite"
        return Measured(float(aggregate(values, self.how)), low, high, never, verdict(point.runs))

    def curves(self, point: Point, along: str) -> tuple[Floats, Floats]:
        """Return a series, (records,), and that of the quantity for each seed, (records, seeds), as far as all go."""
        runs = point.runs
        if any(lost(run) for run in runs):
            return np.empty(0), np.empty((0, len(runs)))
        xs = [column(run, along, self.where) for run in runs]
        ys = [curve(self.quantity, run, self.where) for run in runs]
        records = min(map(len, xs))
        mean: Floats = np.mean([x[:records] for x in xs], axis=0)
        of = {id(run): y[:records] for run, y in zip(runs, ys, strict=True)}
        return mean, np.stack([np.mean([of[id(run)] for run in one], axis=0) for one in point.samples], axis=1)

    def formula(self, text: str, point: Point, where: str) -> float | None:
        """Return the value of a formula in a cell, the mean over its seeds; None where it has none."""
        if not text:
            return None
        places = [(run, row(self.quantity, run, self.where)) for run in point.runs]
        more = {"target": self.quantity.goal}
        found = [Known(run, self.names, place, more).evaluate(text, where) for run, place in places]
        mean = float(np.mean(found)) if found else math.nan
        return None if math.isnan(mean) else mean

    def limit(self, limit: float | str | None, point: Point, where: str) -> float | None:
        """Return the number that a limit is in a cell; NaN where its formula has no value."""
        if not isinstance(limit, str):
            return limit
        found = self.formula(limit, point, where)
        return math.nan if found is None else found

    def vacuous(self, limit: float | str | None, point: Point, where: str) -> bool:
        """Return whether an upper limit by formula says no more than that the series ends where it began."""
        if not isinstance(limit, str) or self.quantity.kind not in ("final", "best", "at") or self.quantity.times:
            return False
        begun = [curve(self.quantity, run, self.where)[:1] for run in point.runs if not lost(run)]
        found = self.limit(limit, point, where)
        return found is not None and any(map(len, begun)) and found >= float(np.mean(np.concatenate(begun)))


def quotient(cells: Cells, one: Point, other: Point) -> Measured:
    """Return the aggregate of one cell over that of another, seeds paired in the interval."""
    above, below = cells.values(one), cells.values(other)

    def ratio(over: Floats, under: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return aggregate(over, cells.how) / aggregate(under, cells.how)

    paired = one.drawn == other.drawn
    low, high = interval(lambda places: ratio(above[places], below[places]), len(above) if paired else 0)
    notes = [cells.measure(point).brief for point in (one, other) if verdict(point.runs)]
    return Measured(float(ratio(above, below)), low, high, "infinite", "; ".join(notes))


def fit(
    x: Sequence[float] | Floats, values: Sequence[Floats] | Floats, how: How, limits: Sequence[float] | None
) -> Measured:
    """Return the least-squares slope of the logarithm of the aggregate over that of x.

    Args:
        x: (points,); those at 0 or below are not used.
        values: Of each seed there, (points, seeds).
        how: The aggregate over the seeds.
        limits: Of x, from and to.
    """
    along = np.asarray(x, np.float64)
    seeds = {len(one) for one in values}
    if len(seeds) != 1:
        return Measured(math.nan, math.nan, math.nan)
    low, high = limits or (0.0, math.inf)
    used = (along > 0) & (along >= low) & (along <= high)
    table = np.stack(list(values))[used]
    logs = np.log(along[used])
    logs -= logs.mean() if len(logs) else 0.0
    if len(logs) < 2 or not logs.any():
        return Measured(math.nan, math.nan, math.nan)

    def slope(found: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            heights = np.log(found)
            return np.asarray(np.tensordot(logs, heights, axes=1) / (logs @ logs))

    sure = interval(lambda places: slope(aggregate(table[:, places], how)), seeds.pop())
    return Measured(float(slope(aggregate(table, how))), *sure, "no slope")


def met(
    found: Measured,
    at_most: float | None,
    at_least: float | None,
    equals: float | None,
    tolerance: float,
    interval: bool,
) -> bool:
    """Return whether a number, or its whole interval, keeps to the limits; NaN keeps to none."""
    low, high = (found.low, found.high) if interval else (found.value, found.value)
    if math.isnan(low) or math.isnan(high):
        return False
    return (
        (at_most is None or high <= at_most)
        and (at_least is None or low >= at_least)
        and (equals is None or equals - tolerance <= low <= high <= equals + tolerance)
    )


def related(one: float, relation: str, other: float) -> bool:
    """Return whether a relation holds between two numbers; between NaN and any number none does."""
    return RELATIONS[relation](one, other)


def spread(values: Sequence[float]) -> float:
    """Return the largest over the smallest; NaN unless all are positive and finite."""
    good = all(math.isfinite(one) and one > 0 for one in values)
    return max(values) / min(values) if good else math.nan
