"""The progress of a run on one line: a bar on a terminal, else a plain line every so often."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from typing import TextIO

EVERY = 10.0  # seconds between plain lines
REFRESH = 0.1  # seconds between two states of the bar
WIDTH = 20  # characters of the bar


class Progress:
    """Told the history's rows, it says: round, suboptimality or objective, rounds per second, time left."""

    def __init__(self, rounds: int, first: int, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        """Begin.

        Args:
            rounds: R; 0: not known.
            first: Rounds that were complete when this process began.
            stream: Where to print.
            now: A clock, in seconds.
        """
        self.rounds, self.first = rounds, first
        self.stream, self.now = stream, now
        self.terminal = _is_terminal(stream)
        self._began = now()
        self._printed = -math.inf
        self._pending = ""  # a state that has not been printed
        self._shown = False  # whether the bar is on the terminal

    def __call__(self, row: Mapping[str, float | int]) -> None:
        """Take in a row of the history."""
        text = self.text(row)
        now = self.now()
        if now - self._printed < (REFRESH if self.terminal else EVERY):
            self._pending = text
            return
        self._printed = now
        self._print(text)

    def close(self) -> None:
        """Print the last state, and leave the line."""
        if self._pending:
            self._print(self._pending)
        if self._shown:
            self._write("\n")
            self._shown = False

    def text(self, row: Mapping[str, float | int]) -> str:
        """Return a row as one line."""
        done, now = int(row["round"]), self.now()
        parts = [f"round {done}" + (f"/{self.rounds}" if self.rounds else "")]
        name = "suboptimality" if "suboptimality" in row else "objective"
        parts.append(f"{name} {row[name]:.4e}" if name == "suboptimality" else f"{name} {row[name]:.8g}")
        if "test_accuracy" in row:
            parts.append(f"test accuracy {row['test_accuracy']:.4f}")
        if done > self.first and now > self._began:
            rate = (done - self.first) / (now - self._began)
            parts.append(f"{rate:.3g} rounds/s")
            if done < self.rounds:
                parts.append(f"{clock((self.rounds - done) / rate)} left")
        return "   ".join(parts)

    def _print(self, text: str) -> None:
        self._pending = ""
        if not self.terminal:
            self._write(text + "\n")
            return
        done = int(text.split()[1].partition("/")[0])
        share = done / self.rounds if self.rounds else 0.0
        columns = shutil.get_terminal_size().columns
        self._write("\r" + f"{bar(share, self.stream)} {text}"[: columns - 1] + "\x1b[K")
        self._shown = True

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):  # nobody reads: the run goes on
            self._pending = ""


def bar(share: float, stream: TextIO) -> str:
    """Return a bar that is filled by `share`, with what the stream's encoding has."""
    filled = round(WIDTH * min(max(share, 0.0), 1.0))
    full, empty = ("█", "░") if (getattr(stream, "encoding", "") or "").lower().startswith("utf") else ("#", ".")
    return full * filled + empty * (WIDTH - filled) + f" {100 * share:3.0f} %"


def clock(seconds: float) -> str:
    """Return a duration as people say it: 0:07, 12:34, 3:00:00, 2 days 5:00."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} day{'s' if days > 1 else ''} {hours}:{minutes:02d}"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False
