"""Partitions: each a permutation of the rows, the same on any number of ranks; rows arrive where they belong."""

import itertools

import numpy as np
import pytest
from data_helpers import as_dicts, assert_same, read, sparse_rows
from hypothesis import given
from hypothesis import strategies as st

from mpilocal.data.deal import deal
from mpilocal.data.digest import digest, finish, sums
from mpilocal.data.partition import blocks, plan
from mpilocal.data.permute import permuted
from mpilocal.data.pieces import cut, offsets, take
from mpilocal.data.rows import Part, Rows, block
from mpilocal.data.share import share
from mpilocal.errors import ConfigError

TOTAL = 230
OWN = """
import numpy as np
def by_parity(labels, users, first, total, workers, seed, comm):
    return (first + np.arange(len(labels))) % workers
def shape(labels, users, first, total, workers, seed, comm):
    return np.zeros(3, int)
def outside(labels, users, first, total, workers, seed, comm):
    return np.full(len(labels), workers)
"""
KINDS = [
    "contiguous",
    "iid",
    "shared",
    "label",
    "label-shards",
    {"kind": "label-shards", "labels": 1},
    {"kind": "dirichlet", "alpha": 0.3},
    {"kind": "dirichlet", "alpha": 5.0, "min_rows": 9},
    "user",
    "own.py:by_parity",
]


def whole(kind: str) -> Rows:
    """The same rows on every rank."""
    rows = sparse_rows(TOTAL, users=True)
    if kind == "sparse":
        return rows
    return Rows(rows.labels, 5, dense=np.random.default_rng(2).standard_normal((TOTAL, 5)), users=rows.users)


def part_of(rows: Rows, comm) -> Part:
    first, last = block(TOTAL, comm.size, comm.rank)
    return Part(cut(rows, first, last), first, TOTAL, "")


def everyones(comm, array):
    return np.concatenate(comm.allgather(array))


def one_rank(rows: Rows, kind, workers, folder):
    from mpi4py import MPI

    return plan(MPI.COMM_SELF, Part(rows, 0, TOTAL, ""), kind, workers, 7, folder)


@pytest.mark.parallel([1, 2, 3])
def test_partitions_do_not_depend_on_ranks_and_rows_arrive(tmp_path):
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    if comm.rank == 0:
        (tmp_path / "own.py").write_text(OWN)
    comm.Barrier()
    for layout in ("dense", "sparse"):
        rows = whole(layout)
        part = part_of(rows, comm)
        for kind in KINDS:
            for workers in (3, 8):
                mine = plan(comm, part, kind, workers, 7, tmp_path)
                alone = one_rank(rows, kind, workers, tmp_path)
                position = everyones(comm, mine.position)
                np.testing.assert_array_equal(np.sort(position), np.arange(TOTAL), err_msg=str(kind))
                np.testing.assert_array_equal(position, alone.position)
                np.testing.assert_array_equal(mine.counts, alone.counts)
                assert mine.counts.sum() == TOTAL
                dealt = deal(comm, part, mine, workers)
                first, last = block(workers, comm.size, comm.rank)
                ends = offsets(mine.counts)
                expected = take(rows, np.argsort(position)[ends[first] : ends[last]])
                assert_same(dealt.rows, expected)
                np.testing.assert_array_equal(dealt.offsets, ends[first : last + 1] - ends[first])
    for kind, message in (("own.py:shape", "return one integer"), ("own.py:outside", "returned worker 3")):
        with pytest.raises(ConfigError, match=message):
            plan(comm, part, kind, 3, 7, tmp_path)


