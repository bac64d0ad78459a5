"""The means of many groups in one call: the bits of one exact sum per group, whatever the order, dtype and threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mpilocal.exact import SMALL, GroupMeans, SmallSum, StreamSum
from mpilocal.kernels.cpu.exact import BLOCK
from mpilocal.threads import Threads

Array = NDArray[np.floating]
Ints = NDArray[np.int64]


def one_by_one(x: Array, scale: Array, order: Ints, bounds: Ints, divisors: Array) -> Array:
    """What `GroupMeans` must give, a sum of its own for each group."""
    x = x.copy()
    alone = Threads(1)
    mean = np.empty(x.shape[1])
    for g, divisor in enumerate(divisors):
        rows = order[bounds[g] : bounds[g + 1]]
        if len(rows) < 2:
            continue
        if len(rows) <= SMALL:
            SmallSum(x.shape[1], len(rows), alone).reduce(None, x[rows], scale[rows], float(divisor), mean)
        else:
            total = StreamSum(x.shape[1], len(rows), alone)
            total.add(x[rows], scale[rows])
            total.reduce(None, float(divisor), mean)
        for row in rows:
            x[row] = mean
    return x


def case(seed: int, sizes: list[int], dim: int, dtype: str, idle: int = 2) -> tuple[Array, Array, Ints, Ints, Array]:
    """Rows over eight decades in groups of the given sizes, in a random order; `idle` rows are in no group."""
    draw = np.random.default_rng(seed)
    rows = sum(sizes) + idle
    x = (draw.standard_normal((rows, dim)) * 10.0 ** draw.integers(-4, 5, (rows, 1))).astype(dtype)
    scale = draw.uniform(0.1, 1, rows)
    order = draw.permutation(rows)[: sum(sizes)]
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return x, scale, order, bounds, draw.uniform(1, 5, len(sizes))


@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.one_of(st.integers(0, 5), st.sampled_from([17, SMALL, SMALL + 1, 90])), min_size=1, max_size=6),
    dim=st.sampled_from([1, 2, 7, BLOCK, BLOCK + 3]),
    dtype=st.sampled_from(["float64", "float32"]),
    threads=st.integers(1, 2),
)
@settings(max_examples=60)
def test_bits_of_one_sum_per_group(seed: int, sizes: list[int], dim: int, dtype: str, threads: int) -> None:
    x, *how = case(seed, sizes, dim, dtype)
    want = one_by_one(x, *how)
    pool = Threads(threads)
    means = GroupMeans(dim, max(sizes), pool)
    got = x.copy()
    means(got, *how)
    again = x.copy()
    means(again, *how)
    pool.close()
    assert got.tobytes() == want.tobytes() == again.tobytes()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_two_threads_share_the_work(dtype: str) -> None:
    """Enough coordinates that both threads get some; groups of other sizes side by side."""
    x, *how = case(1, [3, 1, 8, SMALL, 2, SMALL + 6], 40 * BLOCK + 5, dtype)
    got = []
    for threads in (1, 2, 3):
        pool = Threads(threads)
        one = x.copy()
        GroupMeans(x.shape[1], SMALL + 6, pool)(one, *how)
        pool.close()
        got.append(one.tobytes())
    assert got == [one_by_one(x, *how).tobytes()] * 3


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_stays_in_its_group_and_coordinate(dtype: str, bad: float) -> None:
    x, *how = case(2, [1, 4, SMALL + 1, 3], 9, dtype)
    order, bounds = how[1], how[2]
    clean = one_by_one(x, *how)
    for group in range(4):
        rows = order[bounds[group] : bounds[group + 1]]
        got = x.copy()
        got[rows[-1], 5] = bad
        GroupMeans(9, SMALL + 1, Threads(1))(got, *how)
        if group == 0:
            assert got[rows[0], 5] == bad or np.isnan(bad)
        else:
            assert np.isnan(got[rows, 5]).all()
        got[rows, 5] = clean[rows, 5]
        assert got.tobytes() == clean.tobytes()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rows_of_one_and_equal_rows_keep_their_bits(dtype: str) -> None:
    """Also of a not-a-number and of −0, where a row is alone; idle rows are not touched."""
    row = np.array([-0.0, np.nan, 5e-324, 1 / 3, -1e30, 7.0], dtype)
    x = np.tile(row, (6, 1))
    before = x.copy()
    means = GroupMeans(6, 3, Threads(1))
    order, bounds = np.array([4, 0, 2, 5]), np.array([0, 1, 2, 3, 4])
    means(x, np.full(6, 0.3), order, bounds, np.full(4, 2.0))
    assert x.tobytes() == before.tobytes()
    x[:, :2] = 0.25
    before = x.copy()
    means(x, np.ones(6), np.array([5, 1, 0, 2, 3]), np.array([0, 3, 5]), np.array([3.0, 2.0]))
    assert x.tobytes() == before.tobytes()


def test_no_groups_and_too_long_ones() -> None:
    x = np.ones((SMALL + 2, 3))
    before = x.copy()
    everything = np.arange(SMALL + 2)
    means = GroupMeans(3, 2, Threads(1))
    means(x, np.ones(len(x)), everything[:0], np.zeros(1, np.int64), np.empty(0))
    with pytest.raises(ValueError, match=f"{SMALL + 2} rows is too long: planned for {SMALL}"):
        means(x, np.ones(len(x)), everything, np.array([0, len(x)]), np.full(1, 2.0))
    assert x.tobytes() == before.tobytes()


@pytest.mark.parametrize("stream", [False, True], ids=["small", "stream"])
def test_a_sum_planned_for_more_serves_fewer(stream: bool) -> None:
    """After `plan`, the bits of a sum made for that many terms, also where they depend on it."""
    draw = np.random.default_rng(3)
    counts = [70, 2, 300, 65] if stream else [SMALL, 2, 5, 33, 1, SMALL]
    kind = StreamSum if stream else SmallSum
    reused = kind(50, max(counts), Threads(1))
    for count in counts:
        rows = draw.standard_normal((count, 50)) * 10.0 ** draw.uniform(-60, 0, (count, 50))
        fresh = kind(50, count, Threads(1))
        reused.plan(count)
        means = np.empty(50), np.empty(50)
        for total, out in zip((reused, fresh), means, strict=True):
            if isinstance(total, StreamSum):
                total.add(rows, np.ones(count))
                total.reduce(None, 3.0, out)
            else:
                total.reduce(None, rows, np.ones(count), 3.0, out)
        assert means[0].tobytes() == means[1].tobytes()
        if isinstance(reused, SmallSum) and isinstance(fresh, SmallSum):
            assert reused.total.tobytes() == fresh.total.tobytes()


def test_sums_that_are_too_long_are_refused() -> None:
    with pytest.raises(ValueError, match="65 terms is too long"):
        SmallSum(1, 4, Threads(1)).plan(65)
    with pytest.raises(ValueError, match="at most 2\\^24"):
        StreamSum(1, 2, Threads(1)).plan(2**24 + 1)
