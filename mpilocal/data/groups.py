"""Collective counting of rows by a key: a label, a user, a worker. Only counts travel, never the keys of all rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpilocal.data.pieces import offsets

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

MOST = 1 << 20


class Groups(NamedTuple):
    """Rows by key, in ascending order of keys."""

    keys: NDArray[Any]  # (groups,) the distinct keys of all ranks
    counts: NDArray[np.int64]  # (groups,) rows of all ranks
    group: NDArray[np.int64]  # (my rows,) which group
    rank: NDArray[np.int64]  # (my rows,) position inside its group, by global index


def distinct(comm: Intracomm, values: NDArray[Any], most: int = MOST) -> NDArray[Any] | None:
    """Collective: return the sorted distinct values of all ranks; None: there are more than `most`."""
    mine = np.unique(values)
    counts = np.zeros(comm.size, np.int64)
    comm.Allgather(np.array([len(mine)], np.int64), counts)
    if counts.max(initial=0) > most:
        return None
    if comm.size * int(counts.max(initial=0)) <= 8 * most:
        every = np.empty(int(counts.sum()), values.dtype)
        comm.Allgatherv(mine, [every, counts])
        found = np.unique(every)
        return None if len(found) > most else found
    return _merged(comm, mine, most)


def _merged(comm: Intracomm, mine: NDArray[Any], most: int) -> NDArray[Any] | None:
    """Merge up a binary tree of ranks, so that none holds more than twice `most` values; then broadcast."""
    size = np.zeros(1, np.int64)
    step = 1
    while step < comm.size:
        if comm.rank % (2 * step):
            to = comm.rank - step
            comm.Send(np.array([len(mine)], np.int64), to)
            comm.Send(mine, to)
            break
        if comm.rank + step < comm.size:
            comm.Recv(size, comm.rank + step)
            other = np.empty(int(size[0]), mine.dtype)
            comm.Recv(other, comm.rank + step)
            # one more than allowed is enough to know
            mine = np.unique(np.concatenate([mine, other]))[: most + 1]
        step *= 2
    size[0] = len(mine)
    comm.Bcast(size)
    if size[0] > most:
        return None
    if comm.rank:
        mine = np.empty(int(size[0]), mine.dtype)
    comm.Bcast(mine)
    return mine


def grouped(comm: Intracomm, values: NDArray[Any], keys: NDArray[Any]) -> Groups:
    """Collective: count rows by key; `keys` are sorted and hold all values."""
    from mpi4py import MPI

    group = np.searchsorted(keys, values).astype(np.int64)
    mine = np.bincount(group, minlength=len(keys)).astype(np.int64)
    counts = np.zeros_like(mine)
    comm.Allreduce(mine, counts, MPI.SUM)
    before = np.zeros_like(mine)
    comm.Exscan(mine, before, MPI.SUM)
    if comm.rank == 0:
        before[:] = 0
    order = np.argsort(group, kind="stable")
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - offsets(mine)[:-1][group[order]]
    return Groups(keys, counts, group, rank + before[group])
