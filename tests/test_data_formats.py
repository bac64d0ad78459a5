"""Sources: .npz, IDX, CIFAR-10 and bundled sets: typed by content, read back as written, refused when wrong."""

import gzip
import lzma

import numpy as np
import pytest
from data_helpers import assert_same, dense_rows, read, sparse_rows, write_idx, written

from mpilocal.config.structs import Data
from mpilocal.data import open_source
from mpilocal.errors import ConfigError, DataError


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "uint8", ">f4"])
def test_dense_npz(tmp_path, save, dtype):
    x = (np.arange(300).reshape(60, 5) % 17).astype(dtype)
    save(tmp_path / "d.npz", X=x, y=np.arange(60), users=np.arange(60) // 4)
    rows = read(tmp_path / "d.npz").rows
    np.testing.assert_array_equal(rows.dense, x.astype(float))
    assert rows.users.tolist() == (np.arange(60) // 4).tolist()
    source = open_source(Data(source="d.npz"), tmp_path)
    np.testing.assert_array_equal(source.read(11, 13).dense, x[11:13])


def test_sparse_npz(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    rows = sparse_rows()
    matrix = sparse.csr_matrix((rows.values, rows.indices, rows.indptr), shape=(50, 30))
    arrays = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr, "shape": matrix.shape}
    np.savez(tmp_path / "d", **arrays, format=b"csr", y=rows.labels)
    assert_same(read(tmp_path / "d.npz").rows, rows)
    sparse.save_npz(tmp_path / "bare.npz", matrix)
    with pytest.raises(DataError, match='no "y"; expected are dense arrays "x"'):
        read(tmp_path / "bare.npz")


NPZ_FAULTS = {
    "names": ({"a": np.ones(3), "y": np.ones(3)}, "holds a, y; expected are"),
    "shape": ({"x": np.ones(3), "y": np.ones(3)}, r"shape \(3,\)"),
    "labels": ({"x": np.ones((3, 2)), "y": np.ones(4)}, "4 entries for 3 rows"),
    "two-dimensional labels": ({"x": np.ones((3, 2)), "y": np.ones((3, 2))}, "must be .rows,. of numbers"),
    "objects": ({"x": np.array([[None]]), "y": np.ones(1)}, "must be"),
    "text": ({"x": np.array([["a"]]), "y": np.ones(1)}, "must be"),
    "order": ({"x": np.asfortranarray(np.ones((3, 2))), "y": np.ones(3)}, "Fortran order"),
    "nan": ({"x": np.array([[1.0], [np.nan]]), "y": np.ones(2)}, r"row 1 \(from 0\) holds a value that is not finite"),
    "csr": (
        {"data": np.ones(2), "indices": np.array([1, 0]), "indptr": np.array([0, 2]), "shape": (1, 2), "y": np.ones(1)},
        "do not ascend",
    ),
}


@pytest.mark.parametrize("fault", NPZ_FAULTS)
def test_wrong_npz_is_refused(fault, tmp_path):
    arrays, message = NPZ_FAULTS[fault]
    np.savez(tmp_path / "d", **arrays)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "d.npz")


def test_idx_images_with_users_and_classes(tmp_path):
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (50, 4, 3), np.uint8), draw.integers(0, 4, 50).astype(np.uint8)
    path = write_idx(tmp_path, images, labels)
    (tmp_path / "users.csv").write_text("who,rows,other\nann,20,1\nbob,25,2\ncy,5,3\n")
    rows = read(path, users="users.csv").rows
    np.testing.assert_array_equal(rows.dense, images.reshape(50, 12) / 255)
    assert np.bincount(rows.users).tolist() == [20, 25, 5]
    kept = read(path, users="users.csv", classes=[1, 3])
    where = np.isin(labels, [1, 3])
    np.testing.assert_array_equal(kept.rows.dense, images.reshape(50, 12)[where] / 255)
    np.testing.assert_array_equal(kept.rows.users, rows.users[where])
    # packed, and labels named
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    named = read(packed, labels="train-labels-idx1-ubyte", users="users.csv")
    assert_same(named.rows, rows)
    with pytest.raises(DataError, match="labels of .*packed are not beside it"):
        read(packed)
    with pytest.raises(DataError, match="name the images file"):
        read(tmp_path / "train-labels-idx1-ubyte")
    with pytest.raises(ConfigError, match="classes names 9"):
        read(path, classes=[1, 9])
    with pytest.raises(ConfigError, match='"user" is not a known key of .*did you mean "users"'):
        read(path, user="users.csv")
    (tmp_path / "wrong.csv").write_text("who,rows\nann,20\n")
    with pytest.raises(DataError, match="one must sum to 50 .rows sums to 20"):
        read(path, users="wrong.csv")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="ends after"):
        read(path)


