"""LIBSVM text read by all ranks together: plain by byte ranges, compressed through root."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mpilocal.data.kind import BROKEN, Found, opened
from mpilocal.data.move import redistribute
from mpilocal.data.pieces import empty, join
from mpilocal.data.rows import Rows, block
from mpilocal.data.svmlight import PIECE, Fault, Parsed, lines_between, parse_text, whole_lines
from mpilocal.errors import DataError, agree

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

RANK = 1 << 32  # more pieces than a rank ever reads


class Piece(NamedTuple):
    """Some whole lines of the file, parsed; keys ascend in the order of the file."""

    key: int
    parsed: Parsed


def read_text(comm: Intracomm, found: Found, features: int | None, piece: int = PIECE) -> tuple[Rows, int, int]:
    """Collective: read LIBSVM text.

    Args:
        comm: Of all ranks that share the rows.
        found: The file.
        features: The dimension; None: the largest index of all rows.
        piece: Bytes parsed at a time.

    Returns:
        This rank's rows of the block distribution, the global index of the first, and the rows of all ranks.

    Raises:
        DataError: On all ranks alike, with the first line of the file that is wrong.
    """
    pieces: list[Piece] = []
    error: Exception | None = None
    try:
        for key, data in (_packed if found.packing else _plain)(comm, found, piece):
            try:
                if error is None and (not pieces or pieces[-1].parsed.fault is None):
                    pieces.append(Piece(key, parse_text(data, features)))
            except Exception as failed:  # root goes on sending: take what comes, then say so
                error = failed
    except Exception as broken:
        error = broken
    agree(comm, error)
    table = _gathered(comm, pieces)
    _refuse(comm, found, pieces, table)
    return _deal(comm, found, pieces, table, features)


def _plain(comm: Intracomm, found: Found, piece: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that start in this rank's range of bytes."""
    first, last = block(found.size, comm.size, comm.rank)
    with readable(found), opened(found.path, "") as file:
        for begin in range(first, last, piece):
            yield comm.rank * RANK + (begin - first) // piece, lines_between(file, begin, min(begin + piece, last))


def _packed(comm: Intracomm, found: Found, piece: int) -> Iterator[tuple[int, bytes]]:
    """Root decompresses and gives piece k of whole lines to rank k mod P, which parses it meanwhile."""
    if comm.rank == 0:
        try:
            with readable(found), opened(found.path, found.packing) as file:
                for key, data in enumerate(whole_lines(file, piece)):
                    if to := key % comm.size:
                        comm.Send(np.array([len(data), key], np.int64), to)
                        comm.Send(np.frombuffer(data, np.uint8), to)
                    else:
                        yield key, data
        finally:
            for to in range(1, comm.size):
                comm.Send(np.array([-1, 0], np.int64), to)
        return
    head = np.zeros(2, np.int64)
    while True:
        comm.Recv(head, 0)
        if head[0] < 0:
            return
        text = np.empty(int(head[0]), np.uint8)
        comm.Recv(text, 0)
        yield int(head[1]), text.tobytes()


@contextmanager
def readable(found: Found) -> Iterator[None]:
    """Turn what a damaged or unreadable file raises into a DataError."""
    try:
        yield
    except BROKEN as error:
        raise DataError(f"{found.path} is damaged or cut short ({error}): get it again") from None


def _gathered(comm: Intracomm, pieces: list[Piece]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return (pieces of all ranks, 4), in the order of the file: key, rows, lines, largest index."""
    facts = [(piece.key, piece.parsed.rows.count, piece.parsed.lines, piece.parsed.rows.features) for piece in pieces]
    mine = np.array(facts, np.int64).reshape(-1, 4)
    counts = np.zeros(comm.size, np.int64)
    comm.Allgather(np.array([mine.size], np.int64), counts)
    table = np.zeros((int(counts.sum()) // 4, 4), np.int64)
    comm.Allgatherv(mine.reshape(-1), [table.reshape(-1), counts])
    return table[np.argsort(table[:, 0])]


def _refuse(
    comm: Intracomm, found: Found, pieces: list[Piece], table: np.ndarray[tuple[int, int], np.dtype[np.int64]]
) -> None:
    """Raise with the first wrong line of the file; all pieces before it were parsed by someone."""
    fault: Fault | None = pieces[-1].parsed.fault if pieces else None
    mine = None if fault is None else (pieces[-1].key, fault.line, fault.reason)
    faults = [one for one in comm.allgather(mine) if one is not None]
    if faults:
        key, line, reason = min(faults)
        line += int(table[table[:, 0] < key, 2].sum())
        raise DataError(f"{found.path}, line {line}: {reason}")


def _deal(
    comm: Intracomm,
    found: Found,
    pieces: list[Piece],
    table: np.ndarray[tuple[int, int], np.dtype[np.int64]],
    features: int | None,
) -> tuple[Rows, int, int]:
    total = int(table[:, 1].sum())
    if total == 0:
        raise DataError(f"{found.path} holds no rows, only blank lines or comments: is it the right file?")
    features = features or int(table[:, 3].max())
    if features == 0:
        raise DataError(f"{found.path} holds labels but no features: is it the right file? else set data.features")
    # where each of this rank's pieces begins among all rows
    before = dict(zip(table[:, 0].tolist(), (np.cumsum(table[:, 1]) - table[:, 1]).tolist(), strict=True))
    begins = [before[piece.key] for piece in pieces]
    parts = [piece.parsed.rows for piece in pieces]
    pieces.clear()
    place = [np.arange(begin, begin + part.count) for begin, part in zip(begins, parts, strict=True)]
    rows = (join(parts) if parts else empty(features, True))._replace(features=features)
    parts.clear()
    bounds = np.array([block(total, comm.size, rank)[0] for rank in range(comm.size)] + [total], np.int64)
    rows = redistribute(comm, rows, np.concatenate([np.zeros(0, np.int64), *place]), bounds)
    return rows, int(bounds[comm.rank]), total
