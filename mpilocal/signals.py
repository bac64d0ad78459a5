"""Signals that ask a run to stop: a handler only sets a flag, which the ranks agree on where they meet."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Signals:
    """Notes SIGTERM and SIGUSR1, to be kept at the end Ctrl-C too; a context manager.

    Some MPI libraries handle SIGUSR1 themselves, and would swallow one: these handlers come right after MPI's start.
    """

    def __init__(self, wanted: bool, keep: bool = False) -> None:
        """Plan.

        Args:
            wanted: Handle them, if this is the main thread.
            keep: At the end ignore the first two from then on, rather than as before.
        """
        self.wanted = wanted and threading.current_thread() is threading.main_thread()
        self.keep = keep
        self.came = False
        self.interrupted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        """Install the handlers."""
        if self.wanted:
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._handle)
            if self.keep:
                self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *error: object) -> None:
        """Put the former handlers back, or ignore the signals: Python's own end would make them deadly again."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if self.keep and number in SIGNALS else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.came = True

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True  # a callback from C, as when a kernel is loaded, would swallow the exception
        raise KeyboardInterrupt
