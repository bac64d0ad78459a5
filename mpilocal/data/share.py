"""All rows once per host, in MPI shared memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mpilocal.data.pieces import MEBIBYTE, csr
from mpilocal.data.rows import Part, Rows

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm, Win

PIECE = 64 * MEBIBYTE
ALIGN = 64


class Shared:
    """All rows of the data set; the arrays are no longer valid after `free`, which is collective."""

    def __init__(self, rows: Rows, window: Win | None = None, host: Intracomm | None = None) -> None:
        """Keep what `free` gives back."""
        self.rows, self._window, self._host = rows, window, host

    def free(self) -> None:
        """Collective: give the memory back."""
        if self._window is not None:
            self._window.Free()
        if self._host is not None:
            self._host.Free()
        self._window = self._host = None


def share(comm: Intracomm, part: Part) -> Shared:
    """Collective: return all rows, in order of index, once in the memory of each host.

    Every rank writes its own part into its host's memory; then one rank per host, the keeper, broadcasts each part to
    the other keepers, in place. No rank has a private copy of more than its part.
    """
    if comm.size == 1:
        return Shared(part.rows)
    from mpi4py import MPI

    nonzeros = 0 if part.rows.values is None else len(part.rows.values)
    mine = np.array([part.first, part.rows.count, nonzeros, 0], np.int64)
    host = cast("Intracomm", comm.Split_type(MPI.COMM_TYPE_SHARED, comm.rank))
    keepers = cast("Intracomm", comm.Split(0 if host.rank == 0 else MPI.UNDEFINED, comm.rank))
    # every rank's host, known by the position of its keeper among the keepers
    which = np.array([keepers.rank if host.rank == 0 else 0], np.int64)
    host.Bcast(which)
    mine[3] = which[0]
    table = np.zeros((comm.size, 4), np.int64)
    comm.Allgather(mine, table)

    window, rows = _window(host, part.rows, int(table[:, 1].sum()), int(table[:, 2].sum()))
    before = table[:, 2].cumsum() - table[:, 2]
    _write(rows, part, int(before[comm.rank]))
    window.Sync()
    host.Barrier()
    window.Sync()
    if host.rank == 0:
        if keepers.size > 1:
            for rank in range(comm.size):
                _spread(keepers, rows, table[rank], int(before[rank]))
        keepers.Free()
        window.Sync()
    host.Barrier()
    window.Unlock_all()
    return Shared(rows, window, host)


def _window(host: Intracomm, like: Rows, total: int, nonzeros: int) -> tuple[Win, Rows]:
    """Allocate uninitialised rows in the keeper's window; indptr[0] = 0."""
    from mpi4py import MPI

    shapes: dict[str, tuple[tuple[int, ...], DTypeLike]] = {"labels": ((total,), np.float64)}
    if like.users is not None:
        shapes["users"] = ((total,), np.int64)
    if like.dense is not None:
        shapes["dense"] = ((total, like.features), like.dense.dtype)
    else:
        values, indices, _ = csr(like)
        shapes["values"] = ((nonzeros,), values.dtype)
        shapes["indices"] = ((nonzeros,), indices.dtype)
        shapes["indptr"] = ((total + 1,), np.int64)
    sizes = [int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize for shape, dtype in shapes.values()]
    padded = [-(-size // ALIGN) * ALIGN for size in sizes]
    window = MPI.Win.Allocate_shared(sum(padded) if host.rank == 0 else 0, 1, comm=host)
    memory = window.Shared_query(0)[0]
    window.Lock_all(MPI.MODE_NOCHECK)
    arrays: dict[str, NDArray[Any]] = {}
    begin = 0
    for (name, (shape, dtype)), size in zip(shapes.items(), padded, strict=True):
        arrays[name] = np.ndarray(shape, dtype, cast(Any, memory), begin)
        begin += size
    return window, Rows(labels=arrays.pop("labels"), features=like.features, **arrays)


def _write(rows: Rows, part: Part, nonzero: int) -> None:
    first, last = part.first, part.first + part.rows.count
    rows.labels[first:last] = part.rows.labels
    if rows.users is not None and part.rows.users is not None:
        rows.users[first:last] = part.rows.users
    if rows.dense is not None and part.rows.dense is not None:
        rows.dense[first:last] = part.rows.dense
        return
    values, indices, indptr = csr(rows)
    mine = csr(part.rows)
    values[nonzero : nonzero + len(mine[0])] = mine[0]
    indices[nonzero : nonzero + len(mine[0])] = mine[1]
    if first == 0:
        indptr[0] = 0
    indptr[first + 1 : last + 1] = mine[2][1:] + nonzero


def _spread(keepers: Intracomm, rows: Rows, facts: NDArray[np.int64], nonzero: int) -> None:
    """Broadcast one rank's share of every array from its host's keeper, in pieces."""
    first, count, nonzeros, keeper = facts.tolist()
    spans: list[tuple[NDArray[Any] | None, int, int]]
    spans = [(rows.labels, first, count), (rows.users, first, count), (rows.dense, first, count)]
    spans += [(rows.values, nonzero, nonzeros), (rows.indices, nonzero, nonzeros)]
    # indptr[first] is written by the rank before, or is 0
    spans += [(rows.indptr, first + 1, count)] if first else [(rows.indptr, 0, count + 1)]
    for array, begin, length in spans:
        if array is None:
            continue
        step = max(1, PIECE // max(1, array[:1].nbytes))
        for low in range(begin, begin + length, step):
            keepers.Bcast(array[low : min(low + step, begin + length)], keeper)
