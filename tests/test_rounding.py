"""How near the order-free sums are to the true ones: those of math.fsum, but for what is cut below the last digit."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_exact import ULP, Array, bits, terms, total, whole

from mpilocal.exact import SMALL


def bound(column: Array) -> float:
    """Of the error of a pairwise sum: ⌈log₂ M⌉ 2^−53 Σ|x| (Higham 2002, section 4.2)."""
    return math.ceil(math.log2(max(len(column), 2))) * 2.0**-53 * math.fsum(np.abs(column))


def error(column: Array, got: float) -> float:
    return abs(math.fsum([*column, -got]))


@pytest.mark.parametrize("stream", [False, True], ids=["small", "stream"])
@given(column=terms)
@example(column=[1.0, 2.0**-53, -1.0])
@example(column=[5e-324, 5e-324, -5e-324])
@example(column=[2.0**-1040, 2.0**-1074, 1.5 * 2.0**-1022])
def test_error_is_below_that_of_a_pairwise_sum(stream: bool, column: list[float]) -> None:
    x = np.array(column)
    got = float(whole(x[:, None], stream)[0])
    # What is cut may turn the rounding of two terms: by less than a millionth of it.
    assert error(x, got) <= bound(x) * (1 + 1e-6) or len(x) == 1
    if len(x) == 1:
        assert got == x[0]


def law(kind: str, count: int, dim: int) -> NDArray[np.floating]:
    """Terms (count, dim) of one of the laws that the tests draw from."""
    draw = np.random.default_rng(count)
    rows: NDArray[np.floating] = draw.standard_normal((count, dim))
    if kind == "uniform":
        return draw.random((count, dim))
    if kind == "float32":
        return rows.astype(np.float32)
    if kind == "decades":
        return rows * 10.0 ** draw.uniform(-20, 20, rows.shape)
    if kind == "subnormal":
        return rows * 1e-310
    if kind == "cancelling":
        rows[1::2] = -rows[: count - count % 2 : 2] * (1 + 1e-12 * rows[1::2])
    if kind == "midpoint":  # two terms make a tie, small ones tip it
        rows[0] = 1 + draw.integers(0, 2**52, dim) * ULP
        rows[1:2] = draw.choice([-ULP / 2, ULP / 2], dim)
        rows[2:] = draw.integers(-3, 4, (max(count - 2, 0), dim)) * 2.0**-79
    return draw.permuted(rows, axis=0)


def fsum(rows: NDArray[np.floating]) -> Array:
    return np.array([math.fsum(column) for column in rows.T.tolist()])


@pytest.mark.parametrize("kind", ["uniform", "normal", "cancelling", "midpoint", "float32", "subnormal"])
def test_the_correctly_rounded_sum(kind: str) -> None:
    """In every coordinate the sum is that of math.fsum, where a pairwise sum often is not."""
    worse = 0
    for count in (1, 2, 3, 4, 7, 8, 9, 16, 17, 31, 33, 48, SMALL, SMALL + 1, 200):
        rows = law(kind, count, 500)
        want = fsum(rows)
        for stream in (False, True) if count <= SMALL else (True,):
            assert whole(rows, stream).tolist() == want.tolist()
        worse += int(np.sum(np.add.reduce(np.ascontiguousarray(rows.T, np.float64), axis=1) != want))
    assert worse > 100 or kind in ("float32", "subnormal")


@pytest.mark.parametrize("count", [2, 3, 7, 16, 33, SMALL, 1000])
def test_a_range_beyond_the_limbs(count: int) -> None:
    """Terms over forty decades: in no coordinate is the error above that of NumPy's own sum."""
    rows = law("decades", count, 2000)
    want = fsum(rows)
    pairwise = np.add.reduce(np.ascontiguousarray(rows.T), axis=1)
    theirs = np.array([error(column, s) for column, s in zip(rows.T, pairwise, strict=True)])
    for stream in (False, True) if count <= SMALL else (True,):
        got = whole(rows, stream)
        ours = np.array([error(column, s) for column, s in zip(rows.T, got, strict=True)])
        assert (ours <= theirs).all()
        # Where two terms tie, a third may tip it that is too small to be kept.
        assert np.mean(got != want) <= 0.005


