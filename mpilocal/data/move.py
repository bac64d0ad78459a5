"""Moving rows between ranks: point to point, and from any order to any owner by Alltoallv on flat buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpilocal.data.pieces import MEBIBYTE, csr, offsets, size_of, spans, take
from mpilocal.data.rows import Rows

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

CHUNK = 64 * MEBIBYTE  # bytes that a rank sends at a time: bounds the copies, and keeps counts far below 2^31


def send_rows(comm: Intracomm, rows: Rows, to: int) -> None:
    """Send rows to a rank, which receives them by `receive_rows`."""
    nonzeros = 0 if rows.values is None else len(rows.values)
    comm.Send(np.array([rows.count, nonzeros], np.int64), to)
    for array in rows:
        if isinstance(array, np.ndarray):
            comm.Send(np.ascontiguousarray(array), to)


def receive_rows(comm: Intracomm, like: Rows, source: int) -> Rows:
    """Receive rows of the kind (layout, dtype, users) of `like`."""
    head = np.zeros(2, np.int64)
    comm.Recv(head, source)
    count, nonzeros = int(head[0]), int(head[1])
    rows = allocate(like, count, nonzeros)
    for array in rows:
        if isinstance(array, np.ndarray):
            comm.Recv(array, source)
    return rows


def allocate(like: Rows, count: int, nonzeros: int) -> Rows:
    """Return uninitialised rows of the kind of `like`."""
    users = None if like.users is None else np.empty(count, np.int64)
    labels = np.empty(count)
    if like.dense is not None:
        return Rows(labels, like.features, dense=np.empty((count, like.features), like.dense.dtype), users=users)
    values, indices, _ = csr(like)
    return Rows(
        labels,
        like.features,
        values=np.empty(nonzeros, values.dtype),
        indices=np.empty(nonzeros, indices.dtype),
        indptr=np.zeros(count + 1, np.int64),
        users=users,
    )


def redistribute(comm: Intracomm, rows: Rows, place: NDArray[np.int64], bounds: NDArray[np.int64]) -> Rows:
    """Collective: give every row to the rank that owns its place; there, rows lie in order of place.

    Args:
        comm: All ranks bring rows of one kind.
        rows: This rank's rows.
        place: (rows,) global place of each, a permutation of 0 … n − 1 over all ranks.
        bounds: (ranks + 1,) rank p owns places bounds[p] ≤ place < bounds[p + 1].

    Returns:
        This rank's bounds[rank + 1] − bounds[rank] rows.
    """
    first, last = int(bounds[comm.rank]), int(bounds[comm.rank + 1])
    ascending = bool(np.all(place[1:] > place[:-1]))
    stay = ascending and len(place) == last - first and (len(place) == 0 or int(place[0]) == first)
    verdict = np.array([stay], np.int64)
    agreed = np.zeros_like(verdict)
    from mpi4py import MPI

    comm.Allreduce(verdict, agreed, MPI.MIN)
    if agreed[0]:
        return rows
    order = np.arange(len(place)) if ascending else np.argsort(place)
    if comm.size == 1:
        return take(rows, order)
    return _exchange(comm, rows, place, bounds, order)


def _exchange(
    comm: Intracomm, rows: Rows, place: NDArray[np.int64], bounds: NDArray[np.int64], order: NDArray[np.int64]
) -> Rows:
    from mpi4py import MPI

    first, last = int(bounds[comm.rank]), int(bounds[comm.rank + 1])
    # what every row needs beside its values: place, label, user, length
    head = np.zeros((len(order), 4), np.int64)
    head[:, 0] = place[order]
    head[:, 1] = rows.labels[order].view(np.int64)
    if rows.users is not None:
        head[:, 2] = rows.users[order]
    if rows.sparse:
        head[:, 3] = np.diff(csr(rows)[2])[order]
    owner = np.searchsorted(bounds, head[:, 0], side="right") - 1
    got = _alltoall(comm, head, np.bincount(owner, minlength=comm.size))
    target = got[:, 0] - first
    lengths = np.zeros(last - first, np.int64)
    lengths[target] = got[:, 3]
    indptr = offsets(lengths)
    out = allocate(rows, last - first, int(indptr[-1]))
    out.labels[target] = got[:, 1].view(np.float64)
    if out.users is not None:
        out.users[target] = got[:, 2]
    if out.indptr is not None:
        out.indptr[:] = indptr
    # the values in chunks; each takes every chunks-th row, so that all ranks receive in each
    need = np.array([-(-size_of(rows) // CHUNK)], np.int64)
    chunks = np.zeros_like(need)
    comm.Allreduce(need, chunks, MPI.MAX)
    for chunk in range(int(chunks[0])):
        mine = slice(chunk, None, int(chunks[0]))
        _payload(comm, rows, order[mine], head[mine, 0], owner[mine], out, first)
    return out


def _payload(
    comm: Intracomm,
    rows: Rows,
    order: NDArray[np.int64],
    place: NDArray[np.int64],
    owner: NDArray[np.int64],
    out: Rows,
    first: int,
) -> None:
    counts = np.bincount(owner, minlength=comm.size)
    target = _alltoall(comm, place, counts) - first
    if rows.dense is not None and out.dense is not None:
        out.dense[target] = _alltoall(comm, rows.dense[order], counts)
        return
    values, indices, indptr = csr(rows)
    lengths = indptr[order + 1] - indptr[order]
    where = spans(indptr[order], lengths)
    nonzeros = np.zeros(comm.size, np.int64)
    np.add.at(nonzeros, owner, lengths)
    new_values, new_indices, new_indptr = csr(out)
    there = spans(new_indptr[target], new_indptr[target + 1] - new_indptr[target])
    new_values[there] = _alltoall(comm, values[where], nonzeros)
    new_indices[there] = _alltoall(comm, indices[where], nonzeros)


def _alltoall(comm: Intracomm, data: NDArray[Any], counts: NDArray[np.int64]) -> NDArray[Any]:
    """Send counts[p] leading entries of `data` to rank p, in rank order; return what came, by source."""
    counts = counts.astype(np.int64)
    incoming = np.zeros(comm.size, np.int64)
    comm.Alltoall(counts, incoming)
    width = int(np.prod(data.shape[1:], dtype=np.int64))
    out = np.empty((int(incoming.sum()), *data.shape[1:]), data.dtype)
    data = np.ascontiguousarray(data)
    comm.Alltoallv(
        [data.reshape(-1), (counts * width, offsets(counts * width)[:-1])],
        [out.reshape(-1), (incoming * width, offsets(incoming * width)[:-1])],
    )
    return out
