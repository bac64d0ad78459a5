"""Quantities of one run, by name: what claims compare, figures show and tuning makes small.

| kind | value |
|---|---|
| `final` | the series `of` at the last record |
| `best` | its smallest value, its largest where more is better |
| `rate` | q where it falls as e^(−q round), over the second half of the rounds |
| `at` | its value at a number of `round`, `step` or `samples`: that of the last record up to there |
| `rounds-to`, `steps-to`, `samples-to`, `bytes-to`, `seconds-to` | where it first reaches `target`; infinite if never |
| `cost-to` | the formula `cost` there, as `step + 25 * round` |

A run that diverged or failed has the worst value there is. More is better for accuracies alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from mpilocal.config.typed import build, shown
from mpilocal.errors import ConfigError
from mpilocal.study import names as naming
from mpilocal.study import series as recorded
from mpilocal.study.results import Run
from mpilocal.study.series import SERIES, all_of, column, label_of, lost

Floats = NDArray[np.float64]
Kind = Literal[
    "final", "best", "rate", "at", "rounds-to", "steps-to", "samples-to", "bytes-to", "seconds-to", "cost-to"
]  # fmt: skip

PLACES = ("round", "step", "samples")
SPENT = {
    "rounds-to": "round",
    "steps-to": "step",
    "samples-to": "samples",
    "bytes-to": "bytes",
    "seconds-to": "seconds",
}


class Quantity(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A number of one run."""

    kind: Kind
    of: Annotated[
        str | list[str],
        Meta(description="A series; of several, or of `suboptimality*`, all averages, the best at each record."),
    ] = "suboptimality"
    round: Annotated[float | str | None, Meta(description="Of `at`: a number, or a name that is one.")] = None
    step: Annotated[float | str | None, Meta(description="Of `at`.")] = None
    samples: Annotated[float | str | None, Meta(description="Of `at`.")] = None
    target: Annotated[float | str | None, Meta(description="A number, or a name of the study's that is one.")] = None
    cost: Annotated[str, Meta(description="Of `cost-to`: a formula in series and keys of the config.")] = ""
    times: Annotated[str, Meta(description="A formula by which the value is multiplied.")] = ""

    @property
    def series(self) -> list[str]:
        """Return the names of `of`."""
        return [self.of] if isinstance(self.of, str) else self.of

    @property
    def goal(self) -> float:
        """Return the target as the number that it is after `parse`; NaN where there is none."""
        return self.target if isinstance(self.target, float) else math.nan

    @property
    def place(self) -> tuple[str, float]:
        """Return the series and the number of `at`."""
        return next(((key, at) for key in PLACES if isinstance(at := getattr(self, key), float)), ("round", math.nan))

    @property
    def rising(self) -> bool:
        """Return whether more is better."""
        return "accuracy" in self.series[0]

    @property
    def label(self) -> str:
        """Return what an axis calls it."""
        of = " or ".join(label_of(one) for one in self.series)
        if self.kind == "cost-to":
            said = f"{self.cost} to {of} {'≥' if self.rising else '≤'} {self.goal:g}"
        elif self.kind in SPENT:
            said = f"{SERIES[SPENT[self.kind]]} to {of} {'≥' if self.rising else '≤'} {self.goal:g}"
        else:
            key, at = self.place
            where = {"round": f"round {at:g}", "step": f"step {at:g}", "samples": f"{at:,.0f} samples"}[key]
            rate = f"rate of {of} a round"
            said = {"final": f"final {of}", "best": f"best {of}", "rate": rate, "at": f"{of} at {where}"}[self.kind]
        return f"{said}, times {self.times}" if self.times else said


