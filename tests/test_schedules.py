"""Step sizes, rounds and weights against `naive`, and the closed forms of the papers."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpilocal.config import kinds
from mpilocal.errors import ConfigError
from mpilocal.schedules import Facts, Records, Schedule, first_step, inverse_time, longest_round, step_sizes

FACTS = Facts(rows=500, smoothness=2.0, convexity=0.01)
STEP_SIZES: list[float | dict[str, Any]] = [
    0.3,
    {"kind": "constant", "value": 0.3, "warmup": 7},
    {"kind": "inverse-time", "scale": 3.0, "shift": 11.5},
    {"kind": "inverse-time", "scale": 3.0, "shift": 11.5, "warmup": 4},
    {"kind": "inverse-sqrt", "scale": 2.0},
    {"kind": "inverse-sqrt", "scale": 2.0, "shift": 5.0},
    {"kind": "stich", "c": 0.25},
    {"kind": "stich", "c": 4.0},
    {"kind": "stich", "c": 0.25, "constant": True},
    {"kind": "piecewise", "values": [1.0, 0.5, 0.1], "steps": [3, 8]},
    {"kind": "piecewise", "values": [1.0], "steps": [], "warmup": 3},
]
LOCAL_STEPS: list[int | dict[str, Any]] = [
    1,
    5,
    {"kind": "post-local", "until": 3, "steps": 4},
    {"kind": "post-local", "until": 0, "steps": 4},
    {"kind": "post-local", "until": 50, "steps": 4},
    {"kind": "growing", "scale": 1.0},
    {"kind": "growing", "scale": 0.3},
    {"kind": "growing", "scale": 2.7},
]


def schedule(step_size: Any, local_steps: Any = 1, averages: Any = "last", rounds: int = 12) -> Schedule:
    parsed = kinds.parse_step_size(step_size), kinds.parse_iterate_average(averages)
    return Schedule(kinds.parse_local_steps(local_steps), *parsed, rounds, FACTS, np.dtype(np.float64))


@pytest.mark.parametrize("kind", STEP_SIZES, ids=str)
def test_step_sizes(kind: Any) -> None:
    parsed = kinds.parse_step_size(kind)
    t = np.arange(40.0)
    want = [naive.step_size(kind, step, FACTS.rows) for step in range(40)]
    np.testing.assert_allclose(step_sizes(parsed, t, FACTS, 4), want, rtol=1e-15)


@pytest.mark.parametrize("kind", LOCAL_STEPS, ids=str)
def test_rounds(kind: Any) -> None:
    parsed = kinds.parse_local_steps(kind)
    found = [first_step(parsed, round) for round in range(21)]
    assert found == naive.bounds(kind, 20)
    assert (np.diff(found) >= 1).all()
    assert longest_round(parsed, 20) == np.diff(found).max()


@given(scale=st.floats(1e-3, 100), rounds=st.integers(1, 60))
def test_growing_rounds_end_at_the_square(scale: float, rounds: int) -> None:
    parsed = kinds.Growing(scale=scale)
    found = [first_step(parsed, round) for round in range(rounds + 1)]
    assert found == naive.bounds({"kind": "growing", "scale": scale}, rounds)
    assert longest_round(parsed, rounds) == np.diff(found).max()
    if scale >= 1:
        assert found == [math.floor(Fraction(repr(scale)) * j * j) for j in range(rounds + 1)]


@pytest.mark.parametrize("local_steps", LOCAL_STEPS, ids=str)
@pytest.mark.parametrize("kind", STEP_SIZES, ids=str)
def test_a_round_has_the_steps_of_its_place(kind: Any, local_steps: Any) -> None:
    """The same whatever round is asked for first: a resumed run needs no memory."""
    averages = ["uniform", "linear", "quadratic", {"kind": "tail", "start": 0.4}]
    made = schedule(kind, local_steps, averages)
    bounds = naive.bounds(local_steps, 12)
    shift = kind.get("shift", 1.0) if isinstance(kind, dict) else 1.0
    for round in (7, 0, 11, 3, 7):
        first, eta, weights = made.begin(round)
        steps = range(bounds[round], bounds[round + 1])
        assert first == steps[0]
        np.testing.assert_allclose(eta, [naive.step_size(kind, t, FACTS.rows) for t in steps], rtol=1e-15)
        assert made.eta(first) == eta[0]
        for q, name in enumerate(("uniform", "linear", "quadratic", "tail")):
            want = [naive.weight(name, t, shift, 2 * bounds[-1] // 5) for t in steps]
            np.testing.assert_allclose(weights[:, q], want, rtol=1e-15)
    for q, name in enumerate(("uniform", "linear", "quadratic", "tail")):
        begin = 2 * bounds[-1] // 5
        for steps_done in (0, 1, bounds[5], bounds[-1]):
            want = math.fsum(naive.weight(name, t, shift, begin) for t in range(steps_done))
            assert made.averages[q].total(steps_done) == pytest.approx(want, rel=1e-13)


@given(a=st.integers(1, 10**4), steps=st.integers(0, 400))
def test_closed_form_of_the_quadratic_weights(a: int, steps: int) -> None:
    """S_T = Σ_{t < T} (a + t)² = T/6 (2T² + 6aT − 3T + 6a² − 6a + 1) ≥ T³/3 (Stich 2019, section 3)."""
    want = sum((a + t) ** 2 for t in range(steps))
    closed = Fraction(steps, 6) * (2 * steps**2 + 6 * a * steps - 3 * steps + 6 * a**2 - 6 * a + 1)
    assert closed == want and 3 * want >= steps**3
    table = {"kind": "inverse-time", "scale": 1.0, "shift": float(a)}
    assert schedule(table, 1, "quadratic").averages[0].total(steps) == pytest.approx(want, rel=1e-14)


def test_inverse_time_of_the_theorem() -> None:
    """4/µ and a = max{16 κ, H} (Stich 2019, Theorem 2.2); H is that of the longest round."""
    auto = kinds.InverseTime()
    assert inverse_time(auto, FACTS, 10) == (400.0, 3200.0)
    assert inverse_time(auto, FACTS, 5000) == (400.0, 5000.0)
    assert inverse_time(kinds.InverseTime(scale=2.0), FACTS, 10) == (2.0, 3200.0)
    assert inverse_time(kinds.InverseTime(shift=7.0), FACTS, 10) == (400.0, 7.0)
    made = schedule({"kind": "inverse-time"}, {"kind": "growing", "scale": 300.0}, "quadratic", 8)
    assert made.averages[0].shift == made.longest == 300 * (64 - 49)
    eta = made.begin(0)[1]
    assert eta[0] == 400 / 4500 <= 1 / (4 * FACTS.smoothness)


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        (kinds.InverseTime(), FACTS._replace(convexity=0.0)),
        (kinds.InverseTime(scale=1.0), FACTS._replace(convexity=0.0)),
        (kinds.InverseTime(), FACTS._replace(smoothness=math.nan)),
    ],
)
def test_auto_needs_a_strongly_convex_smooth_objective(kind: kinds.InverseTime, facts: Facts) -> None:
    with pytest.raises(ConfigError, match=r"algorithm\.step_size"):
        inverse_time(kind, facts, 1)


def test_float32_schedules() -> None:
    made = Schedule(
        kinds.FixedSteps(steps=3), kinds.Constant(value=0.1), (kinds.Uniform(),), 4, FACTS, np.dtype(np.float32)
    )
    _, eta, weights = made.begin(1)
    assert eta.dtype == np.float32 and weights.dtype == np.float64 and eta.tolist() == [np.float32(0.1)] * 3
    one = made.one_step()
    assert [one.first(round) for round in range(5)] == [0, 1, 2, 3, 4] and one.begin(2)[0] == 2


@given(st.integers(1, 50), st.integers(1, 300))
def test_regular_records(every, rounds):
    records = Records(kinds.parse_record_every(every))
    wanted = {0, rounds, *range(0, rounds, every)}
    assert {r for r in range(rounds + 1) if r in records or r == rounds} == wanted
    assert records.count(rounds) == len(wanted)


@given(st.decimals("1.001", "3", places=3), st.integers(1, 2000))
def test_geometric_records(ratio, rounds):
    wanted, next = {0, rounds}, 1
    while next <= rounds:
        wanted.add(next)
        next = max(next + 1, math.ceil(Fraction(ratio) * next))
    kind = kinds.parse_record_every({"kind": "geometric", "ratio": float(ratio)})
    assert Records(kind).count(rounds) == len(wanted)
    records = Records(kind)
    assert {r for r in range(rounds + 1) if r in records or r == rounds} == wanted
    assert {r for r in range(rounds + 1) if r in records or r == rounds} == wanted  # asked again, in any order
