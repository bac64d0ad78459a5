"""Stops that are asked for: all ranks end at one round with a valid checkpoint, and a resume goes on from it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from plugins import running

from mpilocal.store import checkpoint, rundir

pytestmark = pytest.mark.slow

ROUNDS = 400


def config(folder, **output):
    table = running.table("slow")
    table["algorithm"]["rounds"] = ROUNDS
    table["output"] = {"record_every": 7, "checkpoint_every": 50, "iterates": True, **output}
    return running.write(folder / "c.toml", table)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run; at full speed."""
    folder = tmp_path_factory.mktemp("whole")
    path = folder / "run"
    done = running.run(2, "run", config(folder), "-o", path)
    assert done.returncode == 0, done.stderr
    return path


def stopped(path, process, reason):
    """Check a run that was asked to stop; return the round at which it did."""
    out, err = process.communicate(timeout=running.LIMIT)
    assert process.returncode == 75, (process.returncode, out, err)
    said = running.sentences(err)
    found = re.fullmatch(
        rf"mpilocal: stopped after round (\d+) by {reason}; `mpilocal resume {re.escape(str(path))}` continues",
        said[-1],
    )
    assert len(said) == 1 and found and "Traceback" not in err, err
    rounds = int(found[1])
    assert rundir.status(path) == "stopped"
    newest, warnings = checkpoint.newest(path / "checkpoints")
    assert newest.name == f"round-{rounds:08d}.h5" and not warnings
    assert rundir.read_run(path).history[-1]["round"] == rounds
    assert 0 < rounds < ROUNDS
    return rounds


def finish(path, whole, ranks, *names):
    done = running.run(ranks, "resume", path)
    assert done.returncode == 0, done.stderr
    assert rundir.status(path) == "done"
    running.assert_same_run(path, whole, ("history.h5", *names))


def open_mpi():
    return "Open MPI" in subprocess.run(["mpiexec", "--version"], capture_output=True, text=True).stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("count", [1, 3])
def test_a_signal_to_one_rank_stops_all(tmp_path, whole, count, number):
    path = tmp_path / "run"
    with running.started(count, "run", config(tmp_path), "-o", path, slow=0.02) as process:
        running.until_round(path, 50, process)
        assert rundir.status(path) == "running"
        os.kill(running.members(process)[-1], number)
        stopped(path, process, "a signal")
    finish(path, whole, 3 if count == 1 else 2, "iterates.h5")


def test_a_signal_to_all_ranks_and_once_more(tmp_path, whole):
    path = tmp_path / "run"
    with running.started(3, "run", config(tmp_path), "-o", path, slow=0.02) as process:
        running.until_round(path, 50, process)
        for _ in range(5):  # launchers and batch systems send more than one
            for pid in running.members(process):
                running.kill(pid, signal.SIGUSR1)
            time.sleep(0.05)
        stopped(path, process, "a signal")
    finish(path, whole, 1, "iterates.h5")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_launcher(tmp_path, whole, number):
    if number == signal.SIGTERM and open_mpi():
        pytest.skip("Open MPI's mpiexec kills its ranks 0.2 s after a SIGTERM")
    path = tmp_path / "run"
    with running.started(2, "run", config(tmp_path), "-o", path, slow=0.02) as process:
        running.until_round(path, 50, process)
        os.kill(process.pid, number)
        stopped(path, process, "a signal")
    finish(path, whole, 3, "iterates.h5")


def test_a_signal_before_the_first_round(tmp_path, whole):
    path = tmp_path / "run"
    with running.started(2, "run", config(tmp_path), "-o", path, slow=0.02) as process:
        deadline = time.monotonic() + running.LIMIT
        while not (path / "lock").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.001)
        for pid in running.members(process):
            running.kill(pid, signal.SIGUSR1)
        assert stopped(path, process, "a signal") == 1
    finish(path, whole, 1, "iterates.h5")


@pytest.mark.parametrize("count", [1, 3])
def test_max_time(tmp_path, whole, count):
    path = tmp_path / "run"
    with running.started(count, "run", config(tmp_path), "-o", path, "--max-time", "6", slow=0.05) as process:
        stopped(path, process, "the time limit")
    with running.started(count, "resume", path, "--max-time", "00:04", slow=0.05) as process:
        process.communicate(timeout=running.LIMIT)
        assert process.returncode in (0, 75)  # it may just have come to the end
    finish(path, whole, 2, "iterates.h5")


def test_periods_meet_at_records_and_checkpoints(tmp_path):
    """Where the world averages rarely, the word of one rank reaches the others at the next record."""
    table = running.table("slow")
    table["algorithm"]["rounds"] = ROUNDS
    table["output"] = {"record_every": 10, "checkpoint_every": 50}
    file = running.write(tmp_path / "c.toml", table)
    with file.open("a") as text:
        text.write('[[levels]]\ngroup = "world"\nperiod = 100\n')
    done = running.run(2, "run", file, "-o", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "run"
    with running.started(3, "run", file, "-o", path, slow=0.02) as process:
        running.until_round(path, 50, process)
        os.kill(running.members(process)[-1], signal.SIGUSR1)
        assert stopped(path, process, "a signal") % 10 <= 1
    finish(path, tmp_path / "whole", 1)


def test_show_tells_how_a_run_stands(tmp_path):
    path = tmp_path / "run"
    with running.started(2, "run", config(tmp_path), "-o", path, slow=0.02) as process:
        running.until_round(path, 50, process)
        assert shown(path)["status"] == "running"
        again = running.run(1, "resume", path)
        assert again.returncode == 6 and len(running.sentences(again.stderr)) == 1
        assert "is in use by pid" in again.stderr
        for pid in running.members(process):
            running.kill(pid)
        running.gone(process)
    facts = shown(path)
    assert facts["status"] == "interrupted" and 50 <= facts["round"] < ROUNDS


def shown(path):
    done = subprocess.run([sys.executable, "-m", "mpilocal", "show", path, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
