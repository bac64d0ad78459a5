"""The order-free sums: the same bits for any order, ranks and threads, and no less exact than a pairwise sum."""

from __future__ import annotations

import math
from collections.abc import Sequence

import naive
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mpilocal.exact import SMALL, SmallSum, StreamSum, relative
from mpilocal.kernels.cpu.exact import BLOCK
from mpilocal.threads import Threads
from mpilocal.tree import Tree

Array = NDArray[np.float64]
ULP = 2.0**-52

anything = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
near = st.builds(lambda m, e: m * 2.0**e, st.floats(-2, 2), st.integers(-60, 5))
tiny = st.builds(lambda k: k * 5e-324, st.integers(-(2**40), 2**40))
special = st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1.0, -1.0, 1 + ULP, 1e300, -1e300])
terms = st.lists(st.one_of(anything, near, tiny, special), min_size=1, max_size=12)


def total(
    groups: Sequence[Array], scales: Sequence[Array], stream: bool, threads: int = 1, divisor: float = 1.0
) -> Array:
    """The sum over simulated ranks, each with its rows: what `reduce` does, with NumPy in the place of MPI."""
    dim, count = groups[0].shape[1], sum(len(rows) for rows in groups)
    pool = Threads(threads)
    out = np.full(dim, 7.0)
    if stream:
        ranks = [StreamSum(dim, count, pool) for _ in groups]
        for rank, rows, scale in zip(ranks, groups, scales, strict=True):
            half = len(rows) // 2
            rank.add(rows[:half], scale[:half])
            rank.add(rows[half:], scale[half:])
            rank.begin()
        common = np.max([rank.common for rank in ranks], axis=0)
        for rank in ranks:
            rank.common[:] = common
            rank.align()
        ranks[0].limbs[:] = np.sum([rank.limbs for rank in ranks], axis=0)
        ranks[0].finish(divisor, out)
    else:
        few = [SmallSum(dim, count, pool) for _ in groups]
        for one, rows, scale in zip(few, groups, scales, strict=True):
            one.begin(rows, scale)
        peaks = np.max([one.peaks for one in few], axis=0)
        for one, rows, scale in zip(few, groups, scales, strict=True):
            one.peaks[:] = peaks
            one.pack(rows, scale)
        few[0].total[:] = np.sum([one.total for one in few], axis=0)
        few[0].finish(divisor, out)
    pool.close()
    return out


def whole(rows: Array, stream: bool, divisor: float = 1.0) -> Array:
    return total([rows], [np.ones(len(rows))], stream, divisor=divisor)


def bits(x: Array) -> list[int]:
    return list(np.asarray(x).view(np.int64))


@pytest.mark.parametrize("stream", [False, True], ids=["small", "stream"])
@given(data=st.data(), ranks=st.integers(1, 7), threads=st.integers(1, 3), dim=st.sampled_from([1, 3, BLOCK + 5]))
def test_any_order_and_grouping_gives_the_same_bits(
    stream: bool, data: st.DataObject, ranks: int, threads: int, dim: int
) -> None:
    values = data.draw(st.lists(terms, min_size=1, max_size=3))
    count = data.draw(st.integers(1, 12))
    # Column j holds the values of list j, rolled: blocks mix columns with and without terms.
    lists = [values[j % len(values)] for j in range(dim)]
    rows = np.array([[column[(m + j) % len(column)] for j, column in enumerate(lists)] for m in range(count)])
    scale = np.array(data.draw(st.lists(st.floats(0.01, 1), min_size=count, max_size=count)))
    want = total([rows], [scale], stream)
    order = np.array(data.draw(st.permutations(range(count))))
    cuts = sorted(data.draw(st.lists(st.integers(0, count), min_size=ranks - 1, max_size=ranks - 1)))
    groups = np.split(rows[order], cuts)
    scales = np.split(scale[order], cuts)
    assert bits(total(groups, scales, stream, threads)) == bits(want)


@pytest.mark.parametrize("stream", [False, True], ids=["small", "stream"])
@pytest.mark.parametrize("bad", [math.nan, -math.nan, math.inf, -math.inf])
def test_not_finite_stays_in_its_coordinate(stream: bool, bad: float) -> None:
    rows = np.random.default_rng(1).standard_normal((6, 9))
    clean = whole(rows, stream)
    for place in range(6):
        spoiled = rows.copy()
        spoiled[place, 4] = bad
        for cuts in ([], [3]):
            parts = np.split(spoiled, cuts)
            got = total(parts, [np.ones(len(part)) for part in parts], stream)
            assert math.isnan(got[4])
            assert bits(np.delete(got, 4)) == bits(np.delete(clean, 4))


