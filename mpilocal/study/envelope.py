"""The best of all values that were tried, on the very runs that choose: what papers show that choose where they report.

It flatters: at each record the least over the values that were tried is taken, also where they differ by chance alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpilocal.study.results import Results, Run
from mpilocal.study.series import lost

MEASURES = ("suboptimality", "objective", "risk", "gradient_norm", "direction_error", "test_", "accuracy")


def of(results: Results) -> Results:
    """Return the results with the envelope of each cell's tuning runs, by seed, in the place of what is reported."""
    groups: dict[str, list[Run]] = {}
    for run in results.runs:
        if run.role == "tune":
            groups.setdefault(repr((run.cell, run.seed)), []).append(run)
    return results._replace(runs=[_best(runs) for runs in groups.values()])


def _best(runs: Sequence[Run]) -> Run:
    """Return one run whose series are at each record the best of those of the runs that did not diverge."""
    whole = [run for run in runs if not lost(run)]
    if not whole:
        return runs[0]._replace(role="report")
    longest = max(whole, key=lambda run: len(run.history["round"]))
    found = {name: _pointwise(name, whole, len(longest.history["round"])) for name in longest.history}
    return longest._replace(role="report", history=found)


def _pointwise(name: str, runs: Sequence[Run], records: int) -> NDArray[Any]:
    """Return the best value at each record; what is no measure of the iterate stays that of the longest run."""
    columns = [run.history[name] for run in runs if name in run.history]
    if not name.startswith(MEASURES):
        return next(column for column in columns if len(column) == records)
    # A run that ended early stays where it ended.
    best = np.fmax if "accuracy" in name else np.fmin
    padded = [np.concatenate([one, np.full(records - len(one), one[-1])]) for one in columns]
    least: NDArray[Any] = best.reduce(padded)
    return least
