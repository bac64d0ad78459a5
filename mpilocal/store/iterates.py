"""iterates.h5: the average of the iterates at every recorded round, in a file that a kill cannot damage.

The file is laid out once, with room for all records of the run, and from then on HDF5's own structures in it never
change: a record is written in place, first x and then its round. A kill leaves at worst a row whose round is still -1.
"""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from mpilocal import atomic
from mpilocal.errors import DataError
from mpilocal.store.inplace import PIECE, contiguous, offset, pwrite

Array = NDArray[np.floating]


class Iterates:
    """An open iterates.h5 on root: `/round` (capacity,) int64, -1 where nothing is written; `/x` (capacity, dim)."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._open()

    def _open(self) -> None:
        try:
            with h5py.File(self.path, "r", locking=False) as file:
                rounds, x = file["round"][:], file["x"]
                self._offsets = (offset(file["round"]), offset(x))
                self.capacity, self.dim = x.shape
                self.dtype = x.dtype
            self._file = os.open(self.path, os.O_RDWR)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise DataError(f"cannot open the iterates {self.path} ({error}): restore or remove the file") from error
        self._rounds = rounds[: _written(rounds)].tolist()

    @classmethod
    def create(cls, path: str | Path, capacity: int, dim: int, dtype: DTypeLike = np.float64) -> Iterates:
        """Lay out a file for `capacity` records, sparse until they come; replaces what is there."""
        atomic.write(path, lambda temporary: _layout(temporary, capacity, dim, np.dtype(dtype)))
        return cls(path)

    def __len__(self) -> int:
        return len(self._rounds)

    def append(self, round: int, x: Array) -> None:
        """Write x, (dim,), as the record of `round`; a full file is first replaced by one of twice the room.

        Raises:
            DataError: the file cannot be written.
            ValueError: `round` does not follow the last one, or x is not (dim,).
        """
        if self._rounds and round <= self._rounds[-1]:
            raise ValueError(f"round {round} does not follow round {self._rounds[-1]}")
        if x.shape != (self.dim,):
            raise ValueError(f"an iterate of shape {x.shape} where ({self.dim},) is needed")
        if len(self) == self.capacity:
            self.resize(2 * self.capacity)
        row = np.ascontiguousarray(x, dtype=self.dtype)
        try:
            pwrite(self._file, row.view(np.uint8).data, self._offsets[1] + len(self) * row.nbytes)
            pwrite(self._file, np.int64(round).tobytes(), self._offsets[0] + 8 * len(self))
        except OSError as error:
            raise atomic.unwritable(self.path, error) from error
        self._rounds.append(round)

    def cut(self, round: int, records: Container[int] | None = None) -> None:
        """Forget the records after `round`, and a last one that is not one of `records`."""
        kept = sum(one <= round for one in self._rounds)
        kept -= kept > 0 and records is not None and self._rounds[kept - 1] not in records
        unset = np.full(self.capacity - kept, -1, dtype=np.int64)
        try:
            pwrite(self._file, unset.tobytes(), self._offsets[0] + 8 * kept)
        except OSError as error:
            raise atomic.unwritable(self.path, error) from error
        del self._rounds[kept:]

    def resize(self, capacity: int) -> None:
        """Make room for `capacity` records, no fewer than there are, by a copy that replaces the file."""
        if capacity == self.capacity:
            return
        count = len(self)
        if capacity < count:
            raise ValueError(f"{count} records do not fit in {capacity}")

        def copy(temporary: Path) -> None:
            _layout(temporary, capacity, self.dim, self.dtype)
            other = Iterates(temporary)
            try:
                total = count * self.dim * self.dtype.itemsize
                for at in range(0, total, PIECE):
                    piece = os.pread(self._file, min(PIECE, total - at), self._offsets[1] + at)
                    pwrite(other._file, piece, other._offsets[1] + at)
                pwrite(other._file, np.array(self._rounds, dtype=np.int64).tobytes(), other._offsets[0])
            finally:
                other.close()

        atomic.write(self.path, copy)
        self.close()
        self._open()

    def sync(self) -> None:
        """Flush to the disk; called before the checkpoint of the round."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise atomic.unwritable(self.path, error) from error

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Iterates:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_iterates(path: str | Path) -> tuple[NDArray[np.int64], Array]:
    """Return rounds, (records,), and iterates, (records, dim), as far as they are written; a live run's too.

    Raises:
        DataError: there is no such file, or it holds no iterates.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            rounds = file["round"][:]
            count = _written(rounds)
            return rounds[:count], file["x"][:count]
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise DataError(f"cannot read the iterates {path} ({error}): name the iterates.h5 of a run") from error


def _written(rounds: NDArray[np.int64]) -> int:
    unset = np.flatnonzero(rounds < 0)
    return int(unset[0]) if len(unset) else len(rounds)


def _layout(path: Path, capacity: int, dim: int, dtype: np.dtype[np.generic]) -> None:
    with h5py.File(path, "w", locking=False) as file:
        file.attrs["creator"] = "mpilocal"
        file.attrs["version"] = atomic.version()
        rounds = file.create_dataset("round", data=np.full(capacity, -1, dtype=np.int64), track_times=False)
        rounds.attrs["description"] = "completed rounds; -1: the row is not written yet"
        x = contiguous(file, "x", (capacity, dim), dtype)
        x.attrs["description"] = "average of the iterates at that round"
        rounds.make_scale("round")
        x.dims[0].attach_scale(rounds)
