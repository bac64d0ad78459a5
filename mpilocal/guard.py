"""What keeps a run from hanging or dying with nothing kept: signals, the time limit, the watchdog."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from mpilocal.errors import LaunchError
from mpilocal.loop import Flag
from mpilocal.timing import Clock

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
GRACE = 2.0  # seconds in which all stalled ranks may say where they are, before the first one ends the job


class Signals:
    """Notes SIGTERM and SIGUSR1; a context manager."""

    def __init__(self, wanted: bool, keep: bool = False) -> None:
        """Plan; `wanted`: handle them, if this is the main thread; `keep`: to the end of the process."""
        self.wanted = wanted and threading.current_thread() is threading.main_thread()
        self.keep = keep
        self.came = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        """Install the handlers."""
        if self.wanted:
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        """Put the former handlers back."""
        if not self.keep:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.came = True


class Guard:
    """Watches one rank's loop; a context manager.

    A signal only sets a flag, which `poll` returns and ranks agree on where they meet. The watchdog is a thread of
    its own: kernels and MPI calls release the GIL, so it runs beside them; behind it a C timer of `faulthandler`
    fires even where the GIL is held.
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

    def enter(self, round: int) -> None:
        """Note that a round begins."""
        self.round = round
        self.entered = time.monotonic()

    def poll(self) -> int:
        """Return this rank's flag."""
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
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        """End the watchdog."""
        self._end.set()
        if self.stall > 0:
            with contextlib.suppress(RuntimeError, ValueError):
                faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        turn = min(self.stall / 4, 1.0)
        while not self._end.wait(turn):
            # The C timer, in case this thread no longer gets to run.
            with contextlib.suppress(RuntimeError, ValueError, OSError):
                faulthandler.dump_traceback_later(self.stall + 4 * GRACE + 1, exit=True, file=2)
            if time.monotonic() - self.entered > self.stall:
                self._report()
                return

    def _report(self) -> None:
        doing = {"average": "waiting for the other ranks in an averaging", "local": "in local steps"}.get(
            self.clock.section, f"in {self.clock.section}"
        )
        sys.stderr.write(
            f"mpilocal: rank {self.rank} on {self.host} has not finished round {self.round} for "
            f"{self.stall:g} s: it is {doing} (run.stall_seconds sets the limit, 0 none)\n"
        )
        with contextlib.suppress(Exception):
            faulthandler.dump_traceback(file=2, all_threads=True)
        sys.stderr.flush()
        time.sleep(GRACE)
        status = LaunchError.status
        if self.kill is not None:
            threading.Thread(target=self.kill, args=(status,), daemon=True).start()
            time.sleep(GRACE)
        os._exit(status)
