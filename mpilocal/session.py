"""One run from its start to its end on all ranks: prepare, resume or begin, loop, finish."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mpilocal import optimum, warm
from mpilocal.config import Config, resumable
from mpilocal.config.kinds import parse_record_every
from mpilocal.config.levels import Random, Sizes, parse_group
from mpilocal.config.structs import to_builtins
from mpilocal.errors import CheckpointError, ConfigError, DataError, DivergedError, MpilocalError, agreed
from mpilocal.guard import Guard
from mpilocal.loop import Outcome
from mpilocal.loop import run as loop
from mpilocal.measures.constants import constants
from mpilocal.measures.contraction import contraction
from mpilocal.measures.direction import Direction
from mpilocal.measures.risk import Risk
from mpilocal.observe import Checkpointer, Recorder
from mpilocal.prepare import Prepared, prepare
from mpilocal.resuming import open_iterates, reread, restore_state
from mpilocal.schedules import Records
from mpilocal.signals import Signals
from mpilocal.store import provenance
from mpilocal.store.record import History
from mpilocal.store.rundir import RunDir
from mpilocal.timing import Clock
from mpilocal.tree.nodes import by_host

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Array = NDArray[np.floating]


SOLVE_SECONDS = 30.0  # past the time limit in which F* may yet be found: then there is a checkpoint to resume from


class Controls(NamedTuple):
    """How a run is watched and ended; none of it changes the result."""

    began: float  # time.monotonic() of the start
    max_time: float | None = None  # wall seconds
    signals: bool | Signals = False  # handle SIGTERM and SIGUSR1; or what handles them already
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
    with noting(controls.signals) as signals, ordered(comm, config, controls.abort) as comm:
        made = prepare(config, comm, folder)
        together = True
        try:
            return _carry_out(made, comm, run, controls, signals, resuming, recorded or {})
        except BaseException as error:
            together = isinstance(error, MpilocalError) and not controls.abort
            raise
        finally:
            made.close(together)


def _carry_out(
    made: Prepared,
    comm: Intracomm,
    run: RunDir | None,
    controls: Controls,
    signals: Signals,
    resuming: bool,
    recorded: dict[str, Any],
) -> Finished:
    config, problem, tree, algorithm = made.config, made.problem, made.tree, made.algorithm
    with agreed(comm):
        if resuming and comm.rank == 0 and recorded.get("digest") not in (None, made.facts["digest"]):
            raise DataError(
                f"{config.data.source} is not the data that the run began with (digest {made.facts['digest']}, "
                f"then {recorded['digest']}): restore the file, or start another run"
            )
    warm.compile_once(made, comm)
    # The time limit leaves a short solve for F* its time, however long the kernels took to compile.
    limit = math.inf
    if controls.max_time is not None:
        limit = max(controls.began + controls.max_time, time.monotonic()) + SOLVE_SECONDS
    kept, best = (optimum.of_run(recorded) if resuming else None), None
    if kept is None:
        kept, best = optimum.find(made, comm, controls.warn, lambda: signals.came or time.monotonic() > limit)
    with agreed(comm):
        x0 = start_point(config, problem.dim)
        state = algorithm.init(x0)
    first = 0
    average: Array = np.empty(0)
    row: dict[str, float | int] = {}
    earlier: dict[str, float] = {}
    clock = Clock()
    history = History(run.history if run is not None else "") if comm.rank == 0 else None
    keeper_counters: dict[str, int | float | str] = {}
    if resuming:
        first, average, keeper_counters = restore_state(made, comm, run, state, controls.warn)
        history, row, earlier = reread(run, first, comm)
    recorder = Recorder(config, algorithm, problem, tree, clock, kept.value, history, earlier, controls.told)
    recorder.direction = Direction(problem, tree, comm) if config.output.direction else None
    recorder.risk = Risk(problem, config) if config.output.risk else None
    for name in ("noise", "constants"):
        if getattr(config.output, name) and made.kinds > 1:
            raise ConfigError(
                f"output.{name} = true is for rows of one curvature, and these quadratics are of {made.kinds} kinds: "
                "leave it out"
            )
    if config.output.constants:
        recorder.constants = constants(problem, tree, best, kept.attained, x0, comm.bcast(row))
    if config.output.contraction:
        recorder.constants["contraction"] = contraction(problem, tree, config, comm)
    recorder.row, recorder.average = row, average
    keeper = Checkpointer(config, algorithm, tree, clock, run, recorder)
    ended = ""  # why there is nothing left to do before the last round
    if resuming:
        keeper.restore(keeper_counters)
        ended = recorder.reason() if row else ""
        if config.stop.seconds is not None and earlier.get("loop_max", 0.0) > config.stop.seconds:
            ended = "stop.seconds"
    rounds = range(first, first if ended else config.algorithm.rounds)
    recorder.iterates = iterates = open_iterates(config, run, comm, problem.dim, rounds, resuming)
    if history is not None and rounds:
        history.cut(first, Records(parse_record_every(config.output.record_every)))
    facts = {**made.facts, **kept.facts(), "folder": recorded.get("folder", str(Path.cwd()))}
    hosts = len(set(comm.allgather(socket.gethostname())))
    over = resuming and not rounds and run is not None and run.ended == "done"
    with agreed(comm):
        if run is not None and not over:
            from mpi4py import MPI

            entry = provenance.entry(
                comm.size, tree.threads.count, hosts, MPI.Get_library_version(), controls.overrides
            )
            run.write_config(config, facts, entry)
    writes = bool(comm.bcast(run is not None))  # root holds the run directory
    guard = Guard(
        comm,
        clock,
        stall_seconds=config.run.stall_seconds,
        max_time=controls.max_time,
        stop_seconds=config.stop.seconds,
        earlier=earlier.get("loop_max", 0.0),
        began=controls.began,
        signals=signals,
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
            outcome = loop(algorithm, state, tree, rounds, clock, observers, guard.poll, guard.enter, controls.abort)
            if outcome.reason and outcome.status == "done" and writes and keeper.written != outcome.rounds:
                keeper.write(state, outcome.rounds)
            if ended:
                outcome = outcome._replace(reason=ended)
        with agreed(comm):
            if recorder.failed is not None:
                raise recorder.failed
            if run is not None and not over:
                recorder.flush()
                run.finish(outcome.status, outcome.rounds, outcome.reason)
    except BaseException as error:
        if run is not None:
            with contextlib.suppress(MpilocalError):  # the first error is the one to be told
                recorder.flush()
            with contextlib.suppress(MpilocalError):
                run.finish(_status_of(error), guard.round, str(error))
        raise
    finally:
        if iterates is not None:
            iterates.close()
    columns: dict[str, NDArray[Any]] = dict(history.columns()) if history is not None else {}
    facts = {**facts, "workers": tree.workers, "ranks": comm.size, "threads": tree.threads.count}
    return Finished(outcome, columns, recorder.average, config, recorder.row, recorder.timings, facts)


def noting(signals: bool | Signals) -> contextlib.AbstractContextManager[Signals]:
    """Return what notes the signals of a run, to be entered."""
    return contextlib.nullcontext(signals) if isinstance(signals, Signals) else Signals(signals)


@contextlib.contextmanager
def ordered(comm: Intracomm, config: Config, abort: bool) -> Iterator[Intracomm]:
    """Yield the communicator with the ranks of a host side by side where groups may gain by it; collective."""
    if all(level.group == "world" or isinstance(parse_group(level.group, ""), Random) for level in config.levels):
        yield comm
        return
    beside = by_host(comm)
    try:
        yield beside
    except MpilocalError:
        if not abort:
            beside.Free()
        raise
    beside.Free()


def _status_of(error: BaseException) -> Literal["diverged", "interrupted", "failed"]:
    if isinstance(error, DivergedError):
        return "diverged"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"


def start_point(config: Config, dim: int) -> NDArray[np.float64]:
    """Return x0 (dim,)."""
    if config.algorithm.start == "zero":
        return np.zeros(dim)
    return np.random.Generator(np.random.Philox(config.run.seed)).standard_normal(dim)


def check_changes(before: Config, after: Config) -> Config:
    """Return `after` with workers and hosts as the start resolved them; refuse what would change the mathematics."""
    if after.workers.count == "ranks":
        workers = msgspec.structs.replace(after.workers, count=before.workers.count)
        after = msgspec.structs.replace(after, workers=workers)
    if len(after.levels) == len(before.levels):
        pairs = zip(after.levels, before.levels, strict=True)
        kept = [
            msgspec.structs.replace(one, group=old.group)
            if (one.group, type(parse_group(old.group, ""))) == ("node", Sizes)
            else one
            for one, old in pairs
        ]
        after = msgspec.structs.replace(after, levels=kept)
    resumable.check(to_builtins(before), to_builtins(after))
    return after


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
