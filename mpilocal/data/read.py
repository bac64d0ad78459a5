"""Reading a data set by all ranks: each its contiguous share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mpilocal.config.structs import Data
from mpilocal.data.kind import Found, find
from mpilocal.data.pieces import cast, densified
from mpilocal.data.rows import Part, Rows, block
from mpilocal.data.sources import open_found, text_options
from mpilocal.errors import ConfigError, DataError, agreed

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


def read_part(comm: Intracomm, data: Data, folder: Path, dtype: DTypeLike = np.float64) -> Part:
    """Collective: read this rank's rows block(total, ranks, rank) of the config's source.

    Args:
        comm: Of all ranks that share the rows.
        data: The `[data]` table.
        folder: Where a relative `source` is looked for first (the config's); then in the working directory.
        dtype: Of the values: float64 or float32. Labels are float64 always. The digest is of what the source
            holds, whatever the dtype.

    Raises:
        ConfigError: An unknown source or option; on all ranks alike.
        DataError: The file is missing or wrong; on all ranks alike.
    """
    from mpilocal.data.digest import digest

    found = _found(comm, data, folder)
    extra: dict[str, NDArray[np.float64]] = {}
    stored = ""
    if found.kind == "text":
        from mpilocal.data.text import read_text

        with agreed(comm):
            layout = text_options(data).layout
            if data.pairs is not None:
                raise ConfigError(f"data.pairs is for dense rows, and {data.source} is text: convert it first")
        rows, first, total = read_text(comm, found, data.features)
        if layout == "dense":
            rows = densified(rows)
    else:
        with agreed(comm):
            source = open_found(found, data)
            total = source.total
            first, last = block(total, comm.size, comm.rank)
            rows = source.read(first, last)
            extra = source.extra
            stored = getattr(source, "digest", "")
        _same(comm, found, total, rows)
    content = digest(comm, rows, first, total)
    if stored and stored != content:
        raise DataError(
            f"{found.path} holds rows with digest {content}, but its attribute says {stored}: "
            "the file is damaged or was edited; convert it again, or delete the attribute"
        )
    return Part(cast(rows, dtype), first, total, content, extra)


def _found(comm: Intracomm, data: Data, folder: Path) -> Found:
    """Root looks, so that a thousand ranks do not; all agree on what it found."""
    found = None
    with agreed(comm):
        if comm.rank == 0:
            found = find(data.source, folder)
    answer: Found = comm.bcast(found)
    return answer


def _same(comm: Intracomm, found: Found, total: int, rows: Rows) -> None:
    """Refuse a file that differs between hosts."""
    shape = np.array([total, rows.features, -total, -rows.features], np.int64)
    least = np.zeros_like(shape)
    from mpi4py import MPI

    comm.Allreduce(shape, least, MPI.MIN)
    if least[0] != -least[2] or least[1] != -least[3]:
        raise DataError(f"{found.path} differs between hosts: put one file where all of them read it")
