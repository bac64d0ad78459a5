"""Signals that ask a run to stop: a handler only sets a flag, which the ranks agree on where they meet."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Signals:
    """Notes SIGTERM, SIGUSR1 and Ctrl-C; a context manager.

    Some MPI libraries handle SIGUSR1 themselves, and would swallow one: these handlers come right after MPI's start.
    """

    def __init__(self, wanted: bool) -> None:
        """Plan; `wanted`: handle them, if this is the main thread."""
        self.wanted = wanted and threading.current_thread() is threading.main_thread()
        self.came = False
        self.interrupted = False
        self._before: Any = None

    def __enter__(self) -> Signals:
        """Install the handlers."""
        if self.wanted:
            for number in SIGNALS:
                signal.signal(number, self._handle)
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *error: object) -> None:
        """Ignore the signals from now on: Python's own end would make them deadly again."""
        if self.wanted:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.came = True

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True  # a callback from C, as when a kernel is loaded, would swallow the exception
        raise KeyboardInterrupt
