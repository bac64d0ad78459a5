"""The tree of workers: means of groups wherever their workers sit, what is counted, and errors that none waits for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from mpi4py import MPI
from plugins import running

import mpilocal
from mpilocal.config.structs import Level
from mpilocal.errors import ConfigError, DivergedError, MpilocalError
from mpilocal.store import checkpoint
from mpilocal.threads import Threads
from mpilocal.tree import Tree
from mpilocal.tree.levels import resolve

WORKERS = 12
TREES = {
    "flat": [],
    "period": [Level(period=3)],
    "blocks": [Level(group=4), Level(period=4)],
    "straddling": [Level(group={"sizes": [1, 5, 2, 4]}), Level(period=4)],
    "three": [Level(group=2), Level(group=6, period=2), Level(period=6)],
    "own periods": [Level(group={"sizes": [5, 7]}, period=[1, 2]), Level(period=4)],
    "narrow": [Level(group=3), Level(group=6, period=2)],
    "random": [Level(group={"random": 3}), Level(period=3)],
    "once": [Level(group={"random": 4, "redraw": "once"}), Level(period=2)],
    "random pairs": [Level(group={"random": 2})],
    "random of blocks": [Level(group=2), Level(group={"random": 6}, period=2), Level(period=4)],
    "random in blocks": [Level(group={"random": 2}), Level(group=6, period=3), Level(period=6)],
    "random twice": [Level(group={"random": 2}), Level(group={"random": 6}, period=2), Level(period=6)],
}
ROUNDS = 7
DIM = 5


def weights(kind: str) -> np.ndarray:
    if kind == "uniform":
        return np.full(WORKERS, 1 / WORKERS)
    p = np.arange(1.0, WORKERS + 1)
    return p / p.sum()


def averaged(tree: Tree, x: np.ndarray) -> np.ndarray:
    """The rows after ROUNDS rounds, each of which moves them apart by its own pseudo-random step."""
    for round in range(ROUNDS):
        step = np.random.default_rng(round).standard_normal((WORKERS, x.shape[1]))
        x += step[tree.first : tree.first + tree.count].astype(x.dtype)
        tree.mean(x, round)
    return x


@pytest.mark.parallel([1, 2, 3, 5])
def test_means():
    comm = MPI.COMM_WORLD
    kinds = itertools.product(TREES.items(), ("uniform", "samples"), ("float64", "float32"), (True, False))
    for (name, options), kind, dtype, exact in kinds:
        p = weights(kind)
        start = np.random.default_rng(9).standard_normal((WORKERS, DIM)).astype(dtype)
        levels = resolve(options, WORKERS, 7)
        alone = Tree(None, p, WORKERS, Threads(), levels=resolve(options, WORKERS, 7), exact=exact)
        expected = averaged(alone, start.copy())
        tree = Tree(comm, p, WORKERS, Threads(), levels=levels, exact=exact)
        mine = slice(tree.first, tree.first + tree.count)
        got = averaged(tree, start[mine].copy())
        if exact:
            np.testing.assert_array_equal(got, expected[mine], err_msg=name)
        else:
            np.testing.assert_allclose(got, expected[mine], atol=1e-5 if dtype == "float32" else 1e-14, err_msg=name)
        np.testing.assert_array_equal(tree.totals(), closed_form(levels, start.itemsize), err_msg=name)
        sent = sum(wire.messages for wire in tree.wires)
        assert comm.size > 1 or sent == 0
        tree.close()


def closed_form(levels, itemsize):
    """Σ_g (⌊R/I_g⌋ − ⌊R/P_above⌋) averagings of n_g vectors, by counting rounds."""
    found = []
    for number, level in enumerate(levels.levels):
        often = np.zeros(len(level.periods), int)
        for done in range(1, ROUNDS + 1):
            wider = [done % one == 0 if number + 1 < len(levels.levels) else False for one in level.above]
            often += (done % level.periods == 0) & ~np.array(wider)
        vectors = int((often * np.where(level.sizes > 1, level.sizes, 0)).sum())
        found.append((int(often.sum()), vectors, vectors * DIM * itemsize))
    return found


@pytest.mark.parallel([3])
def test_a_message_is_sent_only_where_a_group_crosses():
    comm = MPI.COMM_WORLD
    for size, crossing in ((4, False), (6, True)):  # 3 ranks hold 4 workers each
        levels = resolve([Level(group=size), Level(period=100)], WORKERS, 1)
        tree = Tree(comm, weights("uniform"), WORKERS, Threads(), levels=levels)
        tree.mean(np.ones((tree.count, DIM)), 0)
        # exponents in 16 bits, then limbs; the middle rank takes part in both groups
        assert tree.wires[0].messages == (0 if not crossing else 4 if comm.rank == 1 else 2)
        assert tree.wires[1].messages == 0
        assert [np.isfinite(one) for one in tree.waits] == [crossing]
        tree.close()


@pytest.mark.parallel([2, 3])
def test_random_groups_make_no_communicators():
    comm = MPI.COMM_WORLD
    levels = resolve([Level(group={"random": 4})], WORKERS, 3)
    tree = Tree(comm, weights("uniform"), WORKERS, Threads(), levels=levels)
    x = np.random.default_rng(comm.rank).standard_normal((tree.count, 2))
    for round in range(3000):  # MPI libraries have room for about 2000 communicators
        tree.mean(x, round)
    mean = tree.average(x)
    np.testing.assert_allclose(x, np.broadcast_to(mean, x.shape), rtol=1e-12)  # gossip: all agree in the end
    tree.close()


def test_draws_are_uniform():
    levels = resolve([Level(group={"random": 2}), Level(period=1)], 6, 5)
    together = np.zeros((6, 6))
    draws = 3000
    for draw in range(draws):
        for first, second in levels.order(0, draw).reshape(-1, 2):
            together[first, second] += 1
            together[second, first] += 1
    share = together[~np.eye(6, dtype=bool)] / draws
    assert abs(share - 1 / 5).max() < 5 * np.sqrt(0.2 * 0.8 / draws)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([Level(group=5)], "levels.0.group = 5 does not divide workers.count = 12"),
        ([Level(group=4), Level(group=6)], "levels.0.group = 4 does not nest in 6"),
        ([Level(), Level(group=6)], 'levels.0.group = "world" does not nest in 6'),
        ([Level(group=3, period=2), Level(period=3)], "levels.0.period = 2 does not divide 3"),
        ([Level(group=6, period=[2, 3]), Level(period=4)], "levels.0.period = 3 does not divide 4"),
        ([Level(group={"sizes": [1, 2]})], "add up to 3, and workers.count = 12"),
        ([Level(group={"sizes": [3, 9]}), Level(group={"random": 4}), Level()], "levels.0.group"),
        ([Level(group=4, period=[1, 2])], "levels.0.period has 2 entries for 3 groups"),
        ([Level(group={"random": 4}, period=[1, 2, 1])], "random groups change"),
        ([Level(group={"random": 4, "redraw": "never"})], "levels.0.group.redraw"),
        ([Level(group={"random": 4, "size": 3})], '"size" is not a known key'),
        ([Level(group="wrld")], "levels.0.group"),
        ([Level(group=0)], "levels.0.group = 0"),
    ],
)
def test_levels_that_cannot_be(options, said):
    with pytest.raises(ConfigError) as caught:
        resolve(options, WORKERS, 1)
    assert said in str(caught.value)


FAULTS = list(itertools.product(("raise", "refuse"), ("", "early", "late"), (False, True)))
GROUPS = [{"group": 3}, {"group": "world", "period": 4}]


@pytest.mark.slow
@pytest.mark.parallel([2, 3])
def test_an_error_in_an_averaging_is_agreed_on():
    comm = MPI.COMM_WORLD
    for (how, when, twice), levels in itertools.product(FAULTS, ([], GROUPS)):
        options = {"how": how, "worker": 5, "twice": twice, "round": 3, **({when: True} if when else {})}
        config = running.table("faulty", **options) | {"levels": levels}
        with pytest.raises(MpilocalError) as caught:
            mpilocal.run(config, comm=comm)
        error = caught.value
        assert error.status == (1 if how == "raise" else 4)
        assert ("the plug-in's own fault" if how == "raise" else "the plug-in found no data") in str(error)
        assert len(set(comm.allgather(str(error)))) == 1


@pytest.mark.slow
@pytest.mark.parallel([2, 3])
def test_a_round_that_failed_on_one_rank_is_not_kept(tmp_path):
    """Be it the last, one that is kept after one that was recorded, or one that ends by a criterion."""
    comm = MPI.COMM_WORLD
    ends = ((3, 3, 8), (8, 8, 8), (5, 1, 8), (8, 1, 8), (4, 100, 4))
    cases = itertools.product(ends, ("", "early", "late"), ([], GROUPS, [{"group": "world", "period": 100}]))
    for number, ((round, every, rounds), when, levels) in enumerate(cases):
        options = {"how": "raise", "worker": 5, "round": round, **({when: True} if when else {})}
        config = running.table("faulty", **options) | {"levels": levels}
        config["algorithm"]["rounds"] = rounds
        config["output"] = {"checkpoint_every": every, "record_every": 2}
        with pytest.raises(MpilocalError) as caught:
            mpilocal.run(config, comm=comm, output=tmp_path / str(number))
        said = f"{round}, {every}, {when}, {levels}"
        assert "the plug-in's own fault" in str(caught.value), said
        if comm.rank == 0:
            kept = checkpoint.newest(tmp_path / str(number) / "checkpoints")[0]
            assert int(kept.stem[6:]) < round, said


@pytest.mark.parallel([1, 2, 3])
def test_one_worker_that_diverges_after_an_averaging():
    comm = MPI.COMM_WORLD
    with pytest.raises(DivergedError) as caught:
        config = running.table("apart", worker=5)
        config["output"]["record_every"] = 8
        mpilocal.run(config, comm=comm)
    assert len(set(comm.allgather(str(caught.value)))) == 1


@pytest.mark.parallel([1, 4])
def test_divergences_where_ranks_hold_unlike_numbers_of_workers():
    comm = MPI.COMM_WORLD
    columns = ["divergence", "level1/divergence", "level2/divergence", "level1/consensus", "level2/consensus"]
    for method, period in (("minibatch-sgd", 1), ("local-sgd", 1), ("local-sgd", 2)):
        config = running.table(method)
        config["levels"] = [{"group": 2}, {"group": "world", "period": period}]
        config["output"] = {"divergence": True}
        config["data"]["options"]["features"] = 40
        found = mpilocal.run(config, comm=comm).history
        alone = mpilocal.run(config).history
        for name in columns:
            np.testing.assert_array_equal(found[name], alone[name], err_msg=name)
        assert found["level1/consensus"][-1] > 0 or method == "minibatch-sgd"
        np.testing.assert_allclose(
            found["level1/divergence"] + found["level2/divergence"], found["divergence"], rtol=1e-12
        )


@pytest.mark.parallel([3])
def test_random_groups_of_many():
    comm, workers = MPI.COMM_WORLD, 210
    p = np.arange(1.0, workers + 1) / sum(range(workers + 1))
    x = np.random.default_rng(4).standard_normal((workers, 3))
    for options in ([Level(group={"random": 105})], [Level(group=70)], [Level(group={"sizes": [69, 71, 70]})]):
        alone = Tree(None, p, workers, Threads(), levels=resolve(options, workers, 2))
        tree = Tree(comm, p, workers, Threads(), levels=resolve(options, workers, 2))
        mine, expected = x[tree.first : tree.first + tree.count].copy(), x.copy()
        for round in range(3):
            alone.mean(expected, round)
            tree.mean(mine, round)
        np.testing.assert_array_equal(mine, expected[tree.first : tree.first + tree.count])
        tree.close()
