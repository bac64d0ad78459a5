"""Files that appear complete or not at all: temporary name, flush, fsync, rename, fsync of the folder."""

from __future__ import annotations

import errno
import os
import re
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from mpilocal.errors import DataError

_TEMPORARY = re.compile(r"\..+\.tmp-\d+-[0-9a-f]{8}")


def write(path: str | Path, writer: Callable[[Path], object]) -> None:
    """Let `writer` write a file under a temporary name in the same folder, then give it the name `path`.

    At any moment, also after a kill or a loss of power, `path` is the old file or the new one, whole.

    Raises:
        DataError: the file cannot be written; the old one is then unchanged and the temporary one removed.
    """
    path = Path(path)
    temporary = path.parent / f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        writer(temporary)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except (OSError, RuntimeError) as error:  # h5py turns a failed write or close into either
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def unwritable(path: str | Path, error: Exception) -> DataError:
    """Return the DataError that says why `path` could not be written."""
    return DataError(f"cannot write {path}: {reason(error)}; make room or name another folder")


def reason(error: Exception) -> str:
    """Return the system's words for an error of Python or of HDF5, which wraps them in its own."""
    if isinstance(error, OSError) and error.strerror and error.errno:
        return os.strerror(error.errno)
    inner = re.search(r"error message = '([^']+)'", str(error)) or re.search(r"errno = (\d+)", str(error))
    if inner:
        return os.strerror(int(inner[1])) if inner[1].isdecimal() else inner[1]
    return str(error)


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk; a file system that cannot flush folders is let be."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP, errno.EBADF)):
            raise
    finally:
        os.close(descriptor)


def sweep(folder: str | Path) -> list[Path]:
    """Remove the temporary files that killed writers left in `folder`; nobody may be writing there."""
    left = [path for path in Path(folder).glob(".*") if _TEMPORARY.fullmatch(path.name)]
    for path in left:
        path.unlink(missing_ok=True)
    return left


def version() -> str:
    """Return the version of mpilocal that writes."""
    return str(sys.modules["mpilocal"].__version__)  # the package above holds it; floors go down only
