"""Who runs what, where, when and with which versions: an entry of the history in a run's config.toml."""

from __future__ import annotations

import getpass
import os
import platform
import shlex
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from mpilocal import atomic


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def entry(
    ranks: int, threads: int, hosts: int, library: str, overrides: Sequence[str] = (), command: str | None = None
) -> dict[str, Any]:
    """Return the entry of a run that starts now; `RunDir.finish` adds how it ends.

    Args:
        ranks: MPI ranks.
        threads: per rank.
        hosts: on which the ranks are.
        library: MPI's name and version, `MPI.Get_library_version()`.
        overrides: the `-s` settings.
        command: the command line; by default this process's.
    """
    packages = {name: _version(name) for name in ("numpy", "numba", "mpi4py", "h5py")}
    lines = library.replace("\0", "").strip().splitlines() or [""]
    return {
        "command": shlex.join(sys.argv) if command is None else command,
        "user": _user(),
        "host": socket.gethostname(),
        "started": now(),
        "ranks": ranks,
        "threads": threads,
        "hosts": hosts,
        "overrides": list(overrides),
        "versions": {
            "mpilocal": atomic.version(),
            "python": platform.python_version(),
            **packages,
            "mpi": " ".join(lines[0].split()),
        },
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in this container
        return str(os.getuid())
