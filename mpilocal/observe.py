"""What looks on while a run goes: the history's rows, the checkpoints, the reasons to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpilocal.algorithms.base import Algorithm
from mpilocal.config.kinds import parse_record_every
from mpilocal.config.structs import Config
from mpilocal.errors import CheckpointError, DivergedError, agree, agreed
from mpilocal.loop import Observer
from mpilocal.measures.direction import Direction
from mpilocal.measures.divergence import Divergence
from mpilocal.measures.means import Consensus
from mpilocal.measures.risk import Risk
from mpilocal.measures.row import row
from mpilocal.problem import Problem
from mpilocal.schedules import Records
from mpilocal.store import checkpoint
from mpilocal.store.iterates import Iterates
from mpilocal.store.record import History
from mpilocal.store.rundir import RunDir
from mpilocal.timing import Clock, spread, waiting
from mpilocal.tree import Tree

Array = NDArray[np.floating]
Row = dict[str, float | int]

WRITE_SECONDS = 2.0  # a live run's history on disk is at most about so old


class Recorder(Observer):
    """Evaluates at recorded rounds, keeps the history on root, and finds when a `[stop]` criterion holds."""

    def __init__(
        self,
        config: Config,
        algorithm: Algorithm,
        problem: Problem,
        tree: Tree,
        clock: Clock,
        optimum: float,
        history: History | None,
        earlier: dict[str, float],
        told: Callable[[Row, int], None],
    ) -> None:
        """Write to `history`, and to `iterates` where it is set, on root; `earlier`: timings before a resume."""
        self.config, self.algorithm, self.problem, self.tree = config, algorithm, problem, tree
        self.clock, self.optimum = clock, optimum
        self.history = history
        self.iterates: Iterates | None = None
        self.earlier, self.told = earlier, told
        self.failed: Exception | None = None  # what root alone met; all ranks learn of it where they meet next
        self.row: Row = {}
        self.timings: Row = {}
        self.average: Array = np.empty(0)
        self._records = Records(parse_record_every(config.output.record_every))
        self._measure = Consensus(tree)
        self._divergence = Divergence(problem, tree) if config.output.divergence else None
        self.direction: Direction | None = None
        self.risk: Risk | None = None
        self.constants: dict[str, float] = {}
        self._own_direction = math.nan
        self._levels = {f"level{number}/consensus": 0.0 for number in range(1, len(tree.levels.levels) + 1)}
        self._consensus, self._measured = 0.0, 0
        self._written = -math.inf
        self._wait = 0.0

    def next(self, rounds: int) -> int:
        """Return the next round that is recorded."""
        return self._records.next(rounds)

    def before(self, state: Any, rounds: int) -> None:
        """Measure the drift just before the averaging."""
        self._consensus, self._measured = self._measure(self.tree, state.x), rounds
        if self.direction is not None:
            streamed = self.tree.stream is not None and state.x is self.tree.stream.x
            self._own_direction = math.nan if streamed else self.direction.iterates(state.x)
        if self._divergence is not None:
            self._levels = self._divergence.iterates(state.x, rounds, self._consensus)

    def start(self, state: Any, rounds: int) -> None:
        """Record the start of a new run."""
        self.record(state, rounds)

    def after(self, state: Any, rounds: int, last: bool) -> str:
        """Record the round where it is due."""
        if not last and rounds not in self._records:
            return ""
        self.record(state, rounds)
        return self.reason()

    def record(self, state: Any, rounds: int) -> None:
        """Evaluate, and add a row; collective."""
        waits, self.tree.waits = self.tree.waits, []
        self._wait += waiting(self.tree.comm, waits)
        self.clock.seconds["wait"] = self._wait
        sent = [(wire.messages, wire.bytes) for wire in self.tree.wires]
        consensus = self._consensus if self._measured == rounds else math.nan
        with self.clock("evaluate"):
            self.row, self.average = row(
                self.algorithm,
                self.problem,
                self.tree,
                state,
                rounds,
                self.optimum,
                consensus,
                self.config.output.noise,
                self.risk,
            )
        self.require(float(self.row["objective"]), rounds)
        if self._divergence is not None:
            with self.clock("evaluate"):
                self.row |= self._divergence.gradients(self.average, rounds)
                self.row |= self._levels if self._measured == rounds else dict.fromkeys(self._levels, math.nan)
        if self.direction is not None:
            self.row |= self.direction.average(self.average)
            self.row["local_direction_error"] = self._own_direction if self._measured == rounds else math.nan
        self.row |= self.constants
        self.timings = self._timings(sent)
        try:
            if self.history is not None:
                self.history.append(self.row, self.timings)
            if self.iterates is not None:
                self.iterates.append(rounds, self.average)
            self.told(self.row, rounds)
            if self.history is not None and time.monotonic() - self._written > WRITE_SECONDS:
                self.flush()
        except Exception as error:
            if self.tree.comm is None:
                raise
            self.failed = error

    def check(self, average: Array, rounds: int) -> None:
        """Refuse to keep a state from which nothing can be computed, unless the round was recorded; collective."""
        if self.row.get("round") != rounds:
            with self.clock("evaluate"):
                self.require(self.problem.evaluate(average).objective, rounds)

    def require(self, objective: float, rounds: int) -> None:
        """Raise DivergedError where F is not finite; the same on all ranks."""
        if not math.isfinite(objective):
            raise DivergedError(
                f"the objective is {objective} at round {rounds} (step {self.algorithm.steps(rounds)}): "
                "take a smaller algorithm.step_size; the last checkpoint before it is kept"
            )

    def flush(self) -> None:
        """Bring history and iterates to the disk (root)."""
        if self.history is not None and self.history.path.name:
            with self.clock("output"):
                self.history.write()
                if self.iterates is not None:
                    self.iterates.sync()
            self._written = time.monotonic()

    def reason(self) -> str:
        """Return which criterion of `[stop]` holds now, or an empty string; the same on all ranks."""
        stop = self.config.stop
        gaps = [float(value) for name, value in self.row.items() if name.startswith("suboptimality")]
        if stop.suboptimality is not None and gaps and min(gaps) <= stop.suboptimality:
            return f"suboptimality {min(gaps):.3g} is at most stop.suboptimality = {stop.suboptimality:g}"
        norm = float(self.row["gradient_norm"])
        if stop.gradient_norm is not None and norm <= stop.gradient_norm:
            return f"gradient norm {norm:.3g} is at most stop.gradient_norm = {stop.gradient_norm:g}"
        return ""

    def _timings(self, sent: list[tuple[int, int]]) -> Row:
        comm = self.tree.comm
        found: Row = {"ranks": self.tree.size, "threads": self.tree.threads.count}
        for name, values in spread(comm, self.clock, self.tree.seconds).items():
            for kind, value in zip(("min", "mean", "max"), values, strict=True):
                found[f"{name}_{kind}"] = float(value) + self.earlier.get(f"{name}_{kind}", 0.0)
        totals = np.array([*np.ravel(sent), self.failed is not None], np.int64)
        if comm is not None:
            from mpi4py import MPI

            comm.Allreduce(MPI.IN_PLACE, totals, MPI.SUM)
            if totals[-1]:
                agree(comm, self.failed)
        for kind, counts in (("messages", totals[:-1:2]), ("wire_bytes", totals[1:-1:2])):
            for number, count in enumerate(counts, 1):
                found[f"level{number}_{kind}"] = int(count + self.earlier.get(f"level{number}_{kind}", 0))
            found[kind] = int(counts.sum() + self.earlier.get(kind, 0))
        return found


class Checkpointer(Observer):
    """Writes the state at round 0, every `checkpoint_every` rounds, and at the last or stopped one."""

    def __init__(
        self, config: Config, algorithm: Algorithm, tree: Tree, clock: Clock, run: RunDir | None, recorder: Recorder
    ) -> None:
        """Write into `run` on root; the history of a round comes before its checkpoint."""
        self.config, self.algorithm, self.tree, self.clock = config, algorithm, tree, clock
        self.run, self.recorder = run, recorder
        self.written = -1

    def after(self, state: Any, rounds: int, last: bool) -> str:
        """Write the checkpoint where it is due."""
        if last or rounds % self.config.output.checkpoint_every == 0:
            self.write(state, rounds)
        return ""

    def next(self, rounds: int) -> int:
        """Return the next round that ends with a checkpoint."""
        every = self.config.output.checkpoint_every
        return rounds // every * every + every

    def write(self, state: Any, rounds: int) -> None:
        """Write the checkpoint of `rounds`; collective."""
        average = self.tree.center(state.x)
        self.recorder.check(average, rounds)
        with agreed(self.tree.comm):
            if self.recorder.failed is not None:
                raise self.recorder.failed
            self.recorder.flush()
        with self.clock("output"):
            folder = self.run.checkpoints if self.run is not None else ""
            checkpoint.write(
                self.tree.comm,
                folder,
                rounds,
                average,
                fields(self.algorithm, self.tree, state),
                self.counters(rounds),
                self.tree.workers,
                self.tree.first,
                self.config.output.keep,
            )
        self.written = rounds

    def counters(self, rounds: int) -> dict[str, int | float | str]:
        """Return what is not an array: the ledger; collective."""
        found: dict[str, int | float | str] = {"step": self.algorithm.steps(rounds)}
        for number, counts in enumerate(self.tree.totals(), 1):
            for name, count in zip(("averagings", "vectors", "bytes"), counts, strict=True):
                found[f"level{number}_{name}"] = int(count)
        return found

    def restore(self, counters: dict[str, int | float | str]) -> None:
        """Take the ledger from a checkpoint's counters; one rank holds what all have counted."""
        for number, ledger in enumerate(self.tree.ledger, 1):
            for name in ("averagings", "vectors", "bytes"):
                setattr(ledger, name, int(counters[f"level{number}_{name}"]) if self.tree.rank == 0 else 0)


def fields(algorithm: Algorithm, tree: Tree, state: Any) -> list[checkpoint.Field]:
    """Return the arrays of a state as a checkpoint keeps them; equal iterates are kept once; collective."""
    found = []
    for name, array in zip(state._fields, state, strict=True):
        if not isinstance(array, np.ndarray) or array.size == 0:
            continue
        if name == "x" and tree.equal(array):
            found.append(checkpoint.Field("x", np.ascontiguousarray(array[0]), True))
        else:
            found.append(checkpoint.Field(name, np.ascontiguousarray(array), name in algorithm.common))
    return found


def restore(state: Any, arrays: dict[str, Array], path: object) -> None:
    """Write a checkpoint's arrays into a fresh state.

    Raises:
        CheckpointError: the method's state has other fields.
    """
    for name, array in zip(state._fields, state, strict=True):
        if not isinstance(array, np.ndarray) or array.size == 0:
            continue
        if name not in arrays or (arrays[name].shape != array.shape and arrays[name].shape != array.shape[1:]):
            raise CheckpointError(
                f"{path} does not hold {name} as this method keeps it: resume with the version that wrote it"
            )
        array[:] = arrays[name]
