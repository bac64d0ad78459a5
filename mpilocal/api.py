"""What the command line does, as calls: `run`, `resume`, `load`.

The library never touches COMM_WORLD by itself and never aborts its caller's job: errors are agreed on and raised on
all ranks of the communicator that it was given.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from mpilocal import config as configs
from mpilocal import session
from mpilocal.config import Config
from mpilocal.errors import ConfigError, agreed
from mpilocal.session import Controls
from mpilocal.store import checkpoint, rundir
from mpilocal.store.record import read_history
from mpilocal.store.rundir import RunDir

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


class Result(NamedTuple):
    """A run, finished or not.

    Attributes:
        config: as resolved.
        status: running, done, stopped, diverged, failed or interrupted.
        round: completed rounds.
        reason: why it ended early, or "".
        history: columns by name, (records,); `timings/…` are those that depend on the launch.
        average: x̄ (dim,) of the last recorded round or checkpoint.
        facts: what was resolved: rows, features, dim, digest, labels, optimum, …
        path: the run directory, or None.
    """

    config: Config
    status: str
    round: int
    reason: str
    history: dict[str, NDArray[Any]]
    average: NDArray[np.floating]
    facts: dict[str, Any]
    path: Path | None


def run(
    config: Config | Mapping[str, Any] | str | Path,
    *,
    comm: Intracomm | None = None,
    output: str | Path | None = None,
    overrides: Sequence[str] = (),
    or_resume: bool = False,
    controls: Controls | None = None,
) -> Result:
    """Run a config on the ranks of a communicator; collective.

    Args:
        config: A `Config`, a nested dictionary, or the path of a TOML file.
        comm: Any intracommunicator; None: this process alone.
        output: The run directory; None: nothing is written.
        overrides: `key=value` strings, as with `-s`.
        or_resume: Continue where `output` holds this run already.
        controls: Time limit and the like.

    Returns:
        The result, the same on all ranks.

    Raises:
        MpilocalError: one of its kinds, the same on all ranks; see `mpilocal.errors`.
    """
    comm = _comm(comm)
    overrides = _listed(overrides)
    controls = controls or Controls(time.monotonic(), overrides=tuple(overrides))
    table: Config | None = None
    folder = Path.cwd()
    if or_resume and output is None:
        raise ConfigError("or_resume = True continues a run directory: name it as output")
    path = Path(output).absolute() if output is not None else None
    held: RunDir | None = None
    resuming = False
    try:
        with agreed(comm):
            if comm.rank == 0:
                if isinstance(config, str | Path):
                    folder = Path(config).absolute().parent
                table = configs.load(config, overrides)
                table = session.absolute(table, folder)
                if path is not None:
                    resuming = or_resume and rundir.holds_run(path)
                    held = RunDir.open(path) if resuming else RunDir.create(path)
                    if resuming and held.unbegun:
                        resuming = False
                    elif resuming:
                        table = session.check_changes(rundir.read_run(path).config, table)
        table, folder, resuming = comm.bcast((table, folder, resuming))
        assert table is not None
        return _go(table, comm, folder, held, path, controls, resuming)
    finally:
        if held is not None:
            held.close()


def resume(
    path: str | Path,
    *,
    comm: Intracomm | None = None,
    overrides: Sequence[str] = (),
    controls: Controls | None = None,
) -> Result:
    """Continue a run on any number of ranks, bit for bit as if it had never stopped; collective.

    A finished run is returned as it is. `overrides` may change rounds, output.*, stop.*, threads and device.

    Raises:
        CheckpointError: there is no usable checkpoint.
        MpilocalError: see `run`.
    """
    comm = _comm(comm)
    overrides = _listed(overrides)
    controls = controls or Controls(time.monotonic(), overrides=tuple(overrides))
    held: RunDir | None = None
    table: Config | None = None
    folder = Path.cwd()
    try:
        with agreed(comm):
            if comm.rank == 0:
                held = RunDir.open(path)
                before = rundir.read_run(path)
                folder = Path(before.resolved.get("folder", folder))
                table = configs.load(before.config, overrides)
                table = session.check_changes(before.config, table)
        table, folder = comm.bcast((table, folder))
        assert table is not None
        return _go(table, comm, folder, held, Path(path).absolute(), controls, True)
    finally:
        if held is not None:
            held.close()


def load(path: str | Path) -> Result:
    """Return a run from its directory, also while it lives; without MPI."""
    path = Path(path)
    recorded = rundir.read_run(path)
    history = read_history(path / "history.h5") if (path / "history.h5").exists() else {}
    average, round = newest_average(path / "checkpoints")
    last = recorded.history[-1] if recorded.history else {}
    rounds = history.get("round", np.zeros(0, np.int64))
    return Result(
        recorded.config,
        rundir.status(path),
        max(round, int(rounds[-1]) if len(rounds) else 0),
        str(last.get("message", "")),
        history,
        average,
        recorded.resolved,
        path,
    )


def newest_average(folder: Path) -> tuple[NDArray[np.float64], int]:
    """Return x̄ (dim,) of the newest checkpoint that can be read, and its round; empty and 0 where there is none."""
    for round, path in reversed(checkpoint.listed(folder)):
        try:
            with h5py.File(path, "r", locking=False) as file:
                return np.asarray(file["average"][:], np.float64), round
        except (OSError, KeyError):
            continue
    return np.empty(0), 0


def _go(
    table: Config,
    comm: Intracomm,
    folder: Path,
    held: RunDir | None,
    path: Path | None,
    controls: Controls,
    resuming: bool,
) -> Result:
    recorded: dict[str, Any] = {}
    with agreed(comm):
        if resuming and held is not None:
            recorded = rundir.read_run(held.path).resolved
    recorded = comm.bcast(recorded)
    recorded.setdefault("folder", str(folder))
    ended = session.begin(table, comm, folder, held, controls, resuming, recorded)
    columns, facts = comm.bcast((ended.columns, ended.facts))
    outcome = ended.outcome
    return Result(ended.config, outcome.status, outcome.rounds, outcome.reason, columns, ended.average, facts, path)


def _listed(overrides: Sequence[str]) -> Sequence[str]:
    return [overrides] if isinstance(overrides, str) else overrides


def _comm(comm: Intracomm | None) -> Intracomm:
    if comm is not None:
        return comm
    from mpi4py import MPI

    return MPI.COMM_SELF
