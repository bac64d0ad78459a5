"""Quantities of made-up runs, their aggregates and intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from study_helpers import FINAL, NAMES, run

from mpilocal.errors import ConfigError
from mpilocal.study import quantities
from mpilocal.study.aggregate import aggregate, interval


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ({"kind": "final"}, 1 / 80),
        ({"kind": "final", "of": "suboptimality_uniform"}, 2 / 80),
        ({"kind": "final", "of": ["suboptimality_uniform", "suboptimality"]}, 1 / 80),
        ({"kind": "final", "of": "bytes"}, 130),
        ({"kind": "final", "of": "seconds"}, 5),
        ({"kind": "final", "of": "level1/divergence"}, 10),
        ({"kind": "final", "of": "test_accuracy", "times": "K * 2"}, 2 * 2 * (1 - 1 / 80)),
        ({"kind": "final", "times": "step * K"}, 1),
        ({"kind": "best", "of": "test_accuracy"}, 1 - 1 / 80),
        ({"kind": "best", "of": "level1/divergence", "times": "step"}, 4),
        ({"kind": "at", "round": 5}, 1 / 40),
        ({"kind": "at", "round": 0}, math.nan),
        ({"kind": "rounds-to", "target": 1 / 40}, 5),
        ({"kind": "steps-to", "target": 1 / 40}, 20),
        ({"kind": "samples-to", "target": 1 / 40}, 40),
        ({"kind": "bytes-to", "target": 1 / 40}, 65),
        ({"kind": "seconds-to", "target": 1 / 40}, 2.5),
        ({"kind": "rounds-to", "target": 1 / 39}, 5),
        ({"kind": "rounds-to", "target": 1e-9}, math.inf),
        ({"kind": "rounds-to", "target": 0.975, "of": "test_accuracy"}, 5),
        ({"kind": "rounds-to", "target": 1 / 40, "of": ["suboptimality", "suboptimality_uniform"]}, 5),
        ({"kind": "cost-to", "target": 1 / 40, "cost": "step + 25 * round * (K - 1)"}, 145),
        ({"kind": "cost-to", "target": 1e-9, "cost": "step"}, math.inf),
    ],
)
def test_quantity(quantity, expected):
    found = quantities.value(quantities.parse(quantity, "q", NAMES), run(2, 4), NAMES)
    assert found == pytest.approx(expected, nan_ok=True)


def test_lost_runs_are_the_worst():
    gone = run(status="diverged")
    for quantity, worst in (
        (FINAL, math.inf),
        ({"kind": "rounds-to", "target": 1.0}, math.inf),
        ({"kind": "final", "of": "accuracy"}, -math.inf),
    ):
        assert quantities.value(quantities.parse(quantity, "q"), gone) == worst
        assert quantities.score(quantity, gone) == quantities.score(quantity, gone, largest=True) == math.inf
    assert quantities.score(FINAL, run()) == 0.1
    assert quantities.score({"kind": "final", "of": "test_accuracy"}, run(), largest=True) == -0.9
    assert quantities.score({"kind": "at", "round": 0}, run()) == math.inf


def test_nan_is_never_at_the_target():
    values = np.array([math.nan, 0.5, math.nan])
    found = run(rounds=3, suboptimality=values)
    assert quantities.value(quantities.parse({"kind": "rounds-to", "target": 0.5}, "q"), found) == 2
    assert quantities.value(quantities.parse({"kind": "best"}, "q"), found) == 0.5
    assert math.isnan(quantities.value(quantities.parse(FINAL, "q"), found))


def test_aggregate():
    values = np.array([[1.0, 2.0, 9.0], [1.0, math.inf, math.inf], [4.0, 0.0, 2.0], [1.0, 2.0, math.nan]])
    nan = math.nan
    np.testing.assert_allclose(aggregate(values, "mean"), [4, math.inf, 2, nan])
    np.testing.assert_allclose(aggregate(values, "median"), [2, math.inf, 2, nan])
    np.testing.assert_allclose(aggregate(values, "geometric-mean"), [18 ** (1 / 3), math.inf, 0, nan])
    for how in ("mean", "median", "geometric-mean"):
        assert aggregate(np.full(3, 0.1), how) == 0.1
    assert np.isnan(aggregate(np.array([-1.0, 2.0]), "geometric-mean"))
    assert aggregate(np.array([-math.inf, 2.0]), "mean") == -math.inf
    assert aggregate(np.array([1.0, 3.0, 5.0, 6.0]), "median") == 4


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(300):
        values = rng.normal(1.0, 1.0, 40)
        low, high = interval(lambda places, values=values: aggregate(values[places], "mean"), 40)
        assert low < values.mean() < high
        inside += low <= 1.0 <= high
    assert 0.88 < inside / 300 < 0.99
    values = rng.normal(0.0, 1.0, 400)
    low, high = interval(lambda places: aggregate(values[places], "mean"), 400)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.08)
    assert np.isnan(interval(lambda places: places[:, 0].astype(float), 1)).all()


def test_first_and_largest_so_far():
    found = run()
    names = {"start": "first_suboptimality", "top": "largest_suboptimality + 0 * start"}
    gaps = found.history["suboptimality"]
    for name, wanted in (("start", gaps[0]), ("top", gaps.max())):
        quantity = quantities.parse({"kind": "final", "of": "round", "times": f"{name} / round"}, "q", names)
        assert quantities.value(quantity, found, names) == pytest.approx(wanted)


def test_where_a_number_may_be_a_name():
    names = {"goal": "1 / 40", "half": "10 / 2"}
    found = run()
    to = quantities.parse({"kind": "rounds-to", "target": "goal"}, "q", names)
    assert quantities.value(to, found, names) == quantities.value(
        quantities.parse({"kind": "rounds-to", "target": 1 / 40}, "q"), found
    )
    at = quantities.parse({"kind": "at", "round": "half"}, "q", names)
    assert quantities.value(at, found, names) == quantities.value(
        quantities.parse({"kind": "at", "round": 5}, "q"), found
    )
    every = quantities.parse({"kind": "best", "of": "suboptimality*"}, "q", names)
    assert quantities.value(every, found, names) == found.history["suboptimality"].min()
    with pytest.raises(ConfigError, match="one of round, step and samples"):
        quantities.parse({"kind": "at", "round": 1, "step": 2}, "q", names)


def test_rate():
    """v = 3 e^(−0.25 round): 0.25, of the second half alone, where there is one."""
    rounds = np.array([0, 2, 5, 6, 9])
    values = 3 * np.exp(-0.25 * rounds)
    one = run()._replace(history={"round": rounds, "suboptimality": np.append([99.0, 7.0], values[2:])})
    assert quantities.value(quantities.parse({"kind": "rate"}, "q"), one) == pytest.approx(0.25, rel=1e-12)
    for lost in (np.zeros(5), -values):
        assert np.isnan(
            quantities.value(
                quantities.parse({"kind": "rate"}, "q"), one._replace(history={"round": rounds, "suboptimality": lost})
            )
        )
    alone = one._replace(history={"round": np.array([0]), "suboptimality": np.ones(1)})
    assert np.isnan(quantities.value(quantities.parse({"kind": "rate"}, "q"), alone))
