"""The Local SGD family on MPI: the same iterates, bit for bit, on any number of ranks.

`mpilocal.run(config, comm=…)`, `mpilocal.resume(path)` and `mpilocal.load(path)` are what the command line does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpilocal.api import Result, load, resume, run
    from mpilocal.compare import apart
    from mpilocal.config.structs import Config
    from mpilocal.session import Controls

__version__ = "0.1.0"
__all__ = ["Config", "Controls", "Result", "apart", "load", "resume", "run"]

_HOMES = {
    "Config": "mpilocal.config.structs",
    "Controls": "mpilocal.session",
    "Result": "mpilocal.api",
    "apart": "mpilocal.compare",
    "load": "mpilocal.api",
    "resume": "mpilocal.api",
    "run": "mpilocal.api",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `import mpilocal` costs nothing."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mpilocal' has no attribute '{name}'")
