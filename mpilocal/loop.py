"""The run loop: local phase, averaging, observers, until the last round or a reason to stop.

It knows no method, and methods know no clock, file or rank. Ranks agree on a stop or an error where they meet
anyway: what a rank has to say rides as a flag in the buffer of an averaging.
"""

from __future__ import annotations

import math
import socket
import sys
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, Literal, NamedTuple

import numpy as np

from mpilocal.algorithms.base import Algorithm, Phase
from mpilocal.errors import DivergedError, MpilocalError, agree
from mpilocal.kernels.cpu import vector
from mpilocal.timing import Clock
from mpilocal.tree import Tree

NEVER = sys.maxsize  # a round that never comes


class Flag(IntEnum):
    """What a rank may bring to a meeting; the largest wins."""

    NONE = 0
    SECONDS = 1  # [stop] seconds
    TIME = 2  # --max-time
    SIGNAL = 3
    ERROR = 4


class Outcome(NamedTuple):
    """How a loop ended."""

    rounds: int  # completed
    status: Literal["done", "stopped"]
    reason: str  # a clause, or ""


class Observer:
    """Sees completed rounds; it may not change the state. All calls are collective."""

    def next(self, rounds: int) -> int:
        """Return the first round after `rounds` that it keeps; the same on all ranks."""
        return NEVER

    def before(self, state: Any, rounds: int) -> None:
        """See the state before the last averaging of a round that it keeps, or of the last."""

    def after(self, state: Any, rounds: int, last: bool) -> str:
        """See the state after `rounds` rounds, where some observer keeps the round or the run ends here.

        Returns:
            A reason to end the run here, or an empty string.
        """
        return ""


def run(
    algorithm: Algorithm,
    state: Any,
    tree: Tree,
    rounds: range,
    clock: Clock,
    observers: Sequence[Observer] = (),
    poll: Callable[[], int] = lambda: Flag.NONE,
    enter: Callable[[int], None] = lambda round: None,
    abort: bool = False,
) -> Outcome:
    """Run the rounds of `rounds`; a resumed run starts in the middle.

    Args:
        algorithm: The method.
        state: Its state after rounds.start rounds, changed in place.
        tree: Who averages with whom.
        rounds: Of rounds counted from 0.
        clock: Where the seconds of each section go.
        observers: Called at the end of the rounds that they keep.
        poll: Returns this rank's flag, before each averaging.
        enter: Told the round, counted from 1, at its beginning.
        abort: An error in a local phase is raised at once, for a caller that then ends the whole job; otherwise it
            is agreed on where the ranks next meet and raised on all.

    Raises:
        DivergedError: the average is no longer finite.
        MpilocalError: what a method raised on some rank.
    """
    mine: Exception | None = None
    since = 0  # the round in which it came
    calls: dict[tuple[int, bool], list[int]] = {}
    due = [observer.next(rounds.start) for observer in observers]
    upcoming = min(due, default=NEVER)
    local, averaging, evaluating = clock("local"), clock("average"), clock("evaluate")
    for round in rounds:
        done = round + 1
        enter(done)
        tree.met = False
        last = done == rounds.stop
        kept = last or done == upcoming
        for number, phase in enumerate(algorithm.phases, 1):
            if mine is None:
                try:
                    with local:
                        phase.local(state, round)
                except Exception as error:
                    if abort:
                        if isinstance(error, MpilocalError):
                            error.alone = True
                        raise
                    mine, since = error, done
            tree.flag = max(tree.flag, Flag.ERROR if mine is not None else poll())
            if kept and number == len(algorithm.phases):
                for observer, wanted in zip(observers, due, strict=True):
                    if last or done == wanted:
                        with evaluating:
                            observer.before(state, done)
            with averaging:
                try:
                    average(phase, state, tree, round, calls, number, mine is not None)
                except Exception as error:
                    if abort and isinstance(error, MpilocalError):
                        error.alone = True
                    if abort or mine is not None:
                        raise
                    mine, since = error, done
                    average(phase, state, tree, round, calls, number, True)
        flag = meet(tree, mine, kept, abort)
        if flag == Flag.ERROR:
            raise_agreed(tree, mine, since)
        if tree.meets(round):
            if not tree.finite:
                raise diverged(algorithm, done)
            if mine is None and not math.isfinite(vector.dot(state.x[0], state.x[0])):
                mine, since = diverged(algorithm, done), done  # of this rank's rows; the others learn of it
        stopped = flag != Flag.NONE
        if not kept and not stopped:
            continue
        for observer in observers:
            reason = observer.after(state, done, last or stopped)
            if reason and not stopped:
                return Outcome(done, "done", reason)
        due = [observer.next(done) for observer in observers]
        upcoming = min(due, default=NEVER)
        if stopped:
            status: Literal["done", "stopped"] = "done" if flag == Flag.SECONDS else "stopped"
            return Outcome(done, status, {1: "stop.seconds", 2: "the time limit", 3: "a signal"}.get(flag, ""))
    if tree.comm is not None or mine is not None:  # the ranks may never have met
        raise_agreed(tree, mine, since)
    return Outcome(rounds.stop, "done", "")


def average(
    phase: Phase,
    state: Any,
    tree: Tree,
    round: int,
    calls: dict[tuple[int, bool], list[int]],
    number: int,
    broken: bool,
) -> None:
    """Average a phase; a rank that is `broken` only takes part in what the others do.

    `calls` keeps, of each phase, the lengths of the vectors that it averaged in its last whole round, apart for rounds
    in which all workers average: the others wait for as many, of which `tree.log` says how many this rank gave before
    it failed.
    """
    if not broken:
        tree.log = []
        phase.average(state, tree, round)
        calls[number, tree.meets(round)], tree.log = tree.log, []
        return
    given, tree.log = len(tree.log), []
    for length in calls.get((number, tree.meets(round)), [state.x.shape[1]])[given:]:
        streamed = tree.stream is not None and state.x is tree.stream.x
        tree.mean(state.x if streamed else np.zeros((tree.count, length), state.x.dtype), round)
    tree.log = []


def meet(tree: Tree, mine: Exception | None, kept: bool, abort: bool) -> int:
    """Return the largest flag of all ranks; collective where a round is `kept`, recorded or checkpointed.

    Without `abort` an error may have come after the averaging, whose buffer then did not carry it: nothing is kept, and
    no stop is obeyed, before all have said that they are well.
    """
    flag = tree.take_flags()
    if kept or flag != Flag.NONE:
        if not abort:
            tree.met = False
        if mine is not None:
            tree.flag = Flag.ERROR
        tree.meet()
        flag = max(flag, tree.take_flags())
    return flag


def diverged(algorithm: Algorithm, rounds: int) -> DivergedError:
    """Return the error of an iterate that is no longer finite."""
    return DivergedError(
        f"the iterate is not finite at round {rounds} (step {algorithm.steps(rounds)}): "
        "take a smaller algorithm.step_size; the last checkpoint before it is kept"
    )


def raise_agreed(tree: Tree, mine: Exception | None, round: int) -> None:
    """Raise on all ranks what some of them met, if anything; collective."""
    if mine is not None and not isinstance(mine, MpilocalError):
        where = f"rank {tree.rank} on {socket.gethostname()}, round {round}"
        named = MpilocalError(f"{where}: {type(mine).__name__}: {mine}")
        named.__cause__ = mine
        mine = named
    if tree.comm is not None:
        agree(tree.comm, mine)
    elif mine is not None:
        raise mine
