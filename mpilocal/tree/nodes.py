"""Hosts as MPI sees them: ranks that share memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from mpilocal.data.rows import block

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


def host_of(comm: Intracomm) -> list[int]:
    """Return, for each rank, the lowest rank on its host; collective."""
    from mpi4py import MPI

    host = cast("Intracomm", comm.Split_type(MPI.COMM_TYPE_SHARED, comm.rank))
    lowest = np.array([comm.rank], np.int64)
    host.Bcast(lowest)
    host.Free()
    found = np.empty(comm.size, np.int64)
    comm.Allgather(lowest, found)
    return [int(rank) for rank in found]


def by_host(comm: Intracomm) -> Intracomm:
    """Return a communicator of the same ranks in which those of a host follow each other, rank 0 first; collective.

    Workers sit on ranks in blocks, so that the workers of a host are then consecutive. The caller frees it.
    """
    return cast("Intracomm", comm.Split(0, host_of(comm)[comm.rank] * comm.size + comm.rank))


def workers_by_host(comm: Intracomm, workers: int) -> list[int]:
    """Return how many of `workers` sit on each host, in the order of ranks, which `by_host` has sorted; collective."""
    counts: dict[int, int] = {}
    for rank, host in enumerate(host_of(comm)):
        first, last = block(workers, comm.size, rank)
        counts[host] = counts.get(host, 0) + last - first
    return list(counts.values())
