"""Our HDF5 layout: written by any number of ranks, read back in bits, refused when damaged."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from data_helpers import as_dicts, assert_same, dense_rows, read, sparse_rows, to_text, written

from mpilocal.config.structs import Data
from mpilocal.data import open_source
from mpilocal.data.convert import convert
from mpilocal.data.make import make
from mpilocal.data.write import write_dataset
from mpilocal.errors import DataError


@pytest.mark.parallel([1, 2, 3])
def test_convert_round_trip_on_any_ranks(tmp_path):
    from mpi4py import MPI

    for dtype in ("float64", "float32"):
        round_trip(MPI.COMM_WORLD, tmp_path, dtype)


def round_trip(comm, tmp_path, dtype):
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
    deep = tmp_path / "a" / "missing" / "folder" / dtype
    assert convert(comm, str(text), deep, dtype)["digest"] == facts["digest"]
    assert comm.rank or deep.is_file()
    with pytest.raises(DataError, match="rows.csv is not a folder: name another one"):
        convert(comm, str(text), text / "file")
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
        assert (
            dict(zip(file["csr/indices"][a:b].tolist(), file["csr/values"][a:b].tolist(), strict=False))
            == as_dicts(rows)[4]
        )
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


def test_the_documentation_is_right(tmp_path, monkeypatch):
    page = Path(__file__).parents[1] / "docs" / "format.md"
    if not page.exists():
        pytest.skip(f"{page} is not there: the tests run outside the tree")
    text = page.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    rows = sparse_rows(200)
    written(Path("w8a.h5"), rows)
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[:3]  # the others read a run, in test_docs.py
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert {int(j): float(v) for j, v in names["row"].items()} == as_dicts(rows)[100]
    assert names["label"] == rows.labels[100]
    assert names["matrix"].shape == (200, 30) and names["matrix"].nnz == len(rows.values)
    assert read("mine.h5").total == 100
    # the listings
    listed = set(re.findall(r"^(/\S*) +(?:Group|Dataset)", text, re.MULTILINE))
    make_regression(tmp_path / "regression.h5")
    found = {"/"}
    for name in ("w8a.h5", "regression.h5"):
        with h5py.File(name) as file:
            file.visit(lambda item: found.add("/" + item))
    assert found == listed


def make_regression(path):
    from mpi4py import MPI

    make(MPI.COMM_SELF, "regression", {"rows": 1000, "features": 100}, path)
