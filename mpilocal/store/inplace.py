"""HDF5 files laid out once and filled by plain writes: HDF5's own structures are final before the numbers come."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

Bytes = NDArray[np.uint8]

PIECE = 1 << 24  # bytes moved at a time


def contiguous(file: h5py.Group, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> h5py.Dataset:
    """Create a dataset whose place in the file is fixed now and filled later by `pwrite` at its `offset`."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    links.set_char_encoding(h5py.h5t.CSET_UTF8)
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
    # Not create_dataset: it drops the layout of a scalar.
    return h5py.Dataset(h5py.h5d.create(file.id, name.encode(), kind, space, layout, links))


def offset(dataset: h5py.Dataset) -> int:
    """Return where a contiguous dataset begins, in bytes from the file's first, a user block included; 0 if empty."""
    if not dataset.size:
        return 0
    if not dataset.id.get_storage_size():
        raise ValueError(f"{dataset.name} has no place in the file")
    return int(dataset.id.get_offset())


def pwrite(file: int, data: bytes | memoryview, at: int) -> None:
    """Write all of `data`, bytes, at offset `at`; os.pwrite alone may write less, and never more than 2 GiB."""
    view = memoryview(data)
    while len(view):
        done = os.pwrite(file, view, at)
        view, at = view[done:], at + done


def pread(file: int, into: memoryview, at: int) -> None:
    """Fill `into`, bytes, from offset `at`; OSError where the file ends before."""
    while len(into):
        done = os.preadv(file, [into], at)
        if not done:
            raise OSError("the file ends too early")
        into, at = into[done:], at + done


class Digest:
    """Writes a file from `begin` to its end and hashes it (SHA-256) on the way, in a thread: both release the GIL."""

    def __init__(self, file: int, begin: int) -> None:
        self._file = file
        self._at = begin
        self._hash = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def __enter__(self) -> Digest:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()

    def write(self, piece: Bytes) -> None:
        """Append a piece; the one before it is then hashed and its memory free, this one's not before the next."""
        pwrite(self._file, piece.data, self._at)
        if hasattr(os, "posix_fadvise"):  # has the disk begin now, not at the fsync
            os.posix_fadvise(self._file, self._at, len(piece), os.POSIX_FADV_DONTNEED)
        self._at += len(piece)
        self._add(piece)

    def reach(self, at: int) -> None:
        """Hash what the file already holds up to the offset `at`."""
        while self._at < at:
            held = np.empty(min(at - self._at, PIECE), dtype=np.uint8)
            pread(self._file, held.data, self._at)
            self._at += len(held)
            self._add(held)

    def _add(self, piece: Bytes) -> None:
        if self._last is not None:
            self._last.result()
        self._last = self._thread.submit(self._hash.update, piece.data)

    def hex(self) -> str:
        """Return the digest of all pieces."""
        if self._last is not None:
            self._last.result()
        return self._hash.hexdigest()
