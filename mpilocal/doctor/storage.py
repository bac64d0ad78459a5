"""Folders and their file systems: the cache of compiled kernels, the runs, the memory that ranks share."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mpilocal.atomic import reason
from mpilocal.doctor.item import Item

SERVED = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "fuse", "smb", "cifs", "afs", "panfs", "wekafs", "9p")


def cached(where: Path, hosts: Sequence[tuple[str, str, bool]]) -> Item:
    """The folder of compiled kernels: (host, file system, whether it can be written) of every rank."""
    unwritable = [name for name, _, can in hosts if not can]
    if unwritable:
        return Item(
            "cache", "warning", f"{where} cannot be written on {unwritable[0]}", "set MPILOCAL_CACHE to one that can"
        )
    said = f"{where} ({hosts[0][1]})"
    if any(kind.startswith(SERVED) for _, kind, _ in hosts):
        return Item(
            "cache", "warning", said, "all nodes load kernels from one server: set MPILOCAL_CACHE to a local disk"
        )
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return Item("cache", "warning", "NUMBA_DISABLE_JIT is set: nothing is compiled", "unset it, or wait very long")
    return Item("cache", "ok", said)


def hdf5() -> Item:
    """HDF5 and h5py."""
    import h5py

    return Item("HDF5", "ok", f"{h5py.version.hdf5_version}, h5py {h5py.version.version}")


def folder(output: Path) -> list[Item]:
    """The folder for runs: its file system, whether it can be written, and whether locks hold there."""
    import h5py

    place = existing(output)
    kind, _ = file_system(place)
    name = f"{output.absolute()} ({kind}{'' if place == output.absolute() else ', to be made'})"
    try:
        with tempfile.TemporaryDirectory(prefix=".mpilocal-doctor-", dir=place) as scratch:
            lock = _lock(Path(scratch))
            with h5py.File(Path(scratch) / "file.h5", "w", locking=False) as file:
                file["x"] = [1.0, 2.0]
            with h5py.File(Path(scratch) / "file.h5", "r", locking=False) as file:
                sound = file["x"][1] == 2.0
    except OSError as error:
        return [
            Item("output", "broken", f"{name} cannot be written: {reason(error)}", "name another with --output or -o")
        ]
    free = shutil.disk_usage(place).free
    written = Item(
        "output", "ok" if sound else "broken", f"{name}, {free / 1e9:.3g} GB free, HDF5 files can be written"
    )
    return [written, lock]


def _lock(scratch: Path) -> Item:
    """Hold a lock, and try to take it a second time, as another job would."""
    file = scratch / "lock"
    first, second = os.open(file, os.O_RDWR | os.O_CREAT), os.open(file, os.O_RDWR)
    remedy = "let no two jobs write one run there; flock is a mount option on Lustre"
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return Item("locks", "ok", "a second job on a run is kept out")
        return Item("locks", "warning", "file locks do not hold", remedy)
    except OSError as error:
        return Item("locks", "warning", f"there are no file locks: {error.strerror}", remedy)
    finally:
        os.close(first)
        os.close(second)


def memory() -> Item:
    """Room for rows that the ranks of a host share."""
    try:
        room = shutil.disk_usage("/dev/shm").free
    except OSError:
        return Item("shared memory", "note", "no /dev/shm", 'partition = "shared" may fail on several ranks')
    said = f'{room / 1e9:.3g} GB free in /dev/shm, for partition = "shared"'
    if room < 1 << 28:
        return Item("shared memory", "note", said, "a container wants --shm-size=1g, or more than the data set")
    return Item("shared memory", "ok", said)


def file_system(path: Path, mounts: str | None = None) -> tuple[str, str]:
    """Return type and mount point of the file system of a path, "unknown" where the system does not tell."""
    path = path.resolve()
    try:
        table = Path("/proc/mounts").read_text() if mounts is None else mounts
    except OSError:
        return "unknown", ""
    best, found = "", "unknown"
    for line in table.splitlines():
        point, kind = [*line.split(), "", "", ""][1:3]
        point = point.replace("\\040", " ")
        if point and path.is_relative_to(point) and len(point) >= len(best):
            best, found = point, kind
    return found, best


def cache() -> Path:
    """Return the folder of compiled kernels."""
    from mpilocal.kernels.compile import cache_folder

    return cache_folder()


def writable(path: Path) -> bool:
    """Return whether files can be made in a folder, which may have to be made itself."""
    place = existing(path)
    return os.access(place, os.W_OK | os.X_OK)


def existing(path: Path) -> Path:
    """Return the nearest folder above that exists, or the folder itself."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
