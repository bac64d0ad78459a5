"""What the launcher's environment says of this process, without MPI."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

# The launcher's own word comes before that of SLURM, which also reaches an mpiexec inside its job.
RANKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "PALS_RANKID", "SLURM_PROCID")
SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
PREFIXES = ("OMPI_COMM_WORLD_", "PMIX_", "PMI_", "PALS_", "SLURM_")


class Launched(NamedTuple):
    """How many processes a launcher started, and which of its variables says so."""

    size: int
    variable: str


def rank(environment: Mapping[str, str] = os.environ) -> int:
    """Return this process's number by its launcher; 0 without one."""
    for name in RANKS:
        if environment.get(name, "").isdecimal():
            return int(environment[name])
    return 0


def launched(environment: Mapping[str, str] = os.environ) -> Launched | None:
    """Return how many processes the launcher started, or None where there is none or it does not say."""
    for name in SIZES:
        if environment.get(name, "").isdecimal():
            return Launched(int(environment[name]), name)
    if "SLURM_PROCID" in environment and environment.get("SLURM_NTASKS", "").isdecimal():
        return Launched(int(environment["SLURM_NTASKS"]), "SLURM_NTASKS")
    return None


def variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what launchers have set, by name; what may be secret or long is left out."""
    shown = {}
    for name in sorted(environment):
        secret = any(word in name for word in ("KEY", "TOKEN", "AUTH", "JWT", "SECRET"))
        if name.startswith(PREFIXES) and not secret and len(environment[name]) <= 100:
            shown[name] = environment[name]
    return shown
