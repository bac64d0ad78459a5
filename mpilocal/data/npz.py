"""NumPy `.npz` files: dense arrays x and y, or a sparse matrix as SciPy's `save_npz` writes it, with its labels."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mpilocal.data.digest import check
from mpilocal.data.pieces import without_zeros
from mpilocal.data.rows import Rows, Source
from mpilocal.data.sources import InMemory
from mpilocal.errors import DataError

EXPECTED = (
    'dense arrays "x" (rows, features) and "y" (rows,), or a CSR matrix as "data", "indices", "indptr", "shape" '
    'with "y"; optionally "users"'
)


class DenseNpz:
    """Dense rows of an `.npz` file, read in pieces, compressed or not."""

    def __init__(self, path: Path, member: str, shape: tuple[int, int], dtype: np.dtype[Any], begin: int) -> None:
        """Remember where the rows lie; `labels` and `users` are set by `open_npz`."""
        self.path, self.member, self.dtype, self.begin = path, member, dtype, begin
        self.total, self.features = shape
        self.sparse = False
        self.extra: dict[str, NDArray[np.float64]] = {}
        self.labels = np.zeros(0)
        self.users: NDArray[np.int64] | None = None

    def read(self, first: int, last: int) -> Rows:
        """Return rows first ≤ i < last; floats keep their precision, all else becomes float64."""
        each = self.features * self.dtype.itemsize
        try:
            # a member is a stream: seeking forward is free when it is stored, decompression when it is deflated
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                file.seek(self.begin + first * each)
                data = file.read((last - first) * each)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{self.path} is damaged ({error}): write it again") from None
        x = np.frombuffer(data, self.dtype).reshape(last - first, self.features)
        kind = np.float32 if self.dtype.kind == "f" and self.dtype.itemsize == 4 else np.float64
        users = None if self.users is None else self.users[first:last]
        rows = Rows(self.labels[first:last], self.features, dense=np.array(x, kind), users=users)
        check(rows, first, str(self.path))
        return rows


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
                arrays = {name: file[name] for name in ("data", "indices", "indptr", "shape")}
                source = _sparse(path, arrays, labels, users)
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
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(file)
        begin = file.tell()
    if len(shape) != 2 or 0 in shape or dtype.kind not in "biuf":
        raise DataError(f'{path}: "{name}" has shape {shape} of {dtype}; it must be (rows, features) of numbers')
    if fortran:
        raise DataError(f'{path}: "{name}" is in Fortran order: save np.ascontiguousarray({name})')
    _fit(path, shape[0], labels, users)
    source = DenseNpz(path, f"{name}.npy", shape, dtype, begin)
    source.labels = labels.astype(np.float64)
    source.users = None if users is None else users.astype(np.int64)
    return source


def _sparse(path: Path, arrays: dict[str, NDArray[Any]], labels: NDArray[Any], users: NDArray[Any] | None) -> Source:
    total, features = (int(one) for one in arrays["shape"])
    _fit(path, total, labels, users)
    values, indptr = arrays["data"], arrays["indptr"].astype(np.int64)
    if len(indptr) != total + 1 or indptr[0] != 0 or indptr[-1] != len(values) or len(values) != len(arrays["indices"]):
        raise DataError(f'{path}: "indptr" does not fit {total} rows of {len(values)} non-zeros: is the matrix CSR?')
    if not 1 <= features <= 2**31 - 1:
        raise DataError(f"{path} has {features} features; 1 … 2^31 - 1 are supported")
    kind = np.float32 if values.dtype == np.float32 else np.float64
    rows = Rows(
        labels.astype(np.float64),
        features,
        values=values.astype(kind),
        indices=arrays["indices"].astype(np.int32),
        indptr=indptr,
        users=None if users is None else users.astype(np.int64),
    )
    check(rows, 0, str(path))
    return InMemory(without_zeros(rows))


def _fit(path: Path, total: int, labels: NDArray[Any], users: NDArray[Any] | None) -> None:
    for name, array in (("y", labels), ("users", users)):
        if array is not None and len(array) != total:
            raise DataError(f'{path}: "{name}" has {len(array)} entries for {total} rows: save matching arrays')
