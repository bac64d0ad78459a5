"""What the command line prints. A reader that goes away (`mpilocal show RUN | head`) ends nothing."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, TextIO

from mpilocal.cli import launcher
from mpilocal.errors import DataError, MpilocalError

INTERRUPTED = 130
LINGER = 1.0  # seconds in which the first process may speak before the others leave: a launcher then ends it


def prepare() -> None:
    """Let letters that the terminal's encoding lacks be printed as "?"."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def say(text: str) -> None:
    """Print lines to stdout."""
    write(sys.stdout, text + "\n")


def tell(text: str) -> None:
    """Print lines to stderr."""
    write(sys.stderr, text + "\n")


def warn(text: str) -> None:
    """Print a warning, one sentence, to stderr."""
    tell(f"mpilocal: warning: {text}")


def write(stream: TextIO | None, text: str) -> None:
    """Write at once; where nobody reads any more, do nothing, now and later."""
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # a full disk, a closed stream: no reason to lose a run
        return


def say_json(facts: Any) -> None:
    """Print facts as JSON, in which there is no NaN: null."""
    say(json.dumps(_plain(facts), indent=2, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # of NumPy
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def alone(action: Callable[[], int], debug: bool) -> int:
    """Return the status of an action that needs no MPI; an error is one sentence on stderr.

    Under a launcher all processes do the same, and one speaks of it.
    """
    try:
        return action()
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        known, status = (True, error.status) if isinstance(error, MpilocalError) else (False, status_of(error))
        if launcher.rank() > 0:
            time.sleep(LINGER)
        else:
            if debug:
                trace(error)
            tell(f"mpilocal: {sentence(error) if known else unexpected(error, debug)}")
        return status


def trace(error: BaseException) -> None:
    """Print a traceback to stderr."""
    write(sys.stderr, "".join(traceback.format_exception(error)))


def sentence(error: BaseException) -> str:
    """Return what an error says, on one line."""
    return " ".join(str(error).split())


def status_of(error: BaseException) -> int:
    """Return the exit status for an error that nobody foresaw."""
    return DataError.status if isinstance(error, MemoryError) else 1


def unexpected(error: BaseException, debug: bool) -> str:
    """Return the sentence for an error that nobody foresaw."""
    said = sentence(error)
    if isinstance(error, MemoryError):
        return f"not enough memory{f' ({said})' if said else ''}: take more ranks or hosts, fewer features, or float32"
    hint = "" if debug else " (--debug shows the traceback)"
    return f"{type(error).__name__}{': ' if said else ''}{said}{hint}"