@pytest.mark.parallel([1, 3])
def test_shared_rows_are_all_rows(monkeypatch):
    from mpi4py import MPI

    from mpilocal.data import move
    from mpilocal.data import share as module

    class Hosts(MPI.Intracomm):
        """Pretends that ranks 0, 1 and rank 2 sit on different hosts."""

        def Split_type(self, kind, key=0, info=MPI.INFO_NULL):
            return self.Split(self.rank // 2, key)

    monkeypatch.setattr(module, "PIECE", 100)
    monkeypatch.setattr(move, "CHUNK", 300)
    for comm in (MPI.COMM_WORLD, Hosts(MPI.COMM_WORLD)):
        for layout in ("dense", "sparse"):
            rows = whole(layout)
            part = part_of(rows, comm)
            shared = share(comm, part)
            assert_same(shared.rows, rows)
            shared.free()
            # dealing in many small chunks
            mine = plan(comm, part, "iid", 4, 1)
            dealt = deal(comm, part, mine, 4)
            whole_digest = digest(comm, dealt.rows, int(offsets(mine.counts)[dealt.first]), TOTAL)
            alone = take(rows, np.argsort(permuted(np.arange(TOTAL), TOTAL, 1)))
            assert whole_digest == finish(sums(alone, 0), TOTAL, rows.features)


def test_what_each_partition_promises():
    rows = whole("sparse")
    by_worker = {}
    for kind in KINDS[:-1]:
        made = one_rank(rows, kind, 8, None)
        name = kind if isinstance(kind, str) else "-".join(str(value) for value in kind.values())
        worker = np.searchsorted(offsets(made.counts), made.position, side="right") - 1
        by_worker[name] = [np.flatnonzero(worker == m) for m in range(8)]
    assert [len(ids) for ids in by_worker["iid"]] == blocks(TOTAL, 8).tolist()
    assert by_worker["contiguous"][0].tolist() == list(range(29))
    labels = [rows.labels[ids] for ids in by_worker["label"]]
    assert all(a.max() <= b.min() for a, b in itertools.pairwise(labels))
    assert max(len(np.unique(rows.labels[ids])) for ids in by_worker["label-shards-1"]) <= 2
    assert min(len(ids) for ids in by_worker["dirichlet-5.0-9"]) >= 9
    users = [set(rows.users[ids].tolist()) for ids in by_worker["user"]]
    assert sum(map(len, users)) == len(set().union(*users)) == 9
    assert all(max(a) < min(b) for a, b in itertools.pairwise(users))
    assert np.std([len(ids) for ids in by_worker["dirichlet-0.3"]]) > 5


@given(st.integers(1, 3000), st.integers(0, 2**63 - 1), st.integers(0, 9))
def test_permutation(n, seed, part):
    out = permuted(np.arange(n), n, seed, part)
    np.testing.assert_array_equal(np.sort(out), np.arange(n))
    some = np.random.default_rng(0).integers(0, n, 20)
    np.testing.assert_array_equal(permuted(some, n, seed, part), out[some])


def test_permutation_is_spread():
    n = 10007
    out = permuted(np.arange(n), n, 3)
    assert abs(np.corrcoef(out, np.arange(n))[0, 1]) < 0.03
    assert abs((np.diff(out) > 0).mean() - 0.5) < 0.03
    assert (out == np.arange(n)).sum() < 10
    assert (out != permuted(np.arange(n), n, 4)).mean() > 0.99
    # every place is as likely for the first index, over seeds
    firsts = np.array([permuted(np.zeros(1, np.int64), 5, seed)[0] for seed in range(2000)])
    assert np.bincount(firsts, minlength=5).min() > 320


REFUSED = [
    ("idd", 3, 'data.partition = "idd" is not known; did you mean "iid"'),
    ({"alpha": 1.0}, 3, "data.partition.kind is missing"),
    ({"kind": "dirichlet"}, 3, "alpha is missing"),
    ({"kind": "dirichlet", "alpha": 0}, 3, "alpha = 0 is not accepted"),
    ({"kind": "dirichlet", "alpha": 1.0, "minrows": 2}, 3, 'did you mean "min_rows"'),
    ({"kind": "dirichlet", "alpha": 1e-6}, 30, "in 100 draws: raise alpha"),
    ("user", 10, "has 9 users for workers.count = 10"),
    ("contiguous", 231, "worker 230 of 231 has no rows.*use fewer workers"),
    ("nofile.py:f", 3, "there is no file nofile.py"),
]


@pytest.mark.parametrize(("kind", "workers", "message"), REFUSED)
def test_refused(kind, workers, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        one_rank(whole("sparse"), kind, workers, tmp_path)


def test_user_partition_needs_users():
    with pytest.raises(ConfigError, match="needs data with users"):
        one_rank(whole("sparse")._replace(users=None), "user", 3, None)


def test_shared_may_have_more_workers_than_rows():
    made = one_rank(whole("sparse"), "shared", 500, None)
    assert made.shared and made.counts.sum() == TOTAL and (made.counts == 0).any()


def test_real_partitions(data):
    from mpi4py import MPI

    femnist = read(data / "femnist_leaf" / "femnist105-train-images-idx3-ubyte.gz", users="femnist105-users.csv")
    made = plan(MPI.COMM_SELF, femnist, "user", 105, 1)
    assert (made.counts.min(), made.counts.max(), made.counts.sum()) == (
        4,
        np.bincount(femnist.rows.users).max(),
        14708,
    )
    w8a = read(data / "libsvm" / "w8a.gz")
    for kind in ("iid", "label", {"kind": "dirichlet", "alpha": 0.1}):
        made = plan(MPI.COMM_SELF, w8a, kind, 16, 1)
        np.testing.assert_array_equal(np.sort(made.position), np.arange(49749))
    dealt = deal(MPI.COMM_SELF, w8a, plan(MPI.COMM_SELF, w8a, "label", 16, 1), 16)
    assert (np.diff(dealt.rows.labels) >= 0).all()
    mnist = read(data / "mnist" / "t10k-images-idx3-ubyte.gz")
    made = plan(MPI.COMM_SELF, mnist, {"kind": "label-shards", "labels": 2}, 100, 1)
    dealt = deal(MPI.COMM_SELF, mnist, made, 100)
    kinds = [len(np.unique(dealt.rows.labels[a:b])) for a, b in zip(dealt.offsets, dealt.offsets[1:], strict=False)]
    assert max(kinds) <= 4 and np.mean(kinds) < 2.5
    assert as_dicts(cut(dealt.rows, 0, 2))
