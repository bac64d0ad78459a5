"""The claims of the paper beside what was measured: exact ones, the bounds, and observations, which need not hold."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from bounds import bound
from numpy.typing import NDArray
from results import Results, Row
from runs import GLOBAL, GROUPS, LOCAL, WORKERS, scheme_of

Floats = NDArray[np.float64]
SCHEMES = ("P = I", *(f"N = {groups}" for groups in GROUPS), "P = G")


class Claim(NamedTuple):
    """A row of the table."""

    kind: str  # exact, bound or observed
    claim: str
    predicted: str
    measured: str
    holds: bool
    rests: str  # on what the prediction rests


class Interval(NamedTuple):
    """A mean and a bootstrap interval of it."""

    low: float
    mean: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def interval(values: Floats, level: float = 0.95, draws: int = 10_000) -> Interval:
    """Return the mean of values (n,) with its percentile bootstrap interval."""
    rng = np.random.default_rng(20220222)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(values.mean()), float(high))


def table(results: Results) -> list[Claim]:
    """Return all claims."""
    return [*exact(results), *observed(results)]


def exact(results: Results) -> list[Claim]:
    """Return the claims that must hold, and the bound, whose constants are from memory."""
    measured = [row for row in results.rows if "divergence" in row.curves]
    residual = max(float(np.max(_residual(row))) for row in measured)
    records = sum(len(row.curves["step"]) for row in measured)
    said = f"largest residual {residual:.1e} of {records} records"
    found = [
        Claim(
            "exact", "divergence = sum of D_l over levels", "≤ 1e-12, relative", said, residual <= 1e-12, "derivation"
        )
    ]
    for hierarchy, flat in (("N = 1", "P = I"), ("N = n", "P = G")):
        one, other = results.of("equal", hierarchy)[0], results.of("equal", flat)[0]
        same = one.digest == other.digest and np.array_equal(one.curves["objective"], other.curves["objective"])
        found.append(
            Claim(
                "exact",
                f"{hierarchy} is {flat}",
                "the same bits",
                "the same bits" if same else "different bits",
                same,
                "definition",
            )
        )
    found += [_pointwise(results), _ordered(results)]
    found += [_share(results, groups, side) for groups in GROUPS for side in ("upward", "downward")]
    return [*found, *(_bounded(results, scheme) for scheme in SCHEMES)]


def _residual(row: Row) -> Floats:
    parts = np.sum([column for name, column in row.curves.items() if name.startswith("level")], axis=0)
    whole = row.curves["divergence"]
    found: Floats = np.abs(parts - whole) / whole
    return found


def _pointwise(results: Results) -> Claim:
    """I² D ≤ G² D_up + I² D_down ≤ G² D at every record of the groups at hand: rests on the identity alone."""
    inside, total = 0, 0
    for row in [*results.of("theorem"), *results.of("groupings"), *results.of("alike")]:
        if "level2" in row.curves:
            whole, down, up = (row.curves[name] for name in ("divergence", "level1", "level2"))
            drift = GLOBAL**2 * up + LOCAL**2 * down
            slack = 1e-12 * GLOBAL**2 * whole
            inside += int(np.sum((LOCAL**2 * whole <= drift + slack) & (drift <= GLOBAL**2 * whole + slack)))
            total += len(whole)
    return Claim(
        "exact",
        "drift terms in order, the groups at hand",
        "I²D ≤ G²D_up + I²D_down ≤ G²D",
        f"{inside} of {total} records",
        inside == total and total > 0,
        "derivation",
    )


def bounds(results: Results) -> list[float]:
    """Return the bounds of SCHEMES for the runs with exact gradients; f* ≥ 0 and ε² the largest that was measured."""
    rows = results.of("theorem")
    divergence = max(float(row.curves["divergence"].max()) for row in rows)
    facts = results.facts
    steps = int(rows[0].last("step"))
    gap = float(rows[0].curves["objective"][0])
    return [bound(scheme_of(name), facts["gamma"], facts["smoothness"], gap, steps, divergence) for name in SCHEMES]


def stationarity(results: Results, scheme: str) -> float:
    """Return the mean of ‖∇f(w̄)‖² over the records but the last, one every I steps."""
    return float(np.mean(results.of("theorem", scheme)[0].curves["gradient_norm"][:-1] ** 2))


def _ordered(results: Results) -> Claim:
    found = bounds(results)
    values = " ≤ ".join(f"{value:.4g}" for value in found)
    right = all(one <= other for one, other in pairwise(found))
    return Claim("exact", "bounds in order, random groups", " ≤ ".join(SCHEMES), values, right, "derivation")


def shares(results: Results, groups: int, side: str) -> Floats:
    """Return the upward or downward part of the divergence of each draw (draws,), all at one point."""
    row = results.of("draws", f"N = {groups}")[0]
    name = "level2" if side == "upward" else "level1"
    found: Floats = row.curves[name][1:] / row.curves["divergence"][1:]  # the first record repeats the first draw
    return found


def expected(groups: int, side: str) -> float:
    """Return (N − 1)/(n − 1) or (n − N)/(n − 1)."""
    return (groups - 1 if side == "upward" else WORKERS - groups) / (WORKERS - 1)


def _share(results: Results, groups: int, side: str) -> Claim:
    values, wanted = shares(results, groups, side), expected(groups, side)
    found = interval(values, 0.99)
    formula = "(N−1)/(n−1)" if side == "upward" else "(n−N)/(n−1)"
    return Claim(
        "exact",
        f"mean {side} share, N = {groups}",
        f"{formula} = {wanted:.4f}",
        f"{found}, {len(values)} draws, 99 %",
        found.low <= wanted <= found.high,
        "derivation",
    )


def _bounded(results: Results, scheme: str) -> Claim:
    """The bound is of the mean over all groupings; one is measured."""
    value, most = stationarity(results, scheme), bounds(results)[SCHEMES.index(scheme)]
    return Claim(
        "bound", f"mean ‖∇f‖² below the bound, {scheme}", f"≤ {most:.4g}", f"{value:.4g}", value <= most, "from memory"
    )


def observed(results: Results) -> list[Claim]:
    """Return what the bounds suggest of the losses, which they do not promise."""
    low, high = (float(results.finals("groupings", scheme).mean()) for scheme in ("P = I", "P = G"))
    found, means = [], []
    for groups in GROUPS:
        values = results.finals("groupings", f"N = {groups}")
        mean = interval(values)
        means.append(mean)
        outside = int(np.sum((values < low) | (values > high)))
        said = f"{mean}, {len(values)} groupings, 95 %; {outside} of them outside"
        wanted = f"between {low:.4f} and {high:.4f}"
        inside = low <= mean.low and mean.high <= high
        found.append(_observation(f"mean final loss, N = {groups}", wanted, said, inside))
    order = means[0].high < means[1].low
    said = f"{means[0]} and {means[1]}"
    found.append(_observation("more groups are nearer to P = G", "N = 2 below N = 5", said, order))
    accuracies = [float(results.mean("groupings", scheme, "accuracy")[-1]) for scheme in SCHEMES]
    said = ", ".join(f"{value:.4f}" for value in accuracies)
    right = all(one >= other for one, other in pairwise(accuracies))
    found.append(
        _observation("mean final accuracy", " ≥ ".join(SCHEMES), said, right, "the paper's figures, from memory")
    )
    reference = results.finals("groupings", "N = 2")
    for scheme, below in (("I = 10", False), ("G = 25", True)):
        values = results.finals("periods", scheme)
        difference = interval(values - reference[: len(values)])
        right = difference.high < 0 if below else difference.low > 0
        said = f"loss {difference} away, {len(values)} groupings"
        wanted = "below" if below else "above"
        found.append(
            _observation(f"{scheme} instead of {LOCAL if 'I' in scheme else GLOBAL}, N = 2", wanted, said, right)
        )
    for part, schemes in (("alike", ("group-IID", "group-non-IID")), ("three", ("3 levels",))):
        ends = [float(results.finals(part, scheme).mean()) for scheme in ("P = I", "P = G")]
        losses = [float(results.finals(part, scheme).mean()) for scheme in schemes]
        for scheme, loss in zip(schemes, losses, strict=True):
            inside = ends[0] <= loss <= ends[1]
            wanted = f"between {ends[0]:.5f} and {ends[1]:.5f}"
            found.append(_observation(f"final loss, {scheme}", wanted, f"{loss:.5f}", inside))
        if len(losses) == 2:
            said = f"{losses[0]:.5f} and {losses[1]:.5f}"
            found.append(_observation("group-IID is better", "below group-non-IID", said, losses[0] < losses[1]))
    return found


def _observation(claim: str, predicted: str, measured: str, holds: bool, rests: str = "the bounds' order") -> Claim:
    return Claim("observed", claim, predicted, measured, holds, rests)


def printed(claims: Sequence[Claim]) -> str:
    """Return the table as text."""
    head = ("", "claim", "predicted", "measured", "holds", "rests on")
    rows = [
        head,
        *(
            (one.kind, one.claim, one.predicted, one.measured, "yes" if one.holds else "NO", one.rests)
            for one in claims
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
