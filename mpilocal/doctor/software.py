"""Packages, GPUs and the environment."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping

from mpilocal.doctor.item import Item, version

PACKAGES = ("numpy", "scipy", "numba", "mpi4py", "h5py", "msgspec")
EXTRAS = {"matplotlib": "figures", "scikit-learn": "its data sets", "numba-cuda": "GPUs"}


def packages() -> Item:
    """The packages that every run needs."""
    return Item("packages", "ok", ", ".join(f"{name} {version(name)}" for name in PACKAGES))


def gpus() -> Item:
    """The GPUs of root's host, by the driver's own tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Item("GPUs", "note", "none (no nvidia-smi)")
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Item("GPUs", "note", f"none that answers ({type(error).__name__} of nvidia-smi)")
    return Item("GPUs", "ok", "; ".join(done.stdout.strip().splitlines()) or "none")


def extras() -> Item:
    """Packages that add something."""
    missing = [f"{name} ({use})" for name, use in EXTRAS.items() if version(name) == "missing"]
    there = ", ".join(f"{name} {version(name)}" for name in EXTRAS if version(name) != "missing")
    if missing:
        return Item("extras", "note", f"{there or 'none'}; not installed: {', '.join(missing)}")
    return Item("extras", "ok", there)


def environment(variables: Mapping[str, str]) -> Item:
    """What launchers and SLURM have set."""
    if not variables:
        return Item("environment", "ok", "no launcher, no SLURM")
    return Item("environment", "ok", " ".join(f"{name}={value}" for name, value in variables.items()))
