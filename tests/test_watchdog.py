"""A rank that never ends its round ends the job, with a sentence from every rank that can still speak."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest
from plugins import running

pytestmark = pytest.mark.slow

SENTENCE = re.compile(
    r"mpilocal: rank (\d+) on \S+ has not finished round 3 for 2 s: "
    r"it is (computing|waiting for other ranks|in a call that keeps Python's lock)\b"
    r".* \(run.stall_seconds sets the limit, 0 none\)"
)


def stall(tmp_path, count, how, seconds=600.0, stall_seconds=2.0):
    config = running.table("faulty", how=how, worker=5, seconds=seconds)
    config["run"]["stall_seconds"] = stall_seconds
    begin = time.monotonic()
    done = running.run(count, "run", running.write(tmp_path / "c.toml", config), "-o", tmp_path / "run")
    return done, time.monotonic() - begin


@pytest.mark.parametrize("count", [1, 3])
def test_a_rank_that_sleeps_for_ever(tmp_path, count):
    done, seconds = stall(tmp_path, count, "sleep")
    assert done.returncode == 6, done.stderr
    said = {int(found[1]): found[2] for found in SENTENCE.finditer(done.stderr)}
    # Where a launcher ends the job, the word of a rank may get lost on the way, but not that of all.
    assert (
        said.items() <= {count - 1: "computing", **dict.fromkeys(range(count - 1), "waiting for other ranks")}.items()
    )
    assert count - 1 in said and (count == 1 or len(said) > 1), done.stderr
    assert "in local steps (faulty.py, line " in done.stderr
    assert 'faulty.py", line ' in done.stderr  # the stack
    assert seconds < 45  # 2 s, 2 s to speak, and what a busy machine needs to start
    assert running.status(tmp_path / "run") == "interrupted"


@pytest.mark.parametrize("count", [1, 3])
def test_a_rank_that_keeps_the_interpreter_s_lock(tmp_path, count):
    done, seconds = stall(tmp_path, count, "hold")
    assert done.returncode == 6, done.stderr
    said = {int(found[1]): found[2] for found in SENTENCE.finditer(done.stderr)}
    assert said.get(count - 1, "in a call that keeps Python's lock") == "in a call that keeps Python's lock"
    if count == 1:
        assert 0 in said and 'faulty.py", line ' in done.stderr
    assert said and seconds < 45


def test_no_watchdog(tmp_path):
    done, _ = stall(tmp_path, 2, "sleep", seconds=4.0, stall_seconds=0.0)
    assert done.returncode == 0 and "has not finished" not in done.stderr


def test_a_limit_that_no_round_reaches(tmp_path):
    done, _ = stall(tmp_path, 2, "sleep", seconds=1.0, stall_seconds=30.0)
    assert done.returncode == 0 and "has not finished" not in done.stderr


def test_the_thread_without_python():
    code = """
import ctypes, sys
from mpilocal.stall import Stall
for seconds in (0.5, 60.0):  # the first is stopped in time
    stall = Stall("rank 1 on é: round ", ": held\\n", seconds, 0.2, 6)
    stall.start()
    stall.enter(7)
    stall.stop()
stall = Stall("rank 1 on é: round ", ": held\\n", 0.5, 0.2, 6)
stall.start()
for round in (0, 9, 1203):
    stall.enter(round)
    ctypes.PyDLL(None).usleep(300_000)
ctypes.PyDLL(None).usleep(600_000_000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (6, "rank 1 on é: round 1203: held\n")
