"""Dealing rows out to the ranks of their workers, or to all ranks of a host at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpilocal.data.move import redistribute
from mpilocal.data.partition import Plan, places
from mpilocal.data.pieces import offsets
from mpilocal.data.rows import Part, Rows, block

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


class Dealt(NamedTuple):
    """The rows of a rank's workers, worker after worker."""

    rows: Rows
    offsets: NDArray[np.int64]  # (my workers + 1,) worker first + k holds rows offsets[k] ≤ i < offsets[k + 1]
    first: int  # global id of the first of this rank's workers


def deal(comm: Intracomm, part: Part, plan: Plan, workers: int) -> Dealt:
    """Collective: return the rows of this rank's workers, block(workers, ranks, rank), in order of place.

    Args:
        comm: Of the ranks that hold the parts.
        part: This rank's rows.
        plan: Of `mpilocal.data.partition.plan`.
        workers: M.
    """
    rows = redistribute(comm, part.rows, plan.position, places(plan.counts, comm.size))
    first, last = block(workers, comm.size, comm.rank)
    return Dealt(rows, offsets(plan.counts[first:last]), first)