def test_a_sum_is_used_again() -> None:
    """What one sum leaves behind does not touch the next one."""
    draw = np.random.default_rng(2)
    large, small = 1e200 * draw.standard_normal((5, 4)), 1e-200 * draw.standard_normal((5, 4))
    large[2, 1] = math.nan
    ones, out = np.ones(5), np.empty(4)
    few, stream = SmallSum(4, 5, Threads()), StreamSum(4, 5, Threads())
    for rows in (large, small, large, small):
        few.reduce(None, rows, ones, 1.0, out)
        assert bits(out) == bits(whole(rows, False))
        stream.add(rows, ones)
        stream.reduce(None, 1.0, out)
        assert bits(out) == bits(whole(rows, True))


@given(x=st.one_of(anything, tiny, near), count=st.sampled_from([1, 2, 3, 5, 6, 7, 11, 63, 64, 65, 100, 1000]))
@example(x=1.5 + 2.0**-51, count=3)
def test_equal_rows_keep_their_bits(x: float, count: int) -> None:
    """Of equal weights the scale is exactly 1, and the mean of equal rows is the row."""
    scale, divisor = relative(np.full(count, 1 / count))
    assert (scale == 1).all() and divisor == count
    rows = np.full((count, 1), x)
    for stream in (False, True) if count <= SMALL else (True,):
        assert total([rows], [scale], stream, divisor=divisor)[0] == x


@given(weights=st.lists(st.integers(1, 1000), min_size=2, max_size=9), x=near)
def test_equal_rows_of_unequal_weights_agree_to_an_ulp(weights: list[int], x: float) -> None:
    scale, divisor = relative(np.array(weights, np.float64))
    rows = np.full((len(weights), 1), x)
    for stream in (False, True):
        got = total([rows], [scale], stream, divisor=divisor)[0]
        # Products that are subnormal are rounded each by itself.
        assert abs(got - x) <= 2 * ULP * abs(x) + len(weights) * 5e-324


@given(
    weights=st.lists(st.integers(1, 50), min_size=1, max_size=9),
    threads=st.integers(1, 2),
    dtype=st.sampled_from(["float64", "float32"]),
)
@settings(max_examples=30)
def test_the_mean_of_a_tree(weights: list[int], threads: int, dtype: str) -> None:
    count = len(weights)
    p = np.array(weights) / sum(weights)
    rows = np.random.default_rng(sum(weights)).standard_normal((count, 7)).astype(dtype)
    pool = Threads(threads)
    for exact in (True, False):
        tree = Tree(None, p, count, pool, exact=exact)
        tree.flag = 3
        got = tree.average(rows)
        np.testing.assert_allclose(got, naive.mean(list(rows.astype(np.float64)), list(p)), rtol=0, atol=4e-16 * 4)
        assert count == 1 or tree.take_flags() == 3
        if count == 1:
            assert got.tobytes() == rows[0].astype(np.float64).tobytes()
        x = rows.copy()
        assert tree.mean(x, 0)
        assert all(row.tobytes() == got.astype(dtype).tobytes() for row in x)
    pool.close()


def test_many_workers_stream() -> None:
    """More workers than one limb carries: the same mean as of few, by another sum."""
    count = 3 * SMALL + 1
    rows = np.random.default_rng(3).standard_normal((count, 300))
    tree = Tree(None, np.full(count, 1 / count), count, Threads())
    np.testing.assert_allclose(tree.average(rows), naive.mean(list(rows), [1.0] * count), rtol=1e-15, atol=1e-17)


@pytest.mark.parallel([3], timeout=120)
def test_reduce_over_ranks() -> None:
    """Over MPI, uneven rows per rank: the bits of one rank alone; flags ride along."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    for count, dim in ((SMALL, 5), (SMALL + 3, 700)):
        rows = np.random.default_rng(4).standard_normal((count, dim)) * np.exp2(np.arange(count) % 37)[:, None]
        p = np.random.default_rng(5).random(count)
        p /= p.sum()
        alone = Tree(None, p, count, Threads())
        tree = Tree(comm, p, count, Threads())
        tree.flag = comm.rank
        got = tree.average(rows[tree.first : tree.first + tree.count])
        assert bits(got) == bits(alone.average(rows))
        assert tree.take_flags() == comm.size - 1
        plain = Tree(comm, p, count, Threads(), exact=False)
        plain.flag = 2 * (comm.rank == 1)
        np.testing.assert_allclose(plain.average(rows[tree.first : tree.first + tree.count]), got, rtol=0, atol=1e-3)
        assert plain.take_flags() == 2
