"""What the launcher's environment says of this process, without MPI."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

# The launcher's own word comes before that of SLURM, which also reaches an mpiexec inside its job.
RANKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "PALS_RANKID", "SLURM_PROCID")
SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
SHOWN = ("OMPI_COMM_WORLD_", "PMI_RANK", "PMI_SIZE", "PALS_RANKID", "PMIX_RANK", "PMIX_NAMESPACE", "PMIX_VERSION")
SLURM = "JOB_ID JOB_PARTITION JOB_NUM_NODES JOB_NODELIST STEP_ID STEP_NUM_TASKS NTASKS NTASKS_PER_NODE PROCID"
SLURM += " CPUS_PER_TASK CPU_BIND MPI_TYPE MEM_PER_NODE MEM_PER_CPU GPUS GPUS_ON_NODE TMPDIR"


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
    if environment.get("SLURM_NTASKS", "").isdecimal():
        return Launched(int(environment["SLURM_NTASKS"]), "SLURM_NTASKS")
    return None


def variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what launchers and SLURM have set, by name; the few that tell something."""
    wanted = {f"SLURM_{name}" for name in SLURM.split()}
    return {name: environment[name] for name in sorted(environment) if name.startswith(SHOWN) or name in wanted}
