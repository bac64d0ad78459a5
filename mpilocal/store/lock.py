"""The lock of a folder: one process at a time writes there, and its death releases it."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import time
import warnings
from pathlib import Path

from mpilocal import atomic
from mpilocal.errors import LaunchError
from mpilocal.store import provenance

_LOCK = "lock"
_TRIES = 5  # 50 ms apart: a reader that asks for the status holds it for an instant


def hold(path: Path) -> int:
    """Hold a folder, return the descriptor to be closed; on a file system without locks warn, and go by what it says.

    Raises:
        LaunchError: another process holds it.
        DataError: the lock cannot be written.
    """
    file = path / _LOCK
    try:
        lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise atomic.unwritable(file, error) from error
    try:
        for _ in range(_TRIES):
            busy = _busy(lock, fcntl.LOCK_EX)
            if not busy:
                break
            time.sleep(0.05)
        who = os.pread(lock, 1000, 0).decode(errors="replace").strip()
        if busy is None:
            warnings.warn(f"{path} is on a file system without locks: let no two jobs write there", stacklevel=3)
        if busy or (busy is None and _alive(who)):
            raise LaunchError(
                f"{path} is in use by {who or 'another process'}: wait for it, end it, or name another with -o"
            )
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"pid {os.getpid()} on {socket.gethostname()} since {provenance.now()}\n".encode(), 0)
    except OSError as error:
        os.close(lock)
        raise atomic.unwritable(file, error) from error
    except BaseException:
        os.close(lock)
        raise
    return lock


def _busy(lock: int, kind: int) -> bool | None:
    """Try to lock; return whether another process has the lock, None where the file system knows no locks."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except OSError as error:
        return True if error.errno in (errno.EAGAIN, errno.EACCES) else None
    return False


def _alive(who: str) -> bool:
    """Return whether the process that the lock file names lives on this host."""
    said = re.match(r"pid (\d+) on (\S+) ", who)
    if said is None or said[2] != socket.gethostname():
        return False
    try:
        os.kill(int(said[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def held(path: Path) -> bool:
    """Return whether a process holds the folder."""
    file = path / _LOCK
    try:
        lock = os.open(file, os.O_RDONLY)
    except OSError:
        return False
    try:
        busy = _busy(lock, fcntl.LOCK_SH)
        return _alive(os.pread(lock, 1000, 0).decode(errors="replace")) if busy is None else busy
    finally:
        os.close(lock)