def parse(table: Any, where: str, names: Mapping[str, str] | None = None) -> Quantity:
    """Return a quantity from its table; `where` is its dotted key, `names` those of the study.

    Raises:
        ConfigError: a name is not known, or what its kind needs is missing.
    """
    found = build(Quantity, table, where)
    if not found.series:
        raise ConfigError(f"{where}.of is empty: write a series")
    for one in found.series:
        recorded.check(one, f"{where}.of")
    if len({"accuracy" in one for one in found.series}) > 1:
        raise ConfigError(f"{where}.of = {shown(found.of)} mixes series of which more and less is better")
    given = [key for key in PLACES if getattr(found, key) is not None]
    if given and found.kind != "at":
        raise ConfigError(f'{where}.{given[0]} means nothing for the kind "{found.kind}": remove it')
    if found.kind == "at" and len(given) != 1:
        raise ConfigError(f'{where}: the kind "at" needs one of round, step and samples')
    needed = {"target": found.kind.endswith("-to"), "cost": found.kind == "cost-to"}
    for key, needs in needed.items():
        there = getattr(found, key) not in (None, "")
        if needs and not there:
            raise ConfigError(f'{where}.{key} is missing: the kind "{found.kind}" needs it')
        if there and not needs:
            raise ConfigError(f'{where}.{key} means nothing for the kind "{found.kind}": remove it')
    for key in ("cost", "times"):
        if text := getattr(found, key):
            naming.check(text, names or {}, f"{where}.{key}", more=("target",))
    constants = naming.Keys({}, {short: text for short, text in (names or {}).items() if not naming.is_key(text)})
    for key in ("target", *PLACES):
        if isinstance(text := getattr(found, key), str):
            found = replace(found, **{key: constants.evaluate(text, f"{where}.{key}")})
    return found


def value(quantity: Quantity, run: Run, names: Mapping[str, str] | None = None, where: str = "quantity") -> float:
    """Return the quantity of a run: its worst, +inf or −inf, where the run diverged or failed, NaN where it has none.

    Raises:
        ConfigError: a series was not recorded, or a formula has no value.
    """
    worst = -math.inf if quantity.rising and not quantity.kind.endswith("-to") else math.inf
    if lost(run):
        return worst
    place = row(quantity, run, where)
    if place is None:
        return worst if quantity.kind.endswith("-to") else math.nan
    known = naming.Known(run, names or {}, place, {"target": quantity.goal})
    if quantity.kind == "cost-to":
        found = known.evaluate(quantity.cost, f"{where}.cost")
    elif quantity.kind in SPENT:
        found = float(column(run, SPENT[quantity.kind], where)[place])
    elif quantity.kind == "rate":
        found = rate(column(run, "round", where), curve(quantity, run, where))
    else:
        found = float(curve(quantity, run, where)[place])
    return found * known.evaluate(quantity.times, f"{where}.times") if quantity.times else found


def row(quantity: Quantity, run: Run, where: str = "quantity") -> int | None:
    """Return the record at which the quantity is taken; None where there is none or the target is never reached."""
    if lost(run):
        return None
    values = curve(quantity, run, where)
    if not len(values):
        return None
    if quantity.kind in ("final", "rate"):
        return len(values) - 1
    if quantity.kind == "best":
        ordered = -values if quantity.rising else values
        return None if np.isnan(ordered).all() else int(np.nanargmin(ordered))
    if quantity.kind == "at":
        key, most = quantity.place
        along = column(run, key, where)
        places = np.flatnonzero(along <= most)
        return int(places[-1]) if len(places) and along[-1] >= most else None
    reached = np.flatnonzero(values >= quantity.goal if quantity.rising else values <= quantity.goal)
    return int(reached[0]) if len(reached) else None


def rate(rounds: Floats, values: Floats) -> float:
    """Return ln(v(r)/v(R))/(R − r), r the first record from R/2 on; NaN where a value is not above 0."""
    begin = int(np.searchsorted(rounds, rounds[-1] / 2))
    if begin >= len(rounds) - 1 or not (values[begin] > 0 and values[-1] > 0):
        return math.nan
    return math.log(values[begin] / values[-1]) / float(rounds[-1] - rounds[begin])


def curve(quantity: Quantity, run: Run, where: str = "quantity") -> Floats:
    """Return the series of a quantity, (records,): the best of several."""
    best = np.fmax if quantity.rising else np.fmin
    names = [one for name in quantity.series for one in all_of(name, run)]
    found: Floats = best.reduce([column(run, one, f"{where}.of") for one in names])
    return found


def verdict(runs: Iterable[Run]) -> str:
    """Return "", "diverged", or how many of the runs did."""
    found = list(runs)
    bad = [run.status if run.status in ("diverged", "failed") else "failed" for run in found if lost(run)]
    if not bad:
        return ""
    said = "diverged" if "diverged" in bad else "failed"
    return said if len(bad) == len(found) else f"{len(bad)} of {len(found)} {said}"


def score(table: Mapping[str, Any], run: Run, largest: bool = False, names: Mapping[str, str] | None = None) -> float:
    """Return what tuning makes small: the quantity, negated for `largest`; +inf where the run diverged or has none."""
    found = value(parse(table, "tune.quantity", names), run, names, "tune.quantity")
    if lost(run) or math.isnan(found):
        return math.inf
    return -found if largest else found
