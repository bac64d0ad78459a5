"""What keeps a run from hanging or dying with nothing kept: the time limit and the watchdog."""

from __future__ import annotations

import contextlib
import faulthandler
import linecache
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mpilocal.errors import LaunchError
from mpilocal.loop import Flag
from mpilocal.signals import Signals
from mpilocal.stall import Stall
from mpilocal.timing import Clock

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

TURN = 1.0  # seconds between two looks, at most
GRACE = 2.0  # seconds in which all stalled ranks may say where they are, before the first one ends the job
REMEDY = " (run.stall_seconds sets the limit, 0 none)"
SECTIONS = {"local": "local steps", "average": "averaging", "evaluate": "evaluation"}
WAITS = re.compile(  # a line of code in which a rank waits for others: comm.Allreduce(…), request.Wait(), agree(…)
    r"\b(\w*comm|host|keepers|world|window)\.[A-Za-z]\w*\(|\.Wait\w*\(|\b_?(reduce|agreed?|verdict)\("
)


class Guard:
    """Watches one rank's loop; a context manager.

    A signal only sets a flag, which `poll` returns and ranks agree on where they meet. The watchdog is a thread of
    its own: kernels and MPI calls release the GIL, so it runs beside them; behind it stand a C timer of `faulthandler`
    and a thread without Python, for where the GIL is held.
    """

    def __init__(
        self,
        comm: Intracomm,
        clock: Clock,
        *,
        stall_seconds: float,
        max_time: float | None,
        stop_seconds: float | None,
        earlier: float,
        began: float,
        signals: Signals,
        kill: Callable[[int], None] | None,
    ) -> None:
        """Plan.

        Args:
            comm: Of the run.
            clock: Tells what the rank is doing.
            stall_seconds: A round that takes longer ends the job; 0: never.
            max_time: Wall seconds since `began` (`time.monotonic`) after which the run stops.
            stop_seconds: Seconds of the loop after which it is done, `earlier` ones of before a resume included.
            earlier: See there.
            began: See `max_time`.
            signals: Says whether one came.
            kill: Ends the job with a status; None: this process only.
        """
        self.rank, self.host = comm.rank, socket.gethostname()
        self.clock, self.stall = clock, stall_seconds
        self.deadline = began + max_time if max_time is not None else float("inf")
        # One clock decides when the loop's seconds are over, or ranks would differ for nothing.
        self.budget = stop_seconds - earlier if stop_seconds is not None and comm.rank == 0 else float("inf")
        self.signals = signals
        self.kill = kill
        self.round = 0
        self.entered = time.monotonic()
        self._end = threading.Event()
        self._main = threading.get_ident()
        self._head = f"mpilocal: rank {self.rank} on {self.host} has not finished round "
        self._body = f" for {stall_seconds:g} s: "
        held = f"{self._body}it is in a call that keeps Python's lock{REMEDY}\n"
        self._last = Stall(self._head, held, stall_seconds + TURN, GRACE, LaunchError.status)

    def enter(self, round: int) -> None:
        """Note that a round begins."""
        self.round = round
        self.entered = time.monotonic()
        self._last.enter(round)

    def poll(self) -> int:
        """Return this rank's flag."""
        if self.signals.interrupted:
            raise KeyboardInterrupt
        if self.signals.came:
            return Flag.SIGNAL
        if time.monotonic() > self.deadline:
            return Flag.TIME
        seconds = self.clock.seconds
        if seconds["local"] + seconds["average"] > self.budget:
            return Flag.SECONDS
        return Flag.NONE

    def __enter__(self) -> Guard:
        """Start the watchdog."""
        if self.stall > 0:
            self._arm()
            self._last.start()
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        """End the watchdog."""
        self._end.set()
        if self.stall > 0:
            self._last.stop()
            with contextlib.suppress(RuntimeError, ValueError):
                faulthandler.cancel_dump_traceback_later()

    def _arm(self) -> None:
        """Let a C timer print the stacks if this is not called again in time, as where the GIL is held."""
        with contextlib.suppress(RuntimeError, ValueError, OSError):
            faulthandler.dump_traceback_later(self.stall + TURN + GRACE / 4, file=2)

    def _watch(self) -> None:
        while not self._end.wait(min(self.stall / 4, TURN)):
            if time.monotonic() - self.entered > self.stall:
                self._report()
                return
            self._arm()

    def _report(self) -> None:
        if self._last.may_speak():
            sys.stderr.write(f"{self._head}{self.round}{self._body}it is {self._doing()}{REMEDY}\n")
        with contextlib.suppress(Exception):
            faulthandler.cancel_dump_traceback_later()
            faulthandler.dump_traceback(file=2, all_threads=True)
        sys.stderr.flush()
        time.sleep(GRACE)
        status = LaunchError.status
        if self.kill is not None:
            threading.Thread(target=self.kill, args=(status,), daemon=True).start()
            time.sleep(GRACE)
        os._exit(status)

    def _doing(self) -> str:
        """Return whether the main thread computes or waits for other ranks, and where."""
        frame = sys._current_frames().get(self._main)
        if frame is None:
            return f"in {SECTIONS.get(self.clock.section, self.clock.section)}"
        file, line = frame.f_code.co_filename, frame.f_lineno
        waits = WAITS.search(linecache.getline(file, line))
        where = f"in {SECTIONS.get(self.clock.section, self.clock.section)} ({Path(file).name}, line {line})"
        return f"waiting for other ranks {where}" if waits else f"computing {where}"
