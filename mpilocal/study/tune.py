"""Choosing a value for each cell on seeds of its own, over a grid that grows until the best is not at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mpilocal.study.structs import Family


def missing(family: Family, extensions: int, scores: Mapping[float, float]) -> list[float]:
    """Return the values to try next, given the score of those that were tried (the smaller the better, inf: diverged).

    First all of the `family`; then one more at the end where the best lies, at the ratio of the last two there, at most
    `extensions` at each.
    """
    first = [value for value in family.values if value not in scores]
    if first:
        return first
    tried = sorted(scores)
    best = chosen(scores)
    below = sum(value < family.values[0] for value in tried)
    above = sum(value > family.values[-1] for value in tried)
    if best == tried[0] and below < extensions:
        return _next(tried[0], tried[1])
    if best == tried[-1] and above < extensions and math.isfinite(scores[best]):
        return _next(tried[-1], tried[-2])
    return []


def _next(end: float, inner: float) -> list[float]:
    """Return the value beyond an end, none where it is no number above 0."""
    try:
        found = end**2 / inner
    except OverflowError:
        return []
    return [found] if 0 < found < math.inf else []


def chosen(scores: Mapping[float, float]) -> float:
    """Return the value with the best score, the smallest of several; where all diverge, the smallest."""
    return min(sorted(scores), key=lambda value: (not math.isfinite(scores[value]), scores[value]))


def interior(scores: Mapping[float, float]) -> bool:
    """Return whether the best value has worse ones on either side."""
    tried = sorted(scores)
    return tried[0] < chosen(scores) < tried[-1]
