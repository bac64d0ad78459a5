"""F*, given or solved for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from mpilocal.prepare import Prepared

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


class Optimum(NamedTuple):
    """What is known of the least value of F."""

    value: float = math.nan

    def facts(self) -> dict[str, Any]:
        """Return what config.toml keeps."""
        return {} if math.isnan(self.value) else {"optimum": self.value}


def find(made: Prepared, comm: Intracomm, warn: Callable[[str], None]) -> Optimum:
    """Return F* of a run; collective."""
    wanted = made.config.problem.optimum
    return Optimum(float(wanted)) if isinstance(wanted, float) else Optimum()
