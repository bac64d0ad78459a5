"""Data sets read in contiguous pieces without MPI: one class per format, opened by what the file holds."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from mpilocal.config.structs import Data
from mpilocal.config.typed import build
from mpilocal.data.kind import Found, find, opened
from mpilocal.data.pieces import cut, densified, empty, join
from mpilocal.data.rows import Rows, Source
from mpilocal.errors import ConfigError, DataError


def open_source(data: Data, folder: Path) -> Source:
    """Return the source of a config, ready to be read.

    Args:
        data: The `[data]` table.
        folder: Where a relative `source` is looked for first; then in the working directory.

    Raises:
        ConfigError: An unknown name or option.
        DataError: The file is missing, of no known kind, or not fit.
    """
    return open_found(find(data.source, folder), data)


def open_found(found: Found, data: Data) -> Source:
    """Return the source that was found; see `open_source`."""
    source = _open(found, data)
    if data.pairs is None:
        return source
    from mpilocal.data.pairs import Pairs

    return Pairs(source, data.pairs, data.source)


def _open(found: Found, data: Data) -> Source:
    source: Source
    if found.kind == "synthetic":
        from mpilocal.data.synthetic import Synthetic

        source = Synthetic(str(found.path), data.options)
    elif found.kind == "sklearn":
        from mpilocal.data.bundled import bundled

        source = bundled(str(found.path), data.options)
    elif found.kind in ("idx", "cifar10"):
        from mpilocal.data.images import Images

        source = Images(found, data.options)
    else:
        if found.kind == "text":
            layout = text_options(data).layout
            source = Text(found, data.features)
            return Dense(source) if layout == "dense" else source
        no_options(data)
        if found.kind == "hdf5":
            from mpilocal.data.hdf5 import Hdf5Source

            source = Hdf5Source(found.path)
        else:
            from mpilocal.data.npz import open_npz

            source = open_npz(found.path)
    return widened(source, data.features, data.source)


class TextOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of LIBSVM text."""

    layout: Annotated[Literal["sparse", "dense"], Meta(description="dense: store all zeros, faster where few are.")] = (
        "sparse"
    )


def text_options(data: Data) -> TextOptions:
    """Return the options of a text source; ConfigError where one is unknown."""
    return build(TextOptions, data.options, "data.options")


def no_options(data: Data) -> None:
    """Raise ConfigError where options are given to a format that has none."""
    for name in data.options:
        raise ConfigError(f'data.options.{name} is set, but "{data.source}" takes no options: remove it')


def widened(source: Source, features: int | None, name: str) -> Source:
    """Return the source with the dimension of the config; sparse rows may be wider than they show."""
    if source.total == 0:
        raise DataError(f"{name} holds no rows: is it the right file?")
    if features is None or features == source.features:
        return source
    if not source.sparse or features < source.features:
        remedy = "leave data.features out" if not source.sparse else "raise or leave out data.features"
        raise DataError(f"data.features = {features}, but {name} has {source.features} features: {remedy}")
    return _Wider(source, features)


class _Wider:
    def __init__(self, source: Source, features: int) -> None:
        self.source = source
        self.total, self.features, self.sparse = source.total, features, True
        self.extra = source.extra

    def read(self, first: int, last: int) -> Rows:
        return self.source.read(first, last)._replace(features=self.features)


class Dense:
    """A sparse source whose rows are given with all their zeros."""

    def __init__(self, source: Source) -> None:
        """Wrap the source."""
        self.source = source
        self.total, self.features, self.sparse = source.total, source.features, False
        self.extra = source.extra

    def read(self, first: int, last: int) -> Rows:
        """Return rows first ≤ i < last."""
        return densified(self.source.read(first, last))


class InMemory:
    """Rows that fit in memory: the bundled sets, sparse `.npz` files."""

    def __init__(self, rows: Rows) -> None:
        """Keep the rows."""
        self.rows = rows
        self.total, self.features, self.sparse = rows.count, rows.features, rows.sparse
        self.extra: dict[str, NDArray[np.float64]] = {}

    def read(self, first: int, last: int) -> Rows:
        """Return rows first ≤ i < last."""
        return cut(self.rows, first, last)


class Text:
    """LIBSVM text, read serially: the first pass counts rows, reading forward then costs one more."""

    def __init__(self, found: Found, features: int | None) -> None:
        """Parse the whole file once; DataError names its first wrong line."""
        self.found, self.limit, self.sparse = found, features, True
        self.extra: dict[str, NDArray[np.float64]] = {}
        self.total, largest = 0, 0
        self.file: BinaryIO | None = None
        self._close: Callable[[], object] = lambda: None
        self._rewind()
        while (rows := self._next()) is not None:
            self.total += rows.count
            largest = max(largest, rows.features)
        if self.total == 0:
            raise DataError(f"{found.path} holds no rows, only blank lines or comments: is it the right file?")
        self.features = features or largest
        if self.features == 0:
            raise DataError(f"{found.path} holds labels but no features: is it the right file? else set data.features")
        self._rewind()

    def _rewind(self) -> None:
        from mpilocal.data.svmlight import whole_lines

        self._close()
        self.file = opened(self.found.path, self.found.packing)
        self._close = weakref.finalize(self, self.file.close)
        self.pieces = whole_lines(self.file)
        self.lines = 0
        self.held: Rows | None = None  # the piece that holds row `first`
        self.first = 0

    def _next(self) -> Rows | None:
        from mpilocal.data.svmlight import parse_text
        from mpilocal.data.text import readable

        with readable(self.found):
            data = next(self.pieces, None)
        if data is None:
            return None
        parsed = parse_text(data, self.limit)
        if parsed.fault is not None:
            raise DataError(f"{self.found.path}, line {self.lines + parsed.fault.line}: {parsed.fault.reason}")
        self.lines += parsed.lines
        return parsed.rows

    def read(self, first: int, last: int) -> Rows:
        """Return rows first ≤ i < last; going back starts from the beginning of the file."""
        if first < self.first:
            self._rewind()
        parts = [empty(self.features, True)]
        while first < last:
            count = 0 if self.held is None else self.held.count
            if first >= self.first + count:
                self.first += count
                self.held = self._next()
                if self.held is None:
                    raise DataError(f"{self.found.path} has become shorter while it was read")
                continue
            assert self.held is not None
            end = min(last, self.first + count)
            parts.append(cut(self.held, first - self.first, end - self.first))
            first = end
        return join(parts[1:] or parts)._replace(features=self.features)
