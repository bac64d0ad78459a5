"""Writing our HDF5 data sets (docs/format.md): complete or not at all, by one writer, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from mpilocal import atomic
from mpilocal.data.digest import digest
from mpilocal.data.hdf5 import FORMAT, VERSION
from mpilocal.data.move import receive_rows, send_rows
from mpilocal.data.pieces import MEBIBYTE, cast, csr, cut, size_of
from mpilocal.data.rows import Part, Rows
from mpilocal.errors import agree

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

CHUNK = MEBIBYTE
PIECE = 32 * MEBIBYTE


def create(file: h5py.File, rows: Rows, total: int, nonzeros: int, dtype: DTypeLike) -> None:
    """Lay out the data sets for `total` rows of the kind of `rows`, without data."""
    kind = np.dtype(dtype)
    _array(file, "labels", (total,), np.float64)
    if rows.users is not None:
        _array(file, "users", (total,), np.int64)
    if rows.dense is not None:
        _array(file, "x", (total, rows.features), kind)
    else:
        _array(file, "csr/values", (nonzeros,), kind)
        _array(file, "csr/indices", (nonzeros,), np.int32)
        _array(file, "csr/indptr", (total + 1,), np.int64)


def _array(file: h5py.File, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    # whole rows to a chunk of at most 1 MiB; very long rows are cut
    each = np.dtype(dtype).itemsize
    chunks = None
    if all(shape):
        across = min(shape[1], CHUNK // each) if len(shape) == 2 else 1
        down = min(shape[0], max(1, CHUNK // (each * across)))
        chunks = (down, across)[: len(shape)]
    file.create_dataset(name, shape, dtype, chunks=chunks, track_times=False)


def put(file: h5py.File, rows: Rows, first: int, nonzero: int) -> None:
    """Write rows at their place: `first` is the first row's global index, `nonzero` that of its first non-zero."""
    last = first + rows.count
    file["labels"][first:last] = rows.labels
    if rows.users is not None:
        file["users"][first:last] = rows.users
    if rows.dense is not None:
        file["x"][first:last] = rows.dense
        return
    values, indices, indptr = csr(rows)
    file["csr/values"][nonzero : nonzero + len(values)] = values
    file["csr/indices"][nonzero : nonzero + len(values)] = indices
    file["csr/indptr"][first + 1 : last + 1] = indptr[1:] + nonzero


def describe(file: h5py.File, features: int, rows: int, digest: str, extra: dict[str, NDArray[np.float64]]) -> None:
    """Write the attributes and the small arrays."""
    for name in sorted(extra):
        file.create_dataset(f"extra/{name}", data=np.asarray(extra[name], np.float64), track_times=False)
    facts = {"format": FORMAT, "version": VERSION, "features": features, "rows": rows}
    for key, value in {**facts, "digest": digest, "creator": f"mpilocal {atomic.version()}"}.items():
        file.attrs[key] = value


def write_dataset(comm: Intracomm, path: Path, part: Part, dtype: DTypeLike = np.float64) -> str:
    """Collective: write all ranks' parts as one file, complete or not at all; return the digest of what is stored.

    Root asks rank after rank for pieces of about 32 MiB; no rank ever holds more than its part and a piece.

    Args:
        comm: Each rank brings its part; the parts follow each other in rank order.
        path: Of the file; an existing one is replaced at the end.
        part: This rank's rows.
        dtype: Of the stored values: float32 or float64. Labels are float64 always.

    Raises:
        DataError: The file cannot be written.
    """
    rows = cast(part.rows, dtype)
    stored = digest(comm, rows, part.first, part.total)
    nonzeros = np.array([0 if rows.values is None else len(rows.values)], np.int64)
    everyone = np.zeros(comm.size, np.int64)
    comm.Allgather(nonzeros, everyone)
    if comm.rank:
        _answer(comm, rows)
        agree(comm, None)
        return stored

    def write(temporary: Path) -> None:
        with h5py.File(temporary, "w") as file:
            create(file, rows, part.total, int(everyone.sum()), dtype)
            first = nonzero = 0
            for piece in _everything(comm, rows):
                put(file, piece, first, nonzero)
                first += piece.count
                nonzero += 0 if piece.values is None else len(piece.values)
            describe(file, rows.features, part.total, stored, part.extra)

    failure: Exception | None = None
    try:
        atomic.write(path, write)
    except Exception as error:  # the others wait to be asked: let them go first
        failure = error
    stop = np.zeros(1, np.int64)
    for rank in range(1, comm.size):
        comm.Send(stop, rank)
    agree(comm, failure)
    return stored


def _pieces(rows: Rows) -> Iterator[Rows]:
    each = max(1, size_of(rows) // max(1, rows.count))
    step = max(1, PIECE // each)
    for first in range(0, rows.count, step):
        yield cut(rows, first, min(first + step, rows.count))


def _answer(comm: Intracomm, rows: Rows) -> None:
    asked = np.zeros(1, np.int64)
    pieces = _pieces(rows)
    while True:
        comm.Recv(asked, 0)
        if not asked[0]:
            return
        send_rows(comm, next(pieces, cut(rows, 0, 0)), 0)


def _everything(comm: Intracomm, rows: Rows) -> Iterator[Rows]:
    yield from _pieces(rows)
    ask = np.ones(1, np.int64)
    for rank in range(1, comm.size):
        while True:
            comm.Send(ask, rank)
            piece = receive_rows(comm, rows, rank)
            if piece.count == 0:
                break
            yield piece
