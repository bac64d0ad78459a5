"""Multi-rank tests: `@pytest.mark.parallel([1, 2, 3])` runs a test once per size, each time on so many ranks.

On one rank the test runs in place; on more, this module launches `mpiexec -n RANKS python -m pytest TEST` and reports
what the ranks say. Inside, `tmp_path` is one folder common to all ranks. A rank that fails prints its traceback and
ends the job, so that no other waits for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

SHARED = "MPILOCAL_TEST_SHARED"  # set on the ranks of a launched test: the folder that they share
RANK = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")
TIMEOUT = 240  # seconds of one launched test; `parallel(sizes, timeout=…)` overrides it


def launched() -> bool:
    """Whether this process is a rank of a launched test."""
    return SHARED in os.environ


def sizes(marker: pytest.Mark) -> list[int]:
    """The rank counts of `parallel(3)` or `parallel([1, 2, 3])`."""
    asked = marker.args[0]
    return [asked] if isinstance(asked, int) else list(asked)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("parallel")
    if marker is not None:
        metafunc.fixturenames.append("_ranks")
        metafunc.parametrize("_ranks", sizes(marker), ids=lambda n: f"ranks={n}")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if launched():
        rank = next(os.environ[name] for name in RANK if name in os.environ)
        config.option.basetemp = Path(os.environ[SHARED]) / f"rank-{rank}"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Launch the test where it wants several ranks; else (None) let it run here."""
    marker = pyfuncitem.get_closest_marker("parallel")
    if marker is None:
        return None
    ranks = pyfuncitem.callspec.params["_ranks"]
    if launched():
        from mpi4py import MPI

        size = MPI.COMM_WORLD.size
        assert size == ranks, f"mpiexec started {ranks} ranks but MPI sees {size}: mpiexec is not of mpi4py's MPI"
    if launched() or ranks == 1:
        return None
    config = pyfuncitem.config
    test = f"{pyfuncitem.path}::{pyfuncitem.nodeid.partition('::')[2]}"
    command = ["mpiexec", "-n", str(ranks), sys.executable, "-m", "pytest", test, f"--rootdir={config.rootpath}"]
    command += [f"--config-file={config.inipath}"] if config.inipath else []
    command += ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["--no-header", "--no-summary", "--tb=short", "--color=no"]
    with tempfile.TemporaryDirectory(prefix="mpilocal-test-") as shared:
        Path(shared, "common").mkdir()
        done = run(command, timeout=marker.kwargs.get("timeout", TIMEOUT), env={SHARED: shared})
        skipped = Path(shared, "skipped")
        if done.returncode:
            pytest.fail(f"on {ranks} ranks: status {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
        if skipped.exists():
            pytest.skip(skipped.read_text())
    return True


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _tell(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _tell(report)


def _tell(report: pytest.TestReport | pytest.CollectReport) -> None:
    """On a launched rank: say what failed and end the job; note what was skipped."""
    if not launched():
        return
    rank = next(os.environ[name] for name in RANK if name in os.environ)
    if report.skipped and isinstance(report.longrepr, tuple):
        Path(os.environ[SHARED], "skipped").write_text(report.longrepr[2].removeprefix("Skipped: "))
    if report.failed:
        text = "".join(f"[rank {rank}] {line}\n" for line in report.longreprtext.splitlines())
        os.write(2, text.encode())
        time.sleep(1)  # others may have failed too: let them speak
        os._exit(1)


def run(
    command: list[str],
    *,
    timeout: float = 120,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a session of its own; past the time-out fail the test and leave nothing of it behind."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=unlaunched() | dict(env or {}),
        cwd=cwd,
        start_new_session=True,
    ) as process:
        late = False
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            late = True
            end(process)
            out, err = process.communicate()
        except BaseException:
            end(process)
            raise
    if late:
        pytest.fail(f"{' '.join(command)} took more than {timeout} s\nstdout:\n{out}\nstderr:\n{err}", pytrace=False)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def end(process: subprocess.Popen[str], grace: float = 3) -> None:
    """End a process started in a session of its own and all that it started: ranks have process groups of their own."""
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + grace
    while (members := _session(process.pid)) and time.monotonic() < deadline:
        process.poll()
        time.sleep(0.05)
    for member in members:
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _session(leader: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


def unlaunched() -> dict[str, str]:
    """The environment without what a launcher or MPI put there for this very process: a launch begins afresh."""
    theirs = ("PMI_", "PMIX_", "PALS_", "OMPI_COMM_WORLD_", "OMPI_UNIVERSE", "HYDRA_", "HYDI_", "PRTE_", "MPI_LOCAL")
    kept = "PRTE_MCA_"
    return {
        key: value for key, value in os.environ.items() if key.startswith(kept) or not key.startswith((*theirs, SHARED))
    }
