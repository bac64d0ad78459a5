"""A claim against a table of numbers that somebody has told: how near, and whether in the same order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import median

from mpilocal.study import selection
from mpilocal.study.claim_kinds import Told, one_cell
from mpilocal.study.measure import Cells
from mpilocal.study.results import Results
from mpilocal.study.selection import Point

SHOWN = 3


def told(claim: Told, cells: Cells, chosen: Sequence[Point], results: Results, where: str) -> tuple[bool, str]:
    """Return whether the claim holds, and what was measured in words."""
    names, ratios, values = [], [], []
    for place, entry in enumerate(claim.entries):
        found = selection.select(chosen, entry.cell, results.axes, f"{where}.entries.{place}.cell")
        point = one_cell(found, found, entry, where)
        assert point is not None
        value = cells.measure(point).value
        names.append(selection.named(point, point.key, cells.names))
        values.append(value)
        ratios.append(value / entry.value if math.isfinite(value) and value > 0 else math.inf)
    away = [max(ratio, 1 / ratio) for ratio in ratios]
    far = sorted(
        (place for place in range(len(away)) if not away[place] <= claim.within), key=lambda place: -away[place]
    )
    middle = median(away)
    said = f"measured over told: {min(ratios):.3g} to {max(ratios):.3g}, median factor {middle:.3g}"
    if far:
        more = f"; and {len(far) - SHOWN} more" if len(far) > SHOWN else ""
        said += "; beyond: " + "; ".join(f"{names[at]}: {values[at]:.3g}" for at in far[:SHOWN]) + more
    holds = not far and (claim.median_within is None or middle <= claim.median_within)
    if claim.order is not None:
        pairs = [
            (one, other)
            for one, other in itertools.permutations(range(len(values)), 2)
            if claim.entries[one].value >= claim.order * claim.entries[other].value
        ]
        wrong = [(one, other) for one, other in pairs if not values[one] > values[other]]
        said += f"; {len(pairs) - len(wrong)} of {len(pairs)} orders"
        said += "".join(f"; not {names[one]} above {names[other]}" for one, other in wrong[:SHOWN])
        holds = holds and not wrong
    return holds, said
