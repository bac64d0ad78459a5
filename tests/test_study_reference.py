"""Claims against tables of numbers that somebody has told, and against bounds of theory."""

from __future__ import annotations

import numpy as np
import pytest
from study_helpers import AXES, FINAL, NAMES, H, K, results, run
from test_claims import row

from mpilocal.errors import ConfigError
from mpilocal.study import claims


def entries(*values):
    """Cells with H = 1 and K = 1, 2, 4, which end at 0.1, 0.05 and 0.025."""
    return [{"cell": {K: workers, H: 1}, "value": value} for workers, value in zip(AXES[K], values, strict=True)]


@pytest.mark.parametrize(
    ("told", "more", "holds"),
    [
        ((0.1, 0.05, 0.025), {}, True),
        ((0.19, 0.05, 0.025), {}, True),
        ((0.21, 0.05, 0.025), {}, False),
        ((0.1, 0.05, 0.0124), {}, False),
        ((0.15, 0.075, 0.025), {"median_within": 1.51}, True),
        ((0.15, 0.075, 0.025), {"median_within": 1.49}, False),
        ((0.1, 0.05, 0.025), {"order": 2.0}, True),
        ((0.06, 0.09, 0.025), {"order": 1.6}, True),  # 0.09 and 0.06 differ by less
        ((0.06, 0.09, 0.025), {"order": 1.5}, False),  # measured the other way round
    ],
)
def test_numbers_that_were_told(told, more, holds):
    assert row(kind="table", entries=entries(*told), within=2.0, **more).holds is holds


def test_what_is_said():
    said = row(kind="table", entries=entries(0.3, 0.05, 0.02), within=2.0, median_within=1.3, order=2.0)
    assert said.predicted == "3 numbers within 2, their median within 1.3, in order where they differ by 2"
    assert said.measured.startswith("measured over told: 0.333 to 1.25, median factor 1.25; beyond: K = 1, H = 1: 0.1")
    assert said.measured.endswith("3 of 3 orders") and said.holds is False
    wrong = row(kind="table", entries=entries(0.02, 0.05, 0.025), within=9.0, order=2.0)
    assert wrong.measured.endswith("1 of 2 orders; not K = 2, H = 1 above K = 1, H = 1")


def test_an_entry_is_of_one_cell():
    table = {"claim": "c", "quantity": FINAL, "kind": "table", "within": 2.0}
    with pytest.raises(ConfigError, match="is of 2 cells: select one"):
        claims.check([{**table, "entries": [{"cell": {K: 1}, "value": 1.0}]}], AXES, names=NAMES)


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("1 / (K * H)", "; vacuous in 6 of 6: above the start"),  # the first gap itself
        ("0.999 / (K * H)", ""),
        ("0.3 * 1", "; vacuous in 4 of 6: above the start"),
        ("first_suboptimality * log(0 * K + 3) / H", "; vacuous in 3 of 6: above the start"),
        (0.3, ""),  # a number is no bound of theory
    ],
)
def test_a_bound_above_the_start_is_vacuous(limit, said):
    found = row(kind="bound", at_most=limit)
    assert found.predicted.partition("; ")[2] == said.removeprefix("; ")


def test_an_infinite_bound_holds_and_is_vacuous():
    far = [run(1, 1, seed, distance=np.full(10, np.inf)) for seed in (1, 2, 3)]
    found = row(results(*far), kind="bound", at_most="distance", select={K: 1, H: 1})
    assert found.holds is True and found.predicted.endswith("vacuous in 1 of 1: above the start")