@given(weights=st.lists(st.floats(0.01, 1), min_size=1, max_size=SMALL), dtype=st.sampled_from(["float64", "float32"]))
@settings(max_examples=50)
def test_weighted_terms_are_rounded_once(weights: list[float], dtype: str) -> None:
    """The terms are the products scale · row in float64."""
    rows = np.random.default_rng(len(weights)).standard_normal((len(weights), 20)).astype(dtype)
    scale = np.array(weights)
    assert total([rows], [scale], False).tolist() == fsum(scale[:, None] * rows).tolist()


@pytest.mark.parametrize("count", [2, 3, 16, 17, 33, SMALL])
def test_small_terms_beside_a_large_one(count: int) -> None:
    """The worst case of the last digit: all but one term are cut at the same place, in the same direction."""
    room = (count - 1).bit_length()
    for exponent, offset in itertools.product(range(-110, -40), [-(2.0**-20), 0.0, 2.0**-20]):
        x = np.full(count, 2.0**exponent * (1 + offset))
        x[0] = 0.5
        got = float(whole(x[:, None], False)[0])
        lost = count * 2.0 ** (2 * room - 95)
        assert error(x, got) <= 2.0**-53 * abs(got) + lost
        assert error(x, got) <= bound(x) * (1 + 1e-6)
        if exponent - 21 > 2 * room - 94:
            assert got == math.fsum(x)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_largest_totals(sign: float) -> None:
    """Neither the integers of 64 equal terms nor the digits of 64 ranks run over, into the sign or a neighbour."""
    most = np.finfo(np.float64).max
    below = 1 - ULP / 2
    rows = np.tile(sign * np.array([below, 0.5 * below, most, 0.75 * most, 5e-324]), (SMALL, 1))
    ones = [np.ones(1)] * SMALL
    for threads in (1, 2):
        alone = total(np.split(rows, SMALL), ones, False, threads, divisor=float(SMALL))
        assert bits(alone) == bits(rows[0])
    # Every rank's digit is the largest that there is, next to digits of 0.
    rows = np.zeros((SMALL, 5))
    rows[:, [0, 2, 3]] = sign * -(2.0**-82)
    rows[0, [0, 2, 3]] = sign
    got = total(np.split(rows, SMALL), ones, False)
    assert bits(got) == bits(total([rows], [np.ones(SMALL)], False))
    assert got.tolist() == fsum(rows).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "cancelling", "spread"])
def test_a_million_terms(kind: str) -> None:
    """A sum of a million terms is that of math.fsum, to the last bit."""
    draw = np.random.default_rng(0)
    count, dim = 10**6, 20
    rows = draw.standard_normal((count, dim))
    if kind == "cancelling":
        rows[1::2] = -rows[::2]
        rows[0] += 1e-12
    if kind == "spread":
        rows *= np.exp2(draw.integers(-60, 60, rows.shape))
    got = whole(rows, True)
    assert got.tolist() == fsum(rows).tolist()
    cuts = [10, 333333, 700001]
    parts, ones = np.split(rows, cuts), np.split(np.ones(count), cuts)
    assert bits(total(parts, ones, True, 2)) == bits(got)


def test_a_tie_is_tipped_by_the_last_limb() -> None:
    """What lies more than two float64 below the sum still turns its rounding."""
    for width in (60, 100, 106, 107, 108, 110, 120):
        for sign in (1.0, -1.0):
            column = np.array([1.0, ULP / 2, sign * 2.0**-width])
            assert whole(column[:, None], True)[0] == math.fsum(column) == 1 + ULP * (sign > 0)
            assert whole(-column[:, None], True)[0] == math.fsum(-column)


def test_terms_between_two_digits_in_any_order() -> None:
    """A term half-way between two multiples of the last digit is rounded by itself, not with what came before."""
    unit = 2.0**-90  # of up to four terms below 1
    column = np.array([0.75, -0.75, unit / 2, unit])
    for order in itertools.permutations(range(4)):
        rows = column[list(order), None]
        assert whole(rows, False)[0] == unit
        assert total(np.split(rows, [2]), [np.ones(2)] * 2, False)[0] == unit
