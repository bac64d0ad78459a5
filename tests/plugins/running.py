"""What the tests of robustness share: a small config with a user's method, launches that can be hit, comparisons."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import ranks

from mpilocal.store import rundir

PLUGINS = Path(__file__).parent
LIMIT = 120.0  # seconds that nothing here may last


def table(method: str = "local-sgd", **options: Any) -> dict[str, Any]:
    """A small regression; `method` may name one of faulty.py, with its options."""
    if method in ("faulty", "slow", "apart"):
        method = f"{PLUGINS / 'faulty.py'}:{method}"
    return {
        "data": {"source": "synthetic:regression", "options": {"rows": 120, "features": 7}},
        "problem": {"loss": "squared", "l2": 0.01},
        "workers": {"count": 6},
        "algorithm": {
            "name": method,
            "rounds": 8,
            "local_steps": 4,
            "batch": 2,
            "step_size": 0.05,
            "options": options,
        },
        "output": {"checkpoint_every": 2},
        "run": {"threads": 1},
    }


def write(path: Path, config: dict[str, Any]) -> Path:
    """Write a config as TOML."""

    def value(item: Any) -> str:
        if isinstance(item, dict):
            return "{ " + ", ".join(f"{key} = {value(one)}" for key, one in item.items()) + " }"
        if isinstance(item, list):
            return "[" + ", ".join(map(value, item)) + "]"
        if isinstance(item, bool):
            return str(item).lower()
        return f'"{item}"' if isinstance(item, str | Path) else repr(item)

    lines = []
    for name, part in config.items():
        lines += [f"[{name}]", *(f"{key} = {value(item)}" for key, item in part.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


def command(count: int, *args: object) -> list[str]:
    """`mpiexec -n COUNT python -m mpilocal ARGS`; of one rank without a launcher."""
    python = [sys.executable, "-m", "mpilocal", *map(str, args)]
    return python if count == 1 else ["mpiexec", "-n", str(count), *python]


def run(count: int, *args: object, timeout: float = LIMIT, **env: str) -> subprocess.CompletedProcess[str]:
    """Run and return the finished process; what takes too long fails the test."""
    return ranks.run(command(count, *args), timeout=timeout, env=env)


@contextmanager
def started(count: int, *args: object, slow: float = 0.0) -> Iterator[subprocess.Popen[str]]:
    """Start a launch in a session of its own; at the end nothing of it is left. `slow`: seconds of a round at least."""
    process = subprocess.Popen(
        command(count, *args),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=ranks.unlaunched() | {"SLOW": str(slow)},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for pid in [*members(process), process.pid]:
            kill(pid)
        ranks.end(process, 0.1)
        process.communicate()


def members(process: subprocess.Popen[str]) -> list[int]:
    """The ranks of a launch, known by their command line: a launcher may give them a session of their own."""
    assert isinstance(process.args, list)
    wanted = [str(word).encode() for word in process.args[process.args.index(sys.executable) :]]
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            argv = file.read_bytes().split(b"\0")[:-1]
        except OSError:
            continue
        if argv == wanted:
            found.append(int(file.parent.name))
    return sorted(found)


def gone(process: subprocess.Popen[str], timeout: float = 60) -> None:
    """Wait until no rank of a launch is left: a launcher that was killed may leave them to themselves for a while."""
    deadline = time.monotonic() + timeout
    while members(process):
        assert time.monotonic() < deadline, "ranks outlive their launcher"
        time.sleep(0.02)


def until_round(path: Path, least: int, process: subprocess.Popen[str]) -> None:
    """Wait until a run has a checkpoint of at least `least` rounds."""
    deadline = time.monotonic() + LIMIT
    while not any(int(file.stem[6:]) >= least for file in path.glob("checkpoints/round-*.h5")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path} has not reached round {least}"
        time.sleep(0.01)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process, if it is still there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def status(path: Path) -> str:
    """How a run stands once nobody holds it: a rank that is being killed may do so for a moment yet."""
    deadline = time.monotonic() + 30
    while (found := rundir.status(path)) == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def sentences(text: str) -> list[str]:
    """The lines of stderr that are mpilocal's own errors."""
    return [line for line in text.splitlines() if line.startswith("mpilocal: ") and "mpilocal: warning: " not in line]


def columns(path: Path) -> dict[str, np.ndarray]:
    """Every dataset of an HDF5 file outside /timings."""
    found = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("timings"):
            found[name] = item[()]

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def assert_same_file(one: Path, two: Path) -> None:
    """Equal in every bit outside /timings."""
    a, b = columns(one), columns(two)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape, f"{one} {two} {name}"
        same = (
            a[name].tolist() == b[name].tolist() if a[name].dtype == object else a[name].tobytes() == b[name].tobytes()
        )
        assert same, f"{name} of {one} and {two}: {a[name]} {b[name]}"


def assert_same_run(one: Path, two: Path, names: Sequence[str] = ("history.h5",)) -> None:
    """Equal histories, and byte by byte the checkpoints that both have, the newest among them."""
    for name in names:
        assert_same_file(one / name, two / name)
    have = [{file.name for file in path.glob("checkpoints/round-*.h5")} for path in (one, two)]
    assert max(have[0]) == max(have[1])
    for name in have[0] & have[1]:
        assert (one / "checkpoints" / name).read_bytes() == (two / "checkpoints" / name).read_bytes(), name