def test_cifar10_records(tmp_path):
    draw = np.random.default_rng(0)
    records = draw.integers(0, 256, (30, 3073)).astype(np.uint8)
    records[:, 0] %= 10
    (tmp_path / "batch").write_bytes(records.tobytes())
    (tmp_path / "batch.xz").write_bytes(lzma.compress(records.tobytes()))
    part = read(tmp_path / "batch")
    np.testing.assert_array_equal(part.rows.dense, records[:, 1:] / 255)
    assert part.rows.labels.tolist() == records[:, 0].tolist()
    assert read(tmp_path / "batch.xz").digest == part.digest
    assert read(tmp_path / "batch", classes=[0]).total == (records[:, 0] == 0).sum()


def test_bundled_sets():
    pytest.importorskip("sklearn")
    part = read("sklearn:digits", classes=[3, 8])
    assert sorted(np.unique(part.rows.labels)) == [3, 8] and part.rows.features == 64
    scaled = read("sklearn:breast_cancer", standardize=True).rows.dense
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(axis=0), 1)
    with pytest.raises(ConfigError, match='"sklearn:digit" is not known: did you mean "digits"'):
        read("sklearn:digit")


def bytes_file(content):
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a folder"),
        (bytes_file(b""), "is empty"),
        (bytes_file(gzip.compress(b"")), "holds nothing once decompressed"),
        (bytes_file(b"\x00\x01\x02\xff" * 100), "of no known kind"),
        (bytes_file(gzip.compress(b"1 1:1\n" * 9999)[:-30]), "cannot be read|damaged"),
        (bytes_file(b"\x1f\x8bgarbage"), "cannot be read"),
        (bytes_file(b"PK\x03\x04garbage"), "not a readable .npz"),
        (bytes_file(b"\x89HDF\r\n\x1a\ngarbage"), "not a readable HDF5 file"),
        (bytes_file(b"\x00\x00\x08\x03\x00"), "ends after"),
    ],
)
def test_files_that_cannot_be_read(prepare, message, tmp_path):
    prepare(tmp_path / "d")
    with pytest.raises(DataError, match=message):
        read(tmp_path / "d")


def test_a_relative_source_is_looked_for_beside_the_config_then_here(tmp_path, monkeypatch):
    for name in ("config", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "d").write_text("1 1:1\n")
    assert open_source(Data(source="d"), tmp_path / "config").total == 1
    (tmp_path / "config" / "d").write_text("1 1:1\n2 1:2\n")
    assert open_source(Data(source="d"), tmp_path / "config").total == 2


def test_wrong_names_and_options(tmp_path):
    (tmp_path / "d").write_text("1 1:1\n")
    with pytest.raises(ConfigError, match='"layot" is not a known key.*did you mean "layout"'):
        read(tmp_path / "d", layot="dense")
    written(tmp_path / "h5", dense_rows())
    with pytest.raises(ConfigError, match="takes no options"):
        read(tmp_path / "h5", rows=3)
    with pytest.raises(ConfigError, match='neither a file nor synthetic:NAME.*did you mean "synthetic"'):
        read("syntetic:mixture")
    written(tmp_path / "dense", dense_rows())
    with pytest.raises(DataError, match="has 7 features: leave data.features out"):
        read(tmp_path / "dense", dimension=8)
    written(tmp_path / "sparse", sparse_rows())
    assert read(tmp_path / "sparse", dimension=31).rows.features == 31
    with pytest.raises(DataError, match="has 30 features: raise or leave out"):
        read(tmp_path / "sparse", dimension=29)


def test_real_images(data):
    mnist = read(data / "mnist" / "t10k-images-idx3-ubyte.gz", classes=[3, 8])
    assert (mnist.total, mnist.rows.features) == (1984, 784)
    for kind, count in (("train", 14708), ("test", 1685)):
        file = data / "femnist_leaf" / f"femnist105-{kind}-images-idx3-ubyte.gz"
        part = read(file, users="femnist105-users.csv")
        assert part.total == count and len(np.unique(part.rows.users)) == 105
    cifar = read(data / "cifar10" / "test_batch_first1000.bin.xz")
    assert (cifar.total, cifar.rows.features) == (1000, 3072)
    assert sorted(np.unique(cifar.rows.labels)) == list(range(10))
