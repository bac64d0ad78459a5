"""What the tests of the data package share: a slow reader of LIBSVM text, writers of small files, comparisons."""

import struct
from pathlib import Path

import numpy as np

from mpilocal.data.rows import Rows


def slow_parse(text: str) -> tuple[list[float], list[dict[int, float]]]:
    """LIBSVM text by Python's own means: labels, and 0-based index → value without zeros."""
    labels, rows = [], []
    for line in text.split("\n"):
        tokens = line.split("#", 1)[0].split()
        if not tokens:
            continue
        labels.append(float(tokens[0]))
        pairs = [token.split(":") for token in tokens[1:] if not token.startswith("qid:")]
        rows.append({int(index) - 1: float(value) for index, value in pairs if float(value) != 0})
    return labels, rows


def as_dicts(rows: Rows) -> list[dict[int, float]]:
    """Sparse or dense rows as index → value, without zeros."""
    if rows.dense is not None:
        return [{j: float(v) for j, v in enumerate(row) if v != 0} for row in rows.dense]
    return [
        dict(zip(rows.indices[a:b].tolist(), rows.values[a:b].tolist(), strict=True))
        for a, b in zip(rows.indptr[:-1], rows.indptr[1:], strict=True)
    ]


def assert_same(a: Rows, b: Rows) -> None:
    """The same rows in bits, of one layout."""
    assert a.features == b.features
    for x, y, name in zip(a, b, Rows._fields, strict=True):
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype, name
            np.testing.assert_array_equal(x, y, err_msg=name)
        else:
            assert x is y or x == y, name


def dense_rows(count: int = 40, features: int = 7) -> Rows:
    """Random dense rows of two classes."""
    draw = np.random.default_rng(1)
    labels = draw.integers(0, 2, count).astype(np.float64)
    return Rows(labels, features, dense=draw.standard_normal((count, features)))


def sparse_rows(count: int = 50, features: int = 30, seed: int = 0, users: bool = False) -> Rows:
    """Random CSR rows, some without features."""
    draw = np.random.default_rng(seed)
    mask = draw.random((count, features)) < 0.2
    mask[:: max(1, count // 3)] = False
    lengths = mask.sum(axis=1)
    return Rows(
        draw.integers(0, 3, count).astype(np.float64),
        features,
        values=draw.standard_normal(int(lengths.sum())),
        indices=np.nonzero(mask)[1].astype(np.int32),
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        users=np.sort(draw.integers(0, 9, count)) if users else None,
    )


def to_text(rows: Rows) -> str:
    """LIBSVM text of rows; repr keeps every bit."""
    lines = [
        " ".join([f"{label!r}", *(f"{j + 1}:{v!r}" for j, v in pairs.items())])
        for label, pairs in zip(rows.labels.tolist(), as_dicts(rows), strict=True)
    ]
    return "\n".join(lines) + "\n"


def write_idx(folder: Path, images: np.ndarray, labels: np.ndarray, name: str = "train") -> Path:
    """An IDX pair; the path of the images."""
    path = folder / f"{name}-images-idx3-ubyte"
    path.write_bytes(struct.pack(">IIII", 0x803, *images.shape) + images.tobytes())
    (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(labels)) + labels.tobytes())
    return path


def read(source: str | Path, comm=None, dtype=np.float64, dimension: int | None = None, **options):
    """`read_part` on one rank, or on the ranks of `comm`."""
    from mpi4py import MPI

    from mpilocal.config.structs import Data
    from mpilocal.data.read import read_part

    data = Data(source=str(source), features=dimension, options=options)
    return read_part(MPI.COMM_SELF if comm is None else comm, data, Path.cwd(), dtype)


def written(path: Path, rows: Rows, dtype=np.float64, extra=None) -> str:
    """`write_dataset` on one rank."""
    from mpi4py import MPI

    from mpilocal.data.rows import Part
    from mpilocal.data.write import write_dataset

    return write_dataset(MPI.COMM_SELF, path, Part(rows, 0, rows.count, "", extra or {}), dtype)
