"""HDF5, .npz, IDX, CIFAR-10 and bundled sets: typed by content, read back as written, refused when wrong."""

import gzip
import lzma

import h5py
import numpy as np
import pytest
from data_helpers import as_dicts, assert_same, read, sparse_rows, to_text, write_idx

from mpilocal.config.structs import Data
from mpilocal.data import open_source
from mpilocal.data.convert import convert
from mpilocal.data.make import make
from mpilocal.data.rows import Part, Rows
from mpilocal.data.write import write_dataset
from mpilocal.errors import ConfigError, DataError


def dense_rows(count=40, features=7, users=False):
    draw = np.random.default_rng(1)
    return Rows(
        draw.integers(0, 2, count).astype(float),
        features,
        dense=draw.standard_normal((count, features)),
        users=np.arange(count) // 9 if users else None,
    )


def written(path, rows, dtype=np.float64, extra=None):
    from mpi4py import MPI

    return write_dataset(MPI.COMM_SELF, path, Part(rows, 0, len(rows.labels), "", extra or {}), dtype)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_convert_round_trip_on_any_ranks(tmp_path, dtype):
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    rows = sparse_rows(90)
    text, file = tmp_path / "rows.csv", tmp_path / "rows.txt"  # names mislead: content decides
    if comm.rank == 0:
        text.write_text(to_text(rows))
    comm.Barrier()
    facts = convert(comm, str(text), file, dtype)
    assert (facts["rows"], facts["features"], facts["nonzeros"], facts["sparse"]) == (90, 30, len(rows.values), True)
    back = read(file, comm, dtype)
    assert back.digest == facts["digest"]
    if dtype == "float64":
        assert facts["digest"] == read(text, comm).digest
    assert back.rows.values.dtype == dtype
    whole = read(file, dtype=dtype).rows
    assert_same(whole, rows._replace(values=rows.values.astype(dtype)))
    made = make(comm, "regression", {"rows": 57, "features": 5}, tmp_path / "made", dtype)
    again = read(tmp_path / "made", comm)
    assert again.digest == made["digest"] and again.extra["optimum"].shape == (5,)
    with pytest.raises(DataError, match="cannot write"):
        write_dataset(comm, tmp_path / "no" / "such" / "folder", again)
    with pytest.raises(ConfigError, match="does not exist"):
        convert(comm, str(text), tmp_path / "no" / "folder")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("users", [False, True])
@pytest.mark.parametrize("rows", [dense_rows(), sparse_rows(), sparse_rows(3)], ids=["dense", "csr", "few"])
def test_hdf5_keeps_all(tmp_path, rows, users):
    if users:
        rows = rows._replace(users=np.arange(len(rows.labels)) // 2)
    extra = {"optimum": np.arange(3.0), "curvature": np.ones(2)}
    digest = written(tmp_path / "d", rows, extra=extra)
    part = read(tmp_path / "d")
    assert_same(part.rows, rows)
    assert part.digest == digest
    assert part.extra.keys() == extra.keys()
    source = open_source(Data(source=str(tmp_path / "d")), tmp_path)
    assert source.total == len(rows.labels)
    assert as_dicts(source.read(1, 3)) == as_dicts(rows)[1:3]


def test_hdf5_is_what_the_documentation_says(tmp_path):
    rows = sparse_rows(users=True)
    written(tmp_path / "a", rows)
    written(tmp_path / "b", rows)
    with h5py.File(tmp_path / "a") as file:
        assert sorted(file) == ["csr", "labels", "users"]
        assert sorted(file["csr"]) == ["indices", "indptr", "values"]
        assert file.attrs["format"] == "mpilocal-data" and file.attrs["version"] == 1
        assert (file.attrs["rows"], file.attrs["features"]) == (50, 30)
        assert file.attrs["creator"].startswith("mpilocal ")
        a, b = file["csr/indptr"][4:6]
        assert dict(zip(file["csr/indices"][a:b].tolist(), file["csr/values"][a:b].tolist())) == as_dicts(rows)[4]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def damage(change):
    def apply(path):
        written(path, sparse_rows())
        with h5py.File(path, "r+") as file:
            change(file)

    return apply


def drop(name):
    return damage(lambda file: file.__delitem__(name))


def put(name, index, value):
    return damage(lambda file: file[name].__setitem__(index, value))


def resized(file):
    labels = file["labels"][:-1]
    del file["labels"]
    file["labels"] = labels


HDF5_FAULTS = {
    "no labels": (drop("labels"), "without /labels"),
    "no values": (drop("csr/values"), "without /csr/values"),
    "no matrix": (drop("csr"), r"without /x \(it holds /labels\)"),
    "fewer labels": (damage(resized), "/csr/indptr has 51 entries where 50 are needed"),
    "no features": (damage(lambda file: file.attrs.__delitem__("features")), 'lacks the attribute "features"'),
    "newer": (damage(lambda file: file.attrs.__setitem__("version", 9)), "format version 9"),
    "index": (put("csr/indices", 3, 1000), "feature index outside 0 … 29"),
    "negative index": (put("csr/indices", 3, -1), "feature index outside"),
    "order": (put("csr/indices", slice(0, 2), [5, 5]), "do not ascend"),
    "nan": (put("csr/values", 0, np.nan), "not finite"),
    "label": (put("labels", 7, np.inf), r"row 7 \(from 0\) has a label that is not finite"),
    "indptr": (put("csr/indptr", 2, -5), "no valid range in indptr"),
    "indptr end": (put("csr/indptr", 50, 10**9), "indptr does not fit"),
    "edited": (put("csr/values", 0, 77.0), "the file is damaged or was edited"),
}


@pytest.mark.parametrize("fault", HDF5_FAULTS)
def test_damaged_hdf5_is_refused(fault, tmp_path):
    make_file, message = HDF5_FAULTS[fault]
    make_file(tmp_path / "d")
    with pytest.raises(DataError, match=message):
        read(tmp_path / "d")


def test_cut_hdf5_is_refused(tmp_path):
    written(tmp_path / "d", dense_rows(2000, 50))
    (tmp_path / "d").write_bytes((tmp_path / "d").read_bytes()[:5000])
    with pytest.raises(DataError, match="not a readable HDF5 file|damaged"):
        read(tmp_path / "d")


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
    with pytest.raises(ConfigError, match="takes no options"):
        read(tmp_path / "d", rows=3)
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
