"""How kernels are compiled: one decorator, and a disk cache that follows the sources.

Numba's cache watches only the file of the decorated function, so an edited helper in another file
would go unnoticed; here the cache folder carries a digest of all kernel sources and of the versions.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

# No nnan and no ninf: NaN and infinity must survive, the divergence guard looks for them.
FAST = frozenset({"nsz", "contract", "reassoc"})


def user_cache() -> Path:
    """Return the user's folder for what is solved once and kept: MPILOCAL_CACHE, or mpilocal in the user's cache."""
    named = os.environ.get("MPILOCAL_CACHE")
    return Path(named or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / ("" if named else "mpilocal")


def cache_root() -> Path:
    """Return the folder for everything compiled: the node's own within a SLURM job, else the user's cache."""
    local = os.environ.get("SLURM_TMPDIR")
    if local and "MPILOCAL_CACHE" not in os.environ and os.access(local, os.W_OK):
        return Path(local) / "mpilocal"
    return user_cache()


def sources_digest() -> str:
    """Return a digest of the kernels' sources and of what compiles them."""
    digest = hashlib.sha256(f"{numba.__version__} {np.__version__}".encode())
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(str(source.relative_to(Path(__file__).parent)).encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder() -> Path:
    """Return the folder of the compiled kernels; it is made when the first one is stored."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    root = Path(named) if named else cache_root()
    return root / f"kernels-{_DIGEST}"


_DIGEST = sources_digest()


def kernel(function: Callable[..., Any]) -> Any:
    """Compile on first call, without the GIL, strict floating point, cached on disk."""
    return _compile(function, False)


def fast(function: Callable[..., Any]) -> Any:
    """Compile as `kernel` does, and let the compiler reorder sums and fuse multiply-add inside loops.

    The order is fixed when the function is compiled: it depends on the CPU and on Numba, never on data,
    threads or ranks.
    """
    return _compile(function, set(FAST))


def _compile(function: Callable[..., Any], fastmath: bool | set[str]) -> Any:
    settings: Any = numba.config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(cache_folder())
    try:
        return numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=fastmath)(function)
    finally:
        settings.CACHE_DIR = before


def inlined(function: Callable[..., Any]) -> Any:
    """Write the function out where it is called, under the caller's rules: no call, no reference counts."""
    return numba.njit(inline="always", error_model="numpy")(function)
