"""One checkpoint file: HDF5 behind a 512-byte user block that holds the SHA-256 and the size of all that follows."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from mpilocal import atomic
from mpilocal.errors import CheckpointError
from mpilocal.store.inplace import contiguous, offset

Array = NDArray[Any]
Counters = dict[str, int | float | str]

FORMAT = 1
BLOCK = 512  # bytes of the user block
AVERAGE = ""  # its name among the parts


class Field(NamedTuple):
    """A part of the state; `array` None: the method has none."""

    name: str
    array: Array | None  # common: any shape, equal on all ranks; else (workers of this rank, …)
    common: bool


class Part(NamedTuple):
    """A dataset of a file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    common: bool
    offset: int

    def of(self, count: int) -> tuple[int, ...]:
        """Return the shape on a rank with `count` workers."""
        return self.shape if self.common else (count, *self.shape[1:])

    @property
    def row(self) -> int:
        """Bytes of one worker's row."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape[1:])


class Meta(NamedTuple):
    """A file without its numbers."""

    round: int
    workers: int
    parts: list[Part]  # the average first
    counters: Counters


def layout(
    path: Path,
    round: int,
    workers: int,
    average: Array,
    fields: Sequence[Field],
    counters: Mapping[str, int | float | str],
) -> list[tuple[int, Part]]:
    """Write the file without its numbers; return the parts to fill in the order of the file.

    Each with its index into `fields`, -1 for the average. Parts without numbers are left out.
    """
    parts = []
    with h5py.File(path, "w", userblock_size=BLOCK, locking=False) as file:
        file.attrs["format"] = np.int64(FORMAT)
        file.attrs["creator"] = "mpilocal"
        file.attrs["version"] = atomic.version()
        file.attrs["round"] = np.int64(round)
        file.attrs["workers"] = np.int64(workers)
        group = file.create_group("counters")
        for name in sorted(counters):
            group.attrs[name] = np.array(counters[name])[()] if not isinstance(counters[name], str) else counters[name]
        file.create_group("state")
        for index, (name, array, common) in enumerate([Field(AVERAGE, average, True), *fields], start=-1):
            assert array is not None
            shape = array.shape if common else (workers, *array.shape[1:])
            dataset = contiguous(file, f"state/{name}" if index >= 0 else "average", shape, array.dtype)
            dataset.attrs["common"] = common
            if dataset.size:
                parts.append((index, Part(name, shape, array.dtype.str, common, offset(dataset))))
    return sorted(parts, key=lambda part: part[1].offset)


def block(digest: str, size: int) -> bytes:
    """Return the user block of a file with `size` bytes behind it."""
    return f"mpilocal checkpoint {FORMAT}\nsha256 {digest}\nbytes {size}\n".encode().ljust(BLOCK, b"\0")


def damage(path: str | Path) -> str | None:
    """Return what is wrong with a checkpoint's size or digest, None if nothing is."""
    try:
        with open(path, "rb", buffering=0) as file:
            block = file.read(BLOCK)
            said = re.match(rb"mpilocal checkpoint (\d+)\nsha256 ([0-9a-f]{64})\nbytes (\d+)\n", block)
            if said is None or block != block[: said.end()].ljust(BLOCK, b"\0"):
                return "its first 512 bytes are not those of a checkpoint"
            if int(said[1]) != FORMAT:
                return f"its format is {int(said[1])}, and this version of mpilocal reads {FORMAT}"
            size = os.fstat(file.fileno()).st_size - BLOCK
            if size != int(said[3]):
                return f"{size} bytes where {int(said[3])} were written"
            file.seek(BLOCK)
            if hashlib.file_digest(file, "sha256").hexdigest() != said[2].decode():
                return "its SHA-256 is not the one written"
    except OSError as error:
        return f"it cannot be read: {atomic.reason(error)}"
    return None


def describe(path: Path) -> Meta:
    """Return what a file holds (CheckpointError where it is not a checkpoint of this machine's byte order)."""
    parts: list[Part] = []

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            parts.append(Part(name, item.shape, item.dtype.str, bool(item.attrs["common"]), offset(item)))

    try:
        with h5py.File(path, "r", locking=False) as file:
            visit(AVERAGE, file["average"])
            file["state"].visititems(visit)
            counters = {name: _plain(value) for name, value in file["counters"].attrs.items()}
            meta = Meta(int(file.attrs["round"]), int(file.attrs["workers"]), parts, counters)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of mpilocal ({error}): resume from another") from error
    for part in parts:
        if not np.dtype(part.dtype).isnative:
            raise CheckpointError(f"{path} has another byte order ({part.dtype}): resume on a machine like its own")
    return meta


def _plain(value: Any) -> int | float | str:
    return value if isinstance(value, str) else value.item()
