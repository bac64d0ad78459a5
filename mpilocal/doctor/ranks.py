"""MPI, the launcher, and the cores and threads of the ranks."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mpilocal.affinity import default_threads
from mpilocal.doctor.item import Item, many
from mpilocal.doctor.storage import cache, file_system, writable

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


class Host(NamedTuple):
    """What a rank sees of its machine."""

    name: str
    cores: list[int]  # of the affinity mask
    threads: int
    kind: str  # of the file system of the cache
    writable: bool  # whether the cache can be written


def look(comm: Intracomm) -> list[Host]:
    """Return what every rank sees, by rank; collective."""
    mine = Host(
        socket.gethostname(),
        sorted(os.sched_getaffinity(0)),
        default_threads(comm),
        file_system(cache())[0],
        writable(cache()),
    )
    found: list[Host] = comm.allgather(mine)
    return found


def library() -> Item:
    """The MPI library, and whether threads may call it."""
    from mpi4py import MPI

    name = " ".join(MPI.Get_library_version().replace("\0", "").strip().splitlines()[0].split())
    names = {MPI.THREAD_SINGLE: "single", MPI.THREAD_FUNNELED: "funneled", MPI.THREAD_SERIALIZED: "serialized"}
    level = names.get(MPI.Query_thread(), "multiple")
    said = f"{name}, MPI {'.'.join(map(str, MPI.Get_version()))}, thread level {level}"
    if level != "multiple":
        return Item(
            "MPI", "warning", said, "the watchdog ends a stalled job from a thread: unset MPI4PY_RC_THREAD_LEVEL"
        )
    return Item("MPI", "ok", said)


def mpiexec() -> Item:
    """The mpiexec on the path, and the one beside this Python."""
    first, own = shutil.which("mpiexec"), Path(sys.executable).parent / "mpiexec"
    if first is None and own.exists():
        return Item("mpiexec", "ok", f"{own}, not on the path")
    if first is None:
        return Item("mpiexec", "note", "none on the path", "srun starts runs too, as does the mpiexec of an MPI module")
    if own.exists() and not own.samefile(first):
        return Item("mpiexec", "warning", f"{first}, but {own} is beside this Python", f"start runs with {own}")
    return Item("mpiexec", "ok", first)


def launch(size: int, launched: tuple[int, str] | None) -> Item:
    """Whether the launcher and the MPI library belong together."""
    if launched is None:
        alone = "" if size > 1 else ", without a launcher"
        return Item("launch", "ok", f"{many(size, 'rank')}{alone}")
    count, variable = launched
    if count > size:
        return Item(
            "launch",
            "broken",
            f"the launcher started {count} processes ({variable}) but MPI sees {many(size, 'rank')}",
            "the launcher is not of this MPI library: use the mpiexec beside this Python, srun --mpi=pmi2 for MPICH, "
            "srun --mpi=pmix for Open MPI (srun --mpi=list shows what there is)",
        )
    return Item("launch", "ok", f"{many(size, 'rank')}, as {variable} says")


def hosts(ranks: Sequence[Host]) -> Item:
    """How many ranks each host has."""
    counts = Counter(rank.name for rank in ranks)
    shown = ", ".join(f"{name}: {count}" for name, count in list(counts.items())[:8])
    more = ", …" if len(counts) > 8 else ""
    return Item("ranks", "ok", f"{many(len(ranks), 'rank')} on {many(len(counts), 'host')} ({shown}{more})")


def threads(ranks: Sequence[Host]) -> Item:
    """Cores and threads of each rank, and whether ranks get in each other's way."""
    low, high = min(rank.threads for rank in ranks), max(rank.threads for rank in ranks)
    said = f"{many(low, 'thread')} per rank" if low == high else f"{low} to {high} threads per rank"
    overlap = False
    for name in sorted({rank.name for rank in ranks}):
        here = [rank for rank in ranks if rank.name == name]
        cores = set().union(*(rank.cores for rank in here))
        said += f"; {name}: {many(len(cores), 'core')} for {many(len(here), 'rank')}" if name == ranks[0].name else ""
        overlap |= len(cores) < sum(len(rank.cores) for rank in here)
        if len(cores) < len(here):
            return Item(
                "threads",
                "warning",
                f"{len(here)} ranks share {many(len(cores), 'core')} on {name}",
                "they take turns, and every averaging waits: launch fewer ranks, or --cpus-per-task, --bind-to core",
            )
    if overlap:
        return Item("threads", "note", f"{said}; ranks share cores", "bind ranks to cores for steady times")
    return Item("threads", "ok", said)
