"""Images: IDX files (MNIST and its kin, with a table of users where there is one) and CIFAR-10's binary batches."""

from __future__ import annotations

import csv
import struct
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from mpilocal.config.typed import build
from mpilocal.data.kind import BROKEN, CIFAR_RECORD, IDX_LABELS, Found, locate, opened, packing_of
from mpilocal.data.rows import Rows
from mpilocal.errors import ConfigError, DataError


class ImageOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of an image source."""

    labels: Annotated[str | None, Meta(description="The IDX labels file; default: beside the images.")] = None
    users: Annotated[str | None, Meta(description="CSV table: a line per user, in the order of the rows.")] = None
    classes: Annotated[
        Annotated[list[int], Meta(min_length=1)] | None, Meta(description="Keep these classes only, such as [3, 8].")
    ] = None


class Images:
    """Images as dense rows of pixels/255; features = height·width, or 3·32·32 for CIFAR-10."""

    def __init__(self, found: Found, options: Mapping[str, Any]) -> None:
        """Read the labels and look at the header; pixels are read on demand.

        Raises:
            ConfigError: An unknown option, or a class that does not occur.
            DataError: Labels or users are missing or do not fit the images, or the file is cut short.
        """
        chosen = build(ImageOptions, dict(options), "data.options")
        self.path, self.sparse = found.path, False
        self.extra: dict[str, NDArray[np.float64]] = {}
        self.file = opened(found.path, found.packing)
        weakref.finalize(self, self.file.close)
        if found.kind == "idx":
            labels = self._idx(found, chosen.labels)
        else:
            if chosen.labels is not None:
                raise ConfigError("data.options.labels is for IDX images; CIFAR-10 records hold labels: remove it")
            labels = self._cifar10(found)
        users = None if chosen.users is None else user_table(self._beside(chosen.users, "users"), len(labels))
        self.kept = np.arange(len(labels))
        if chosen.classes is not None:
            absent = sorted(set(chosen.classes) - set(np.unique(labels).tolist()))
            if absent:
                raise ConfigError(
                    f"data.options.classes names {absent[0]}, but {found.path} has the classes "
                    f"{', '.join(str(one) for one in np.unique(labels).tolist())}"
                )
            self.kept = np.flatnonzero(np.isin(labels, chosen.classes))
        self.labels = labels[self.kept].astype(np.float64)
        self.users = None if users is None else users[self.kept]
        self.total = len(self.kept)

    def _beside(self, name: str, option: str) -> Path:
        path = locate(name, self.path.parent)
        if path is None:
            raise DataError(f'data.options.{option} = "{name}" does not exist, neither in {self.path.parent} nor here')
        return path

    def _idx(self, found: Found, named: str | None) -> NDArray[np.uint8]:
        count, height, width = struct.unpack(">III", self._bytes(4, 16))
        self.begin, self.stride, self.skip = 16, height * width, 0
        self.features = self.stride
        if self.features == 0:
            raise DataError(f"{found.path} has images of {height} x {width} pixels: is it complete?")
        if named is None:
            name = found.path.name.replace("images-idx3", "labels-idx1").replace("images.idx3", "labels.idx1")
            path = found.path.with_name(name)
            # the one may be packed and the other not
            near = [path, path.with_suffix(""), path.with_name(name + ".gz")]
            path = next((one for one in near if one.exists() and one != found.path), path)
            if path == found.path or not path.exists():
                raise DataError(
                    f"the labels of {found.path} are not beside it (images-idx3 → labels-idx1): "
                    "name them in data.options.labels"
                )
        else:
            path = self._beside(named, "labels")
        labels = idx_labels(path)
        if len(labels) != count:
            raise DataError(f"{path} has {len(labels)} labels for the {count} images of {found.path}: they must match")
        return labels

    def _cifar10(self, found: Found) -> NDArray[np.uint8]:
        count = found.size // CIFAR_RECORD
        self.begin, self.stride, self.skip = 0, CIFAR_RECORD, 1
        self.features = CIFAR_RECORD - 1
        labels = np.empty(count, np.uint8)
        for first in range(0, count, 4096):
            last = min(first + 4096, count)
            labels[first:last] = self._records(first, last)[:, 0]
        if labels.max() > 9:
            raise DataError(f"{found.path}: record {labels.argmax()} has label {labels.max()}, CIFAR-10 has 0 … 9")
        return labels

    def _bytes(self, begin: int, end: int) -> bytes:
        try:
            self.file.seek(begin)
            data = self.file.read(end - begin)
        except BROKEN as error:
            raise DataError(f"{self.path} is damaged or cut short ({error}): get it again") from None
        if len(data) < end - begin:
            raise DataError(f"{self.path} ends after {begin + len(data)} bytes of its content: get it again")
        return data

    def _records(self, first: int, last: int) -> NDArray[np.uint8]:
        data = self._bytes(self.begin + first * self.stride, self.begin + last * self.stride)
        return np.frombuffer(data, np.uint8).reshape(last - first, self.stride)

    def read(self, first: int, last: int) -> Rows:
        """Return rows first ≤ i < last of those kept."""
        x = np.empty((last - first, self.features))
        # whole runs of records in pieces, then the rows that are kept
        for begin in range(first, last, 2048):
            kept = self.kept[begin : min(begin + 2048, last)]
            records = self._records(int(kept[0]), int(kept[-1]) + 1)
            x[begin - first : begin - first + len(kept)] = records[kept - kept[0], self.skip :]
        x /= 255.0
        users = None if self.users is None else self.users[first:last]
        return Rows(self.labels[first:last], self.features, dense=x, users=users)


def idx_labels(path: Path) -> NDArray[np.uint8]:
    """Return the labels (rows,) of an IDX file, packed or not; DataError where it is none."""
    try:
        with open(path, "rb") as file:
            packing = packing_of(file.read(6))
        with opened(path, packing) as file:
            data = file.read()
    except BROKEN as error:
        raise DataError(f"{path} cannot be read ({error}): get it again") from None
    if data[:4] != IDX_LABELS or len(data) < 8:
        raise DataError(f"{path} is no IDX labels file (it begins with {data[:4].hex()}, not {IDX_LABELS.hex()})")
    count = struct.unpack(">I", data[4:8])[0]
    if len(data) != 8 + count:
        raise DataError(f"{path} holds {len(data) - 8} labels where its header says {count}: get it again")
    return np.frombuffer(data, np.uint8, offset=8)


def user_table(path: Path, rows: int) -> NDArray[np.int64]:
    """Return the user (rows,) of each row from a CSV table.

    The table has a header and a line per user, in the order of the rows: user i, counted from 0, owns as many
    consecutive rows as the first numeric column says whose sum is `rows`, so that one table serves a training and a
    test file.

    Raises:
        DataError: No column sums to `rows`.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a readable CSV table ({error})") from None
    header, body = (lines[0], [line for line in lines[1:] if line]) if lines else ([], [])
    sums: list[str] = []
    for column, name in enumerate(header):
        cells = [line[column] if column < len(line) else "" for line in body]
        if not cells or not all(cell.strip().isdecimal() for cell in cells):
            continue
        counts = np.array([int(cell) for cell in cells], np.int64)
        if counts.sum() == rows:
            return np.repeat(np.arange(len(counts)), counts)
        sums.append(f"{name} sums to {counts.sum()}")
    raise DataError(
        f"{path}: no column gives the rows of each user: one must sum to {rows} "
        f"({', '.join(sums) or 'none is numeric'})"
    )
