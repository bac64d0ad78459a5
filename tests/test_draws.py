"""How workers sample: uniform, independent of one another, and the same hash as in `naive`."""

from __future__ import annotations

import math
from collections import Counter

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mpilocal.kernels.scalar import draw, stream

seeds = st.integers(0, 2**63 - 1)
workers = st.integers(0, 2**40)


def draws(seed: int, worker: int, first: int, last: int, count: int, reshuffle: bool) -> NDArray[np.int64]:
    key = np.uint64(stream(np.uint64(seed), worker))
    return np.array([draw(key, number, count, reshuffle) for number in range(first, last)], np.int64)


def chi_square(observed: NDArray[np.int64], expected: float) -> float:
    """The statistic less its mean, in standard deviations."""
    freedom = observed.size - 1
    statistic = float(np.sum((observed - expected) ** 2) / expected)
    return (statistic - freedom) / math.sqrt(2 * freedom)


@given(seed=seeds, worker=workers, first=st.integers(0, 2**50), count=st.integers(1, 2**32 - 1))
def test_with_replacement_as_specified(seed: int, worker: int, first: int, count: int) -> None:
    want = [naive.draw(seed, worker, number, count, False) for number in range(first, first + 20)]
    assert draws(seed, worker, first, first + 20, count, False).tolist() == want
    assert all(0 <= row < count for row in want)


@given(seed=seeds, worker=workers, epoch=st.integers(0, 2**40), count=st.integers(1, 80), offset=st.integers(0, 79))
@settings(max_examples=60)
def test_reshuffling_as_specified(seed: int, worker: int, epoch: int, count: int, offset: int) -> None:
    first = epoch * count + offset % count
    want = [naive.draw(seed, worker, number, count, True) for number in range(first, first + 5)]
    assert draws(seed, worker, first, first + 5, count, True).tolist() == want


@pytest.mark.parametrize("count", [*range(1, 71), 127, 128, 129, 1000, 4097, 20000])
def test_reshuffling_is_a_permutation_in_each_epoch(count: int) -> None:
    epochs = [draws(3, 4, epoch * count, (epoch + 1) * count, count, True) for epoch in (0, 1, 7)]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(count))
    if count > 20:
        assert not np.array_equal(epochs[0], epochs[1])


@pytest.mark.parametrize("count", [2, 3, 7, 64, 1000])
def test_with_replacement_is_uniform(count: int) -> None:
    number = 60 * count if count > 100 else 20000
    found = draws(11, 0, 0, number, count, False)
    assert abs(chi_square(np.bincount(found, minlength=count), number / count)) < 4
    # Pairs of successive draws too, of few rows.
    if count <= 7:
        pairs = np.bincount(found[:-1:2] * count + found[1::2], minlength=count**2)
        assert abs(chi_square(pairs, number / 2 / count**2)) < 4


@pytest.mark.parametrize("reshuffle", [False, True])
def test_workers_and_seeds_are_independent(reshuffle: bool) -> None:
    """The joint law of two workers' draws is uniform; so is that of two seeds."""
    count, number = 8, 16000
    one = draws(5, 0, 0, number, count, reshuffle)
    for other in (draws(5, 1, 0, number, count, reshuffle), draws(6, 0, 0, number, count, reshuffle)):
        joint = np.bincount(one * count + other, minlength=count**2)
        assert abs(chi_square(joint, number / count**2)) < 4
        assert np.mean(one == other) == pytest.approx(1 / count, abs=0.01)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_all_orders_of_few_rows_are_as_likely(count: int) -> None:
    orders, epochs = math.factorial(count), 12000
    found = draws(7, 0, 0, epochs * count, count, True).reshape(epochs, count)
    seen = Counter(map(tuple, found.tolist()))
    assert len(seen) == orders
    assert abs(chi_square(np.array(list(seen.values())), epochs / orders)) < 4


@pytest.mark.parametrize("count", [6, 7, 8, 13, 40])
def test_neighbours_in_an_epoch_are_as_likely(count: int) -> None:
    """The first and the second row of an epoch take all ordered pairs equally often, nearly."""
    epochs = 60 * count * count if count <= 13 else 30000
    key = np.uint64(stream(np.uint64(9), 0))
    pairs = np.zeros((count, count), np.int64)
    for epoch in range(epochs):
        pairs[draw(key, epoch * count, count, True), draw(key, epoch * count + 1, count, True)] += 1
    assert not pairs.diagonal().any()
    others = pairs[~np.eye(count, dtype=bool)]
    assert abs(chi_square(others, epochs / others.size)) < 5


def test_streams_of_many_workers_differ() -> None:
    """The same draws for two of ten thousand workers would need equal 64-bit keys."""
    assert len({int(stream(np.uint64(1), worker)) for worker in range(10000)}) == 10000
    assert len({int(stream(np.uint64(seed), 0)) for seed in range(10000)}) == 10000
