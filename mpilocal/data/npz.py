"""NumPy `.npz` files: dense arrays x and y, or a sparse matrix as SciPy's `save_npz` writes it, with its labels."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mpilocal.data.digest import check
from mpilocal.data.pieces import without_zeros
from mpilocal.data.rows import Rows, Source
from mpilocal.errors import DataError

EXPECTED = (
    'dense arrays "x" (rows, features) and "y" (rows,), or a CSR matrix as "data", "indices", "indptr", "shape" '
    'with "y"; optionally "users"'
)


class Member(NamedTuple):
    """An array of an `.npz` file that is read in pieces, compressed or not."""

    path: Path
    name: str
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    begin: int  # of its numbers, in the member's bytes

    @classmethod
    def find(cls, path: Path, name: str) -> Member:
        """Return the member of an array, its header read."""
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            version = npy.read_magic(file)
            header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            return cls(path, f"{name}.npy", *header(file), file.tell())

    def read(self, first: int, last: int) -> NDArray[Any]:
        """Return numbers first ≤ i < last of the array in C order (DataError where the file is damaged)."""
        size = self.dtype.itemsize
        try:
            # a member is a stream: seeking forward is free when it is stored, decompression when it is deflated
            with zipfile.ZipFile(self.path) as archive, archive.open(self.name) as file:
                file.seek(self.begin + first * size)
                data = file.read((last - first) * size)
            return np.frombuffer(data, self.dtype, count=last - first)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{self.path} is damaged ({error}): write it again") from None


class DenseNpz:
    """Dense rows of an `.npz` file."""

    def __init__(self, member: Member) -> None:
        """Remember where the rows lie; `labels` and `users` are set by `open_npz`."""
        self.member = member
        self.total, self.features = member.shape
        self.sparse = False
        self.extra: dict[str, NDArray[np.float64]] = {}
        self.labels = np.zeros(0)
        self.users: NDArray[np.int64] | None = None

    def read(self, first: int, last: int) -> Rows:
        """Return rows first ≤ i < last; floats keep their precision, all else becomes float64."""
        x = self.member.read(first * self.features, last * self.features).reshape(last - first, self.features)
        users = None if self.users is None else self.users[first:last]
        rows = Rows(self.labels[first:last], self.features, dense=np.array(x, _kept(x.dtype)), users=users)
        check(rows, first, str(self.member.path))
        return rows


class SparseNpz:
    """CSR rows of an `.npz` file; only the row pointers are held."""

    def __init__(self, values: Member, indices: Member, indptr: NDArray[np.int64], features: int) -> None:
        """Remember where the rows lie; `labels` and `users` are set by `open_npz`."""
        self.values, self.indices, self.indptr = values, indices, indptr
        self.total, self.features = len(indptr) - 1, features
        self.sparse = True
        self.extra: dict[str, NDArray[np.float64]] = {}
        self.labels = np.zeros(0)
        self.users: NDArray[np.int64] | None = None

    def read(self, first: int, last: int) -> Rows:
        """Return rows first ≤ i < last; floats keep their precision, all else becomes float64."""
        begin, end = int(self.indptr[first]), int(self.indptr[last])
        values = self.values.read(begin, end)
        rows = Rows(
            self.labels[first:last],
            self.features,
            values=np.array(values, _kept(values.dtype)),
            indices=self.indices.read(begin, end).astype(np.int32),
            indptr=self.indptr[first : last + 1] - begin,
            users=None if self.users is None else self.users[first:last],
        )
        check(rows, first, str(self.values.path))
        return without_zeros(rows)


def _kept(dtype: np.dtype[Any]) -> type[np.floating]:
    return np.float32 if dtype == np.float32 else np.float64


def open_npz(path: Path) -> Source:
    """Return the rows of an `.npz` file; DataError says what is expected where it holds something else."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            names = {name.lower(): name for name in file.files}
            labels = _labels(path, file, names, "y" if "y" in names else "labels")
            users = _labels(path, file, names, "users") if "users" in names else None
            if "x" in names:
                source: Source = _dense(path, names["x"], labels, users)
            elif {"data", "indices", "indptr", "shape"} <= set(names):
                source = _sparse(path, file["indptr"], file["shape"], labels, users)
            else:
                raise DataError(f"{path} holds {', '.join(file.files) or 'nothing'}; expected are {EXPECTED}")
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not a readable .npz file ({error}); expected are {EXPECTED}") from None
    return source


def _labels(path: Path, file: Any, names: dict[str, str], name: str) -> NDArray[Any]:
    if name not in names:
        raise DataError(f'{path} holds {", ".join(file.files) or "nothing"}, no "y"; expected are {EXPECTED}')
    array = file[names[name]]
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise DataError(f'{path}: "{names[name]}" is {array.shape} of {array.dtype}; it must be (rows,) of numbers')
    return np.asarray(array)


def _dense(path: Path, name: str, labels: NDArray[Any], users: NDArray[Any] | None) -> Source:
    member = Member.find(path, name)
    shape, dtype = member.shape, member.dtype
    if len(shape) != 2 or 0 in shape or dtype.kind not in "biuf":
        raise DataError(f'{path}: "{name}" has shape {shape} of {dtype}; it must be (rows, features) of numbers')
    if member.fortran:
        raise DataError(f'{path}: "{name}" is in Fortran order: save np.ascontiguousarray({name})')
    _fit(path, shape[0], labels, users)
    source = DenseNpz(member)
    source.labels = labels.astype(np.float64)
    source.users = None if users is None else users.astype(np.int64)
    return source


def _sparse(
    path: Path, pointers: NDArray[Any], shape: NDArray[Any], labels: NDArray[Any], users: NDArray[Any] | None
) -> Source:
    total, features = (int(one) for one in shape)
    _fit(path, total, labels, users)
    values, indices = Member.find(path, "data"), Member.find(path, "indices")
    indptr = pointers.astype(np.int64)
    count = values.shape[0]
    grows = len(indptr) == total + 1 and indptr[0] == 0 and indptr[-1] == count and bool((np.diff(indptr) >= 0).all())
    if not grows or indices.shape != values.shape or values.dtype.kind not in "biuf":
        raise DataError(f'{path}: "indptr" does not fit {total} rows of {count} non-zeros: is the matrix CSR?')
    if not 1 <= features <= 2**31 - 1:
        raise DataError(f"{path} has {features} features; 1 … 2^31 - 1 are supported")
    source = SparseNpz(values, indices, indptr, features)
    source.labels = labels.astype(np.float64)
    source.users = None if users is None else users.astype(np.int64)
    return source


def _fit(path: Path, total: int, labels: NDArray[Any], users: NDArray[Any] | None) -> None:
    for name, array in (("y", labels), ("users", users)):
        if array is not None and len(array) != total:
            raise DataError(f'{path}: "{name}" has {len(array)} entries for {total} rows: save matching arrays')
