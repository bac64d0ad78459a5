"""Whether a machine and a launch are fit for a run: what is there, what is odd, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mpilocal import __version__
from mpilocal.doctor import ranks, software, storage
from mpilocal.doctor.item import Item
from mpilocal.errors import DataError, LaunchError

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


def examine(
    comm: Intracomm,
    output: Path,
    launched: tuple[int, str] | None = None,
    variables: Mapping[str, str] | None = None,
) -> list[Item]:
    """Look at everything; collective, the items are the same on all ranks.

    Args:
        comm: Of the launch.
        output: The folder in which runs will be.
        launched: How many processes the launcher started, and the variable that says so.
        variables: What launchers and SLURM have set in the environment.
    """
    seen = ranks.look(comm)
    items: list[Item] = []
    if comm.rank == 0:
        items = [
            Item("mpilocal", "ok", f"{__version__}, Python {sys.version.split()[0]}, {sys.executable}"),
            software.packages(),
            ranks.library(),
            ranks.mpiexec(),
            ranks.launch(comm.size, launched),
            ranks.hosts(seen),
            ranks.threads(seen),
            storage.cached(storage.cache(), [(host.name, host.kind, host.writable) for host in seen]),
            storage.hdf5(),
            *storage.folder(output),
            storage.memory(),
            software.gpus(),
            software.extras(),
            software.environment(variables or {}),
        ]
    found: list[Item] = comm.bcast(items)
    return found


def status(items: Sequence[Item]) -> int:
    """Return the exit status: 0, or that of the first broken item: 6 of the launch, 4 of the files."""
    for item in items:
        if item.status == "broken":
            return LaunchError.status if item.name == "launch" else DataError.status
    return 0


def text(items: Sequence[Item]) -> str:
    """Return the items for people."""
    width = max(len(item.name) for item in items)
    lines = []
    for item in items:
        lines.append(f"{item.status:<8} {item.name:<{width}}  {item.text}")
        if item.remedy:
            lines.append(f"{'':<8} {'':<{width}}  → {item.remedy}")
    return "\n".join(lines)
