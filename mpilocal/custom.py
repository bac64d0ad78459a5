"""A user's own loss, FILE.py:NAME, compiled into the kernels as one of their own.

The file defines an object NAME with the functions value(z, y, one), slope(z, y, one) and, for `optimum = "auto"`,
curvature(z, y, one), which Numba can compile. The kernels are copied once into the cache with the user's file in
the place of `custom.py`, so that they are compiled, inlined and found again on disk as the built-in ones are.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mpilocal import plugins
from mpilocal.errors import ConfigError, agreed
from mpilocal.kernels import compile as compiling
from mpilocal.kernels.scalar import Loss

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

TAIL = """

from .compile import kernel as _kernel

_loss = {name}
value = _kernel(_loss.value)
slope = _kernel(_loss.slope)
curvature = _kernel(getattr(_loss, "curvature", lambda z, y, one: z - z))
"""


def loss_of(name: str, known: Mapping[str, Loss], folder: Path) -> tuple[Loss, Callable[[dict[float, int]], int]]:
    """Return (the loss for the kernels, labels' mapping → outputs of the model) for `problem.loss`."""
    if name in known:
        loss = known[name]
        return loss, (lambda mapping: len(mapping)) if loss == Loss.SOFTMAX else (lambda mapping: 1)
    found: Any = plugins.find(name, dict.fromkeys(known, ""), "mpilocal.losses", "problem.loss", folder)
    for need in ("value", "slope"):
        if not callable(getattr(found, need, None)):
            raise ConfigError(
                f'problem.loss = "{name}" has no function {need}(z, y, one): a loss needs value and slope'
            )
    return Loss.CUSTOM, lambda mapping: 1


def kernels_of(name: str, loss: Loss, sparse: bool, folder: Path, comm: Intracomm) -> ModuleType:
    """Return the module of compiled kernels for a loss and a storage; collective."""
    storage = "sparse" if sparse else "dense"
    if loss != Loss.CUSTOM:
        return importlib.import_module(f"mpilocal.kernels.cpu.{storage}")
    package = ""
    with agreed(comm):
        path, attribute = plugins.locate(name, "mpilocal.losses", "problem.loss", folder)
        source = path.read_text() + TAIL.format(name=attribute)
        package = f"mpilocal_kernels_{hashlib.sha256((compiling.sources_digest() + source).encode()).hexdigest()[:16]}"
        home = compiling.cache_root() / "losses"
        if not (home / package).is_dir():
            _copy(home, package, source)
        if str(home) not in sys.path:
            sys.path.append(str(home))
        importlib.invalidate_caches()
        try:
            return importlib.import_module(f"{package}.cpu.{storage}")
        except Exception as error:
            raise ConfigError(
                f'problem.loss = "{name}" cannot be compiled: {type(error).__name__}: {str(error).splitlines()[0]}'
            ) from error
    raise AssertionError("unreachable")


def _copy(home: Path, package: str, source: str) -> None:
    """Make the copy whole, then give it its name: ranks may race, and the first one wins."""
    home.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=home, prefix=".new-"))
    original = Path(compiling.__file__).parent
    shutil.copytree(original, made / package, ignore=shutil.ignore_patterns("__pycache__"))
    (made / package / "__init__.py").write_text('"""The kernels with a loss of a user\'s own."""\n')
    (made / package / "custom.py").write_text(source)
    try:
        os.rename(made / package, home / package)
    except OSError:
        if not (home / package).is_dir():
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
