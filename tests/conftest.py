"""Fixtures, and what a launch of MPI needs on a test machine: few cores, perhaps root, perhaps a container."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import CompletedProcess

import hypothesis
import pytest
import ranks
from ranks import (  # noqa: F401  (hooks: importing them here registers them)
    pytest_collectreport,
    pytest_configure,
    pytest_generate_tests,
    pytest_pyfunc_call,
    pytest_runtest_logreport,
)

Launch = Callable[..., "CompletedProcess[str]"]


def _prepend(variable: str, folder: Path) -> None:
    rest = [entry for entry in os.environ.get(variable, "").split(os.pathsep) if entry and entry != str(folder)]
    os.environ[variable] = os.pathsep.join([str(folder), *rest])


def _prepare() -> None:
    """Set what every launch inherits; before anything imports mpi4py.MPI or the kernels."""
    # The mpiexec of this environment, also where the environment is not activated.
    if (Path(sys.executable).parent / "mpiexec").exists():
        _prepend("PATH", Path(sys.executable).parent)
    # A package that is found here but not installed must be found by the ranks, whatever folder they run in.
    found = importlib.util.find_spec("mpilocal")
    if found is not None and found.submodule_search_locations:
        root = Path(found.submodule_search_locations[0]).parent
        if "site-packages" not in root.parts:
            _prepend("PYTHONPATH", root)
    # Open MPI: more ranks than cores, and root, as in a container.
    os.environ["OMPI_ALLOW_RUN_AS_ROOT"] = "1"
    os.environ["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    os.environ["PRTE_MCA_rmaps_default_mapping_policy"] = ":oversubscribe"  # noqa: SIM112
    os.environ["OMPI_MCA_mpi_yield_when_idle"] = "1"  # noqa: SIM112
    # Compiled kernels are kept from one session to the next.
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("MPILOCAL_CACHE", str(home / "mpilocal" / "tests"))


_prepare()

# A first call compiles, so no deadline; the ranks of one test must draw the same examples.
hypothesis.settings.register_profile(
    "mpilocal",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    **({"derandomize": True, "database": None} if ranks.launched() else {}),
)
hypothesis.settings.load_profile("mpilocal")


# The modules that take longest. With `pytest -n 2 --dist loadfile --no-loadscope-reorder` modules go to workers in the
# order in which they are collected, so that these should come first.
LONGEST = ("packaging", "nodes", "resume", "levels_naive", "kill", "tree", "signals", "docs", "midrun", "cli_run")


# Modules of one rank in which MPI does nothing: `-m "not once"` leaves them out with a second MPI library.
ONCE = (
    *("accelerated", "claims", "data_formats", "draws", "figure", "group_means", "kernel_limits", "kernels", "layout"),
    *("levels_stationary", "local_against_minibatch", "methods", "optimum_cache", "quantities", "schedules"),
    *("study_envelope", "study_figures", "study_pool", "study_reference"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem.removeprefix("test_") in ONCE:
            item.add_marker(pytest.mark.once)
    order = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def pytest_report_header() -> list[str]:
    return [
        f"MPILOCAL_DATA: {os.environ.get('MPILOCAL_DATA') or 'unset, tests on real data are skipped'}",
        f"MPILOCAL_CACHE: {os.environ['MPILOCAL_CACHE']}",
    ]


if ranks.launched():

    @pytest.fixture
    def tmp_path() -> Path:
        """One folder for all ranks of the test."""
        return Path(os.environ[ranks.SHARED], "common")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with the real data sets."""
    folder = os.environ.get("MPILOCAL_DATA")
    if not folder:
        pytest.skip("MPILOCAL_DATA is unset: it names the folder with the real data sets")
    if not Path(folder).is_dir():
        pytest.skip(f"MPILOCAL_DATA = {folder} is not a folder")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def mpiexec() -> Launch:
    """`launch(ranks, *args, timeout=120, env={}, cwd=None, module="mpilocal")`.

    Runs `mpiexec -n RANKS python -m MODULE ARGS` (`python ARGS` if `module` is None) and returns the finished process
    with its output as text. One that takes longer than `timeout` seconds fails the test, and nothing of it is left.
    """

    def launch(
        count: int,
        *args: str | os.PathLike[str],
        timeout: float = 120,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        module: str | None = "mpilocal",
    ) -> CompletedProcess[str]:
        python = [sys.executable, "-m", module] if module else [sys.executable]
        command = ["mpiexec", "-n", str(count), *python, *map(os.fspath, args)]
        return ranks.run(command, timeout=timeout, env=env, cwd=cwd)

    return launch
