"""Rows of the workers between root and the other ranks, in pieces: root never holds more than a few of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpilocal.store.inplace import PIECE

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm, Request

Array = NDArray[Any]
Bytes = NDArray[np.uint8]

_WORD, _DATA = 71, 72  # message tags
_END = -1  # root's word when no more is wanted


def pieces(array: Array) -> Iterator[Bytes]:
    """Yield the bytes of an array, in C order, in pieces."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    for at in range(0, len(flat), PIECE):
        yield flat[at : at + PIECE]


def received(comm: Intracomm, field: int, sizes: Sequence[int]) -> Generator[Bytes, None, None]:
    """On root: ask the other ranks, one by one, for their pieces of a field; the next arrives while one is used.

    A piece is overwritten when the one after the next is asked for. Close the iterator, and end with `dismiss`.

    Args:
        comm: the run's ranks.
        field: index of the field on every rank.
        sizes: bytes of each rank's part of it.
    """
    from mpi4py import MPI

    plan = ((rank, min(PIECE, sizes[rank] - at)) for rank in range(1, comm.size) for at in range(0, sizes[rank], PIECE))
    largest = min(PIECE, max(sizes[1:], default=0))
    buffers = [np.empty(largest, dtype=np.uint8) for _ in range(3)]
    word = np.array([field], dtype=np.int64)

    def ask(turn: int) -> tuple[Request, Bytes] | None:
        rank, size = next(plan, (0, 0))
        if not size:
            return None
        piece = buffers[turn % 3][:size]
        request = comm.Irecv([piece, MPI.BYTE], source=rank, tag=_DATA)
        comm.Send(word, dest=rank, tag=_WORD)
        return request, piece

    turn = 0
    coming = ask(turn)
    try:
        while coming is not None:
            request, piece = coming
            request.Wait()
            coming = None
            turn += 1
            coming = ask(turn)
            yield piece
    finally:
        if coming is not None:
            coming[0].Wait()


def serve(comm: Intracomm, fields: Sequence[Array]) -> None:
    """On another rank: send a piece of a field whenever root asks for one, until root says that it has done."""
    from mpi4py import MPI

    left = [pieces(array) for array in fields]
    word = np.empty(1, dtype=np.int64)
    while True:
        comm.Recv(word, source=0, tag=_WORD)
        if word[0] == _END:
            return
        comm.Send([next(left[word[0]]), MPI.BYTE], dest=0, tag=_DATA)


def dismiss(comm: Intracomm) -> None:
    """On root: tell the ranks in `serve` that no more is wanted."""
    for rank in range(1, comm.size):
        comm.Send(np.array([_END], dtype=np.int64), dest=rank, tag=_WORD)


def deal(comm: Intracomm, load: Callable[[Bytes, int], None], sizes: Sequence[int], mine: Array) -> None:
    """Collective: fill every rank's C-ordered array `mine` with its part of a field, root's included.

    Args:
        comm: the run's ranks.
        load: on root: fills bytes from an offset into the field; it must not raise.
        sizes: bytes of each rank's part of the field.
        mine: this rank's part.
    """
    from mpi4py import MPI

    if comm.rank > 0:
        for piece in pieces(mine):
            comm.Recv([piece, MPI.BYTE], source=0, tag=_DATA)
        return
    at = 0
    for piece in pieces(mine):
        load(piece, at)
        at += len(piece)
    buffer = np.empty(min(PIECE, max(sizes[1:], default=0)), dtype=np.uint8)
    for rank in range(1, comm.size):
        for begin in range(0, sizes[rank], PIECE):
            piece = buffer[: min(PIECE, sizes[rank] - begin)]
            load(piece, at)
            comm.Send([piece, MPI.BYTE], dest=rank, tag=_DATA)
            at += len(piece)


def share(comm: Intracomm, array: Array) -> None:
    """Collective: give root's C-ordered array to all ranks, in pieces."""
    from mpi4py import MPI

    for piece in pieces(array):
        comm.Bcast([piece, MPI.BYTE])
