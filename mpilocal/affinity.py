"""How many threads a rank may use: its cores over the ranks of the host that share them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


def default_threads(comm: Intracomm) -> int:
    """Return the cores of this rank's affinity mask over the ranks here that share them, at least 1; collective."""
    from mpi4py import MPI

    host = comm.Split_type(MPI.COMM_TYPE_SHARED)
    masks = host.allgather(sorted(os.sched_getaffinity(0)))
    mine = set(masks[host.rank])
    host.Free()
    # A core that k ranks may use is worth 1/k of a core to each.
    share = sum(1.0 / sum(core in mask for mask in masks) for core in mine)
    return max(1, int(share + 1e-9))
