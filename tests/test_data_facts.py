"""The digest, the label mappings, and what `data info` gathers."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from data_helpers import read, sparse_rows, to_text
from hypothesis import given
from hypothesis import strategies as st

from mpilocal.config.structs import Data
from mpilocal.data import open_source
from mpilocal.data.digest import finish, sums
from mpilocal.data.info import info
from mpilocal.data.labels import binary, classes
from mpilocal.data.pieces import cut, take
from mpilocal.data.rows import Rows
from mpilocal.errors import DataError


def digest_of(rows, cuts=()):
    edges = [0, *sorted(cuts), rows.count]
    parts = [sums(cut(rows, a, b), a) for a, b in itertools.pairwise(edges)]
    return finish(sum(parts[::-1], np.zeros(2, np.uint64)), rows.count, rows.features)


@given(st.sets(st.integers(0, 50), max_size=5))
def test_digest_does_not_depend_on_pieces(cuts):
    rows = sparse_rows()
    assert digest_of(rows, cuts) == digest_of(rows)
    assert len(digest_of(rows)) == 32


def test_digest_sees_every_change():
    rows = sparse_rows()
    dense = Rows(rows.labels, 4, dense=np.arange(200.0).reshape(50, 4))
    seen = {digest_of(rows), digest_of(dense)}
    count = 2
    for k in range(len(rows.values)):
        values, indices = rows.values.copy(), rows.indices.copy()
        values[k] = np.nextafter(values[k], 9)
        indices[k] = (indices[k] + 1) % 30
        seen |= {digest_of(rows._replace(values=values)), digest_of(rows._replace(indices=indices))}
        count += 2
    for i in range(50):
        labels, x = rows.labels.copy(), dense.dense.copy()
        labels[i] += 1
        x[i, i % 4] += 1
        seen |= {digest_of(rows._replace(labels=labels)), digest_of(dense._replace(dense=x))}
        count += 2
    order = np.arange(50)
    order[[3, 4]] = [4, 3]
    seen |= {digest_of(take(rows, order)), digest_of(rows._replace(features=31)), digest_of(cut(rows, 0, 49))}
    assert len(seen) == count + 3


def test_digest_is_of_numbers_not_of_their_storage():
    rows = sparse_rows()
    narrow = rows._replace(values=rows.values.astype(np.float32))
    wide = rows._replace(values=narrow.values.astype(np.float64))
    assert digest_of(narrow) == digest_of(wide) != digest_of(rows)
    dense = Rows(np.array([0.0]), 2, dense=np.array([[0.0, 1.0]]))
    assert digest_of(dense) == digest_of(Rows(np.array([-0.0]), 2, dense=np.array([[-0.0, 1.0]])))


@pytest.mark.parallel([1, 2, 3])
def test_labels_are_mapped_by_all_ranks_alike():
    from mpi4py import MPI

    from mpilocal.data.groups import _merged, distinct

    comm = MPI.COMM_WORLD
    mine = np.full(4, 2.0 if comm.rank % 2 else 1.0)
    if comm.rank == 0:
        mine[1] = 2.0
    mapped, mapping = binary(comm, mine)
    assert mapping == {1.0: -1, 2.0: 1}
    np.testing.assert_array_equal(mapped, np.where(mine == 2, 1.0, -1.0))
    numbers, table = classes(comm, np.array([7.0, comm.rank, -3.5]))
    assert list(table) == sorted({7.0, -3.5, *map(float, range(comm.size))})
    assert numbers.tolist() == [table[7.0], table[float(comm.rank)], 0.0]
    for values, message in (
        (np.array([1.0, 2.0, 3.0]), r"have 3 different values \(1, 2, 3\), not two: use loss = \"softmax\""),
        (np.ones(2), r"have 1 different values \(1\), not two: a loss on margins needs two"),
        (np.arange(20.0), r"20 different values \(0, .*, 9, …\)"),
    ):
        with pytest.raises(DataError, match=message):
            binary(comm, values)
    with pytest.raises(DataError, match="classes need at least two"):
        classes(comm, np.ones(3))
    with pytest.raises(DataError, match="more than 65536 different values"):
        classes(comm, np.arange(70000.0))
    # many values are merged up a tree
    own = np.arange(comm.rank, 100 + comm.rank, dtype=np.float64)
    np.testing.assert_array_equal(_merged(comm, own, 1000), np.arange(99.0 + comm.size))
    assert _merged(comm, own, 99 + comm.size) is not None and _merged(comm, own, 98 + comm.size) is None
    assert distinct(comm, own, 99) is None


def test_info(tmp_path):
    rows = sparse_rows()
    (tmp_path / "d").write_text(to_text(rows))
    facts = info(open_source(Data(source="d"), tmp_path))
    a = np.zeros((50, 30))
    a[np.repeat(np.arange(50), np.diff(rows.indptr)), rows.indices] = rows.values
    norms = np.linalg.norm(a, axis=1)
    assert (facts["rows"], facts["features"], facts["nonzeros"]) == (50, 30, len(rows.values))
    assert facts["density"] == len(rows.values) / 1500
    assert facts["labels"]["counts"] == {f"{v:g}": int((rows.labels == v).sum()) for v in np.unique(rows.labels)}
    assert facts["row_norm"] == pytest.approx({"min": norms.min(), "mean": norms.mean(), "max": norms.max()})
    assert facts["value"] == {"min": a.min(), "max": a.max()}
    assert facts["digest"] == read(tmp_path / "d").digest
    top = np.linalg.eigvalsh(a.T @ a / 50)[-1]
    assert top * 0.97 < facts["smoothness"]["squared"] <= top * (1 + 1e-12)
    assert facts["smoothness"]["logistic"] == facts["smoothness"]["squared"] / 4
    assert facts["smoothness"]["row_bound"] == pytest.approx(norms.max() ** 2)


def test_info_of_real_targets_shows_twenty(tmp_path):
    (tmp_path / "d").write_text("".join(f"{k} 1:1\n" for k in range(30)))
    labels = info(open_source(Data(source="d"), tmp_path))["labels"]
    assert labels["different"] == 30 and len(labels["counts"]) == 21 and labels["counts"]["…"] == 10


def test_info_of_w8a(data):
    facts = info(open_source(Data(source="libsvm/w8a.gz"), data))
    assert (facts["rows"], facts["features"], facts["nonzeros"]) == (49749, 300, 579586)
    assert facts["labels"]["counts"] == {"-1": 48270, "1": 1479}


def test_reading_without_mpi(tmp_path):
    (tmp_path / "d").write_text("1 1:1\n-1 2:1\n")
    code = (
        "import sys; from pathlib import Path; from mpilocal.config.structs import Data;"
        "from mpilocal.data import open_source; from mpilocal.data.info import info;"
        "print(info(open_source(Data(source='d'), Path('.')))['rows']);"
        "print('mpi4py.MPI' in sys.modules, 'sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["2", "False", "False"], done.stderr
