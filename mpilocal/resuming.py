"""What a resumed run takes up: the state of the newest usable checkpoint, and the history and iterates up to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpilocal.config import Config
from mpilocal.config.kinds import parse_record_every
from mpilocal.errors import ConfigError, DataError, agreed
from mpilocal.observe import restore
from mpilocal.prepare import Prepared
from mpilocal.schedules import Records
from mpilocal.store import checkpoint
from mpilocal.store.iterates import Iterates
from mpilocal.store.record import History
from mpilocal.store.rundir import RunDir

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Array = NDArray[np.floating]


def restore_state(
    made: Prepared, comm: Intracomm, run: RunDir | None, state: Any, warn: Callable[[str], None]
) -> tuple[int, Array, dict[str, int | float | str]]:
    """Fill the state from the newest usable checkpoint; return its round, average and counters; collective."""
    path = Path()
    with agreed(comm):
        if run is not None:
            path, warnings = checkpoint.newest(run.checkpoints)
            for text in warnings:
                warn(text)
    tree = made.tree
    rounds, average, arrays, counters = checkpoint.read(
        tree.comm, path, tree.workers, tree.first, tree.count, made.problem.dim, np.float64
    )
    with agreed(comm):
        restore(state, arrays, path)
        if rounds > made.config.algorithm.rounds:
            raise ConfigError(
                f"algorithm.rounds = {made.config.algorithm.rounds} is less than the {rounds} rounds of the newest "
                f"checkpoint: set it to at least {rounds}"
            )
    return rounds, average, counters


def reread(
    run: RunDir | None, rounds: int, comm: Intracomm
) -> tuple[History | None, dict[str, float | int], dict[str, float]]:
    """Return the history up to the checkpoint, its row of that round, if any, and the last timings; collective."""
    history: History | None = None
    row: dict[str, float | int] = {}
    earlier: dict[str, float] = {}
    with agreed(comm):
        if run is not None:
            if not run.history.exists():
                raise DataError(
                    f"{run.path} has lost its history.h5, without which it cannot be continued: restore the file, or "
                    "start the run anew in another folder with -o"
                )
            history = History.read(run.history)
            history.cut(rounds)
            for name, column in history.columns().items():
                if len(column):
                    table = earlier if name.startswith("timings/") else row
                    table[name.removeprefix("timings/")] = column[-1].item()
            if row.get("round") != rounds:
                row = {}
    row, earlier = comm.bcast((row, earlier))
    return history, row, earlier


def open_iterates(
    config: Config, run: RunDir | None, comm: Intracomm, dim: int, rounds: range, resuming: bool
) -> Iterates | None:
    """Return the open iterates.h5 on root where it is asked for, cut back to the first of `rounds`; collective."""
    made: Iterates | None = None
    with agreed(comm):
        if run is not None and config.output.iterates:
            records = Records(parse_record_every(config.output.record_every))
            room = records.count(config.algorithm.rounds)
            if resuming and run.iterates.exists():
                made = Iterates(run.iterates)
                made.cut(rounds.start, records if rounds else None)
                made.resize(max(room, len(made)))
            else:
                made = Iterates.create(run.iterates, room, dim)
    return made
