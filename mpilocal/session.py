"""One run from its start to its end on all ranks: prepare, resume or begin, loop, finish."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mpilocal import checkpoint, optimum, provenance, resumable, warm
from mpilocal.config import Config
from mpilocal.config.structs import to_builtins
from mpilocal.errors import CheckpointError, ConfigError, DataError, DivergedError, MpilocalError, agreed
from mpilocal.guard import Guard
from mpilocal.iterates import Iterates, records
from mpilocal.loop import Outcome
from mpilocal.loop import run as loop
from mpilocal.observe import Checkpointer, Recorder, restore
from mpilocal.prepare import Prepared, prepare
from mpilocal.record import History
from mpilocal.rundir import RunDir
from mpilocal.timing import Clock

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Array = NDArray[np.floating]


class Controls(NamedTuple):
    """How a run is watched and ended; none of it changes the result."""

    began: float  # time.monotonic() of the start
    max_time: float | None = None  # wall seconds
    signals: bool = False  # handle SIGTERM and SIGUSR1
    abort: bool = False  # raise a local error at once, for a caller that ends the job
    kill: Callable[[int], None] | None = None  # ends the job with a status
    told: Callable[[dict[str, float | int], int], None] = lambda row, rounds: None  # at each recorded round
    warn: Callable[[str], None] = lambda text: None  # a sentence on root
    overrides: Sequence[str] = ()


class Finished(NamedTuple):
    """What a run leaves in memory."""

    outcome: Outcome
    columns: dict[str, NDArray[Any]]  # of the history, on root
    average: Array  # x̄ of the last recorded round
    config: Config
    row: dict[str, float | int]
    timings: dict[str, float | int]
    facts: dict[str, Any]


def begin(
    config: Config,
    comm: Intracomm,
    folder: Path,
    run: RunDir | None,
    controls: Controls,
    resuming: bool = False,
    recorded: dict[str, Any] | None = None,
) -> Finished:
    """Run `config` on the ranks of `comm`; collective.

    Args:
        config: What to run, overrides applied.
        comm: Any intracommunicator.
        folder: Where relative files of the config are looked for.
        run: The held run directory on root; None: nothing is written.
        controls: See there.
        resuming: Continue from the newest usable checkpoint.
        recorded: On root, `[resolved]` of the run that is resumed.
    """
    made = prepare(config, comm, folder)
    try:
        return _carry_out(made, comm, run, controls, resuming, recorded or {})
    finally:
        made.close()


def _carry_out(
    made: Prepared, comm: Intracomm, run: RunDir | None, controls: Controls, resuming: bool, recorded: dict[str, Any]
) -> Finished:
    config, problem, tree, algorithm = made.config, made.problem, made.tree, made.algorithm
    with agreed(comm):
        if resuming and comm.rank == 0 and recorded.get("digest") not in (None, made.facts["digest"]):
            raise DataError(
                f"{config.data.source} is not the data that the run began with (digest {made.facts['digest']}, "
                f"then {recorded['digest']}): restore the file, or start another run"
            )
    warm.compile_once(made, comm)
    found = optimum.find(made, comm, controls.warn)
    state = algorithm.init(start_point(config, problem.dim))
    first = 0
    earlier: dict[str, float] = {}
    clock = Clock()
    history = History(run.history if run is not None else "") if comm.rank == 0 else None
    keeper_counters: dict[str, int | float | str] = {}
    if resuming:
        first, keeper_counters = _restore(made, comm, run, state, controls)
        history, earlier = _reread(run, config, first, comm)
    iterates = _iterates(config, run, comm, problem.dim, first, resuming)
    recorder = Recorder(config, algorithm, problem, tree, clock, found.value, history, iterates, earlier, controls.told)
    keeper = Checkpointer(config, algorithm, tree, clock, run, recorder)
    if resuming:
        keeper.restore(keeper_counters)
    facts = {**made.facts, **found.facts(), "folder": recorded.get("folder", str(Path.cwd()))}
    hosts = len(set(comm.allgather(socket.gethostname())))
    with agreed(comm):
        if run is not None:
            from mpi4py import MPI

            entry = provenance.entry(
                comm.size, tree.threads.count, hosts, MPI.Get_library_version(), controls.overrides
            )
            run.write_config(config, facts, entry)
    writes = bool(comm.bcast(run is not None))  # root holds the run directory
    status, message, reached = "failed", "", first
    guard = Guard(
        comm,
        clock,
        stall_seconds=config.run.stall_seconds,
        max_time=controls.max_time,
        stop_seconds=config.stop.seconds,
        earlier=earlier.get("loop_max", 0.0),
        began=controls.began,
        signals=controls.signals,
        kill=controls.kill,
    )
    try:
        with guard:
            clock.begin = time.perf_counter()
            if not resuming:
                recorder.start(state, 0)
                if writes:
                    keeper.write(state, 0)
            observers = [recorder, keeper] if writes else [recorder]
            rounds = range(first, config.algorithm.rounds)
            outcome = loop(algorithm, state, tree, rounds, clock, observers, guard.poll, guard.enter, controls.abort)
            if outcome.reason and outcome.status == "done" and writes and keeper.written != outcome.rounds:
                keeper.write(state, outcome.rounds)
        status, message, reached = outcome.status, outcome.reason, outcome.rounds
    except DivergedError as error:
        status, message, reached = "diverged", str(error), guard.round
        raise
    except Exception as error:
        message, reached = str(error), guard.round
        raise
    finally:
        if run is not None:
            recorder.flush()
            run.finish(status, reached, message)  # type: ignore[arg-type]
        if iterates is not None:
            iterates.close()
    columns: dict[str, NDArray[Any]] = dict(history.columns()) if history is not None else {}
    if not recorder.row and history is not None and len(history):
        recorder.row = {name: column[-1].item() for name, column in columns.items() if not name.startswith("timings/")}
    facts = {**facts, "workers": tree.workers, "ranks": comm.size, "threads": tree.threads.count}
    return Finished(outcome, columns, recorder.average, config, recorder.row, recorder.timings, facts)


def start_point(config: Config, dim: int) -> NDArray[np.float64]:
    """Return x0 (dim,)."""
    if config.algorithm.start == "zero":
        return np.zeros(dim)
    return np.random.Generator(np.random.Philox(config.run.seed)).standard_normal(dim)


def _restore(
    made: Prepared, comm: Intracomm, run: RunDir | None, state: Any, controls: Controls
) -> tuple[int, dict[str, int | float | str]]:
    """Fill the state from the newest usable checkpoint; return its round and counters; collective."""
    path = Path()
    with agreed(comm):
        if run is not None:
            path, warnings = checkpoint.newest(run.checkpoints)
            for text in warnings:
                controls.warn(text)
    tree = made.tree
    rounds, _, arrays, counters = checkpoint.read(
        tree.comm, path, tree.workers, tree.first, tree.count, made.problem.dim, np.float64
    )
    with agreed(comm):
        restore(state, arrays, path)
        if rounds > made.config.algorithm.rounds:
            raise ConfigError(
                f"algorithm.rounds = {made.config.algorithm.rounds} is less than the {rounds} rounds of the newest "
                f"checkpoint: set it to at least {rounds}"
            )
    return rounds, counters


def _reread(
    run: RunDir | None, config: Config, rounds: int, comm: Intracomm
) -> tuple[History | None, dict[str, float]]:
    """Return the history cut back to the checkpoint, and the timings at its end; collective."""
    history: History | None = None
    earlier: dict[str, float] = {}
    with agreed(comm):
        if run is not None:
            history = History.read(run.history)
            history.cut(rounds, config.output.record_every)
            for name, column in history.columns().items():
                if name.startswith("timings/") and len(column):
                    earlier[name.removeprefix("timings/")] = column[-1].item()
    return history, comm.bcast(earlier)


def _iterates(
    config: Config, run: RunDir | None, comm: Intracomm, dim: int, first: int, resuming: bool
) -> Iterates | None:
    """Return the open iterates.h5 on root where it is asked for; collective."""
    made: Iterates | None = None
    with agreed(comm):
        if run is not None and config.output.iterates:
            room = records(config.algorithm.rounds, config.output.record_every)
            if resuming and run.iterates.exists():
                made = Iterates(run.iterates)
                made.cut(first, config.output.record_every)
                made.resize(max(room, len(made)))
            else:
                made = Iterates.create(run.iterates, room, dim)
    return made


def check_changes(before: Config, after: Config) -> None:
    """Refuse a resume that would change the mathematics; see `resumable`."""
    resumable.check(to_builtins(before), to_builtins(after))


def absolute(config: Config, folder: Path) -> Config:
    """Return the config with the data's absolute paths, as config.toml keeps them."""

    def whole(source: str | None) -> str | None:
        if source is None or source.startswith(("synthetic:", "sklearn:")):
            return source
        for base in (folder, Path.cwd()):
            if (base / source).exists():
                return str((base / source).resolve())
        return source

    data = msgspec.structs.replace(config.data, source=whole(config.data.source), test=whole(config.data.test))
    return msgspec.structs.replace(config, data=data)


__all__ = ["CheckpointError", "Controls", "Finished", "MpilocalError", "absolute", "begin", "check_changes"]
