"""Reading our HDF5 data sets: see docs/format.md. Readable with h5ls and h5py alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mpilocal.data.digest import check
from mpilocal.data.rows import Rows
from mpilocal.errors import DataError

FORMAT = "mpilocal-data"
VERSION = 1


class Hdf5Source:
    """A data set of ours; every rank may open it and read its own rows."""

    def __init__(self, path: Path) -> None:
        """Open and check the layout; DataError names what is missing or does not fit."""
        self.path = path
        try:
            self.file = h5py.File(path, "r", locking=False)
        except OSError as error:
            raise DataError(f"{path} is not a readable HDF5 file ({error}): write it again") from None
        try:
            self._open()
        except BaseException:
            self.file.close()
            raise

    def _open(self) -> None:
        file, path = self.file, self.path
        self.sparse = "csr" in file and "x" not in file
        wanted = ["labels", *(["csr/values", "csr/indices", "csr/indptr"] if self.sparse else ["x"])]
        missing = [f"/{name}" for name in wanted if not isinstance(file.get(name), h5py.Dataset)]
        if missing:
            held = ", ".join(f"/{name}" for name in file) or "nothing"
            raise DataError(
                f"{path} is an HDF5 file without {', '.join(missing)} (it holds {held}): "
                "`mpilocal data convert` writes the layout of docs/format.md"
            )
        version = file.attrs.get("version", VERSION)
        if version != VERSION:
            raise DataError(f"{path} has format version {version}, this mpilocal reads {VERSION}: convert again")
        self.labels = file["labels"]
        self.total = len(self.labels)
        for name in wanted + (["users"] if "users" in file else []):
            rank = 2 if name == "x" else 1
            if file[name].ndim != rank or file[name].dtype.kind not in "fiu":
                raise DataError(f"{path}: /{name} must be a numeric data set of {rank} dimension(s): convert again")
        if self.sparse:
            self.features = int(file.attrs.get("features", 0))
            lengths = {"/csr/indptr": (len(file["csr/indptr"]), self.total + 1)}
            lengths["/csr/indices"] = (len(file["csr/indices"]), len(file["csr/values"]))
        else:
            self.features = int(file["x"].shape[1])
            lengths = {"/x": (len(file["x"]), self.total)}
        if "users" in file:
            lengths["/users"] = (len(file["users"]), self.total)
        for name, (found, expected) in lengths.items():
            if found != expected:
                raise DataError(f"{path}: {name} has {found} entries where {expected} are needed: write the file again")
        if self.features < 1:
            raise DataError(f'{path} lacks the attribute "features" (the dimension): set it with h5py or convert again')
        self.digest = str(file.attrs.get("digest", ""))
        extra = file.get("extra", {})
        self.extra: dict[str, NDArray[np.float64]] = {name: np.asarray(extra[name][()], np.float64) for name in extra}

    def read(self, first: int, last: int) -> Rows:
        """Return rows first ≤ i < last as stored: float32 stays float32."""
        file = self.file
        try:
            labels = np.asarray(self.labels[first:last], np.float64)
            users = np.asarray(file["users"][first:last], np.int64) if "users" in file else None
            if not self.sparse:
                rows = Rows(labels, self.features, dense=_floating(file["x"][first:last]), users=users)
            else:
                indptr = np.asarray(file["csr/indptr"][first : last + 1], np.int64)
                begin, end = int(indptr[0]), int(indptr[-1])
                if not 0 <= begin <= end <= len(file["csr/values"]):
                    raise DataError(f"{self.path}: /csr/indptr does not fit /csr/values: the file is damaged")
                indices = file["csr/indices"][begin:end]
                if indices.dtype != np.int32 and len(indices) and int(indices.max()) > 2**31 - 1:
                    raise DataError(f"{self.path}: /csr/indices holds {indices.max()}; at most 2^31 - 1 is supported")
                rows = Rows(
                    labels,
                    self.features,
                    values=_floating(file["csr/values"][begin:end]),
                    indices=np.asarray(indices, np.int32),
                    indptr=indptr - begin,
                    users=users,
                )
        except OSError as error:
            raise DataError(f"{self.path}: rows {first} … {last} cannot be read ({error}): it is damaged") from None
        check(rows, first, str(self.path))
        return rows

    def __del__(self) -> None:
        """Close the file."""
        if getattr(self, "file", None):
            self.file.close()


def _floating(values: NDArray[Any]) -> NDArray[np.floating]:
    if values.dtype in (np.float32, np.float64):
        return np.ascontiguousarray(values)
    return np.ascontiguousarray(values, np.float64)
