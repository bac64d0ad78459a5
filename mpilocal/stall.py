"""The watchdog's last resort: a thread without Python, which speaks and ends the process where the GIL is never let go.

A call into C that keeps the interpreter's lock (a user's library, a file system that hangs under HDF5) stops every
Python thread with it. This thread runs compiled code only: it needs no lock.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any

import numba
import numpy as np

from mpilocal.kernels.compile import cache_folder

NAP = 20_000  # µs
ROUND, LIMIT, GRACE, OVER, SPEAKING, STATUS, HEAD, BODY, ADDRESS = range(9)  # the words before the message
MESSAGE, DIGITS, SIZE = 128, 20, 2048  # bytes: where the message begins, room for the round in it, of all

compiling: Any = numba
types, carray = compiling.types, compiling.carray
_write = types.ExternalFunction("write", types.intp(types.intc, types.uintp, types.uintp))
_usleep = types.ExternalFunction("usleep", types.intc(types.uintc))
_exit = types.ExternalFunction("_exit", types.void(types.intc))


def _watch(memory: Any) -> int:
    """Nap and count until the round stands still for LIMIT naps; then speak, wait GRACE naps, and leave."""
    raw = carray(memory, SIZE)
    words = raw[:MESSAGE].view(np.int64)
    last, naps, spoken = words[ROUND], 0, 0
    while words[OVER] == 0:
        _usleep(NAP)
        if words[ROUND] != last:
            if spoken:  # it was let go in the end
                words[SPEAKING] = 0
            last, naps, spoken = words[ROUND], 0, 0
        naps += 1
        if naps == words[LIMIT] and words[SPEAKING] == 0:
            rest, at = words[ROUND], MESSAGE + words[HEAD] + DIGITS
            while True:  # the digits of the round, from the right
                at -= 1
                raw[at] = 48 + rest % 10
                rest //= 10
                if rest == 0:
                    break
            begin = MESSAGE + words[HEAD]
            _write(2, words[ADDRESS] + MESSAGE, words[HEAD])
            _write(2, words[ADDRESS] + at, begin + DIGITS - at)
            _write(2, words[ADDRESS] + begin + DIGITS, words[BODY])
            spoken = words[SPEAKING] = 1
        if naps >= words[LIMIT] + words[GRACE] * (1 + 3 * (1 - spoken)):
            _exit(words[STATUS])
    return 0


def _compiled() -> Any:
    settings: Any = numba.config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(cache_folder())
    try:
        compiler: Any = numba.cfunc(types.uintp(types.CPointer(types.uint8)), cache=True)
        return compiler(_watch)
    finally:
        settings.CACHE_DIR = before


class Stall:
    """The thread, from `start` to `stop`."""

    def __init__(self, head: str, body: str, seconds: float, grace: float, status: int) -> None:
        """Plan: after `seconds` in one round write head, round and body to stderr; `grace` later exit with `status`.

        If Python's own watchdog is `speaking`, leave the word to it, and exit only if it has not in 4 · `grace`.
        """
        self._memory = np.zeros(SIZE, np.uint8)
        self._words = self._memory[:MESSAGE].view(np.int64)
        first, rest = head.encode()[:900], body.encode()[:900]
        self._words[LIMIT : STATUS + 1] = (int(seconds * 1e6 / NAP) + 1, int(grace * 1e6 / NAP) + 1, 0, 0, status)
        self._words[HEAD : ADDRESS + 1] = (len(first), len(rest), self._memory.ctypes.data)
        begin = MESSAGE + len(first) + DIGITS
        self._memory[MESSAGE : MESSAGE + len(first)] = np.frombuffer(first, np.uint8)
        self._memory[begin : begin + len(rest)] = np.frombuffer(rest, np.uint8)
        self._thread = ctypes.c_ulong()
        self._library: ctypes.CDLL | None = None

    def start(self) -> None:
        """Start the thread; where the system has no POSIX threads, do without."""
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            code = ctypes.c_void_p(_compiled().address)
            if not library.pthread_create(
                ctypes.byref(self._thread), None, code, ctypes.c_void_p(self._memory.ctypes.data)
            ):
                self._library = library

    def enter(self, round: int) -> None:
        """Note that a round begins."""
        self._words[ROUND] = round

    def may_speak(self) -> bool:
        """Return whether this thread has not spoken, and note that Python's watchdog does so now."""
        if self._words[SPEAKING]:
            return False
        self._words[SPEAKING] = 1
        return True

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._words[OVER] = 1
        if self._library is not None:
            self._library.pthread_join(self._thread, None)
            self._library = None
