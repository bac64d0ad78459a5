"""What goes wrong while a run runs: one sentence, one status, on all ranks, and nothing is lost."""

from __future__ import annotations

import json
import os
import re
import sys
import time

import pytest
import ranks
from plugins import running

from mpilocal.store import checkpoint, rundir

pytestmark = pytest.mark.slow


def fails(count, file, path, status, pattern, *more):
    begin = time.monotonic()
    done = running.run(count, "run", file, "-o", path, *more)
    assert done.returncode == status, (done.returncode, done.stderr)
    said = running.sentences(done.stderr)
    assert len(said) == 1 and re.fullmatch(pattern, said[0]), done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - begin < 40  # far below any time-out of the run's own, on a busy machine
    return said[0]


@pytest.mark.parametrize("partition", ["contiguous", "shared"])
@pytest.mark.parametrize(("how", "status"), [("raise", 1), ("refuse", 4)])
def test_an_error_on_one_rank_ends_the_job(tmp_path, how, status, partition):
    config = running.table("faulty", how=how, worker=5)
    config["data"]["partition"] = partition
    what = "ZeroDivisionError: the plug-in's own fault.*" if how == "raise" else "the plug-in found no data"
    pattern = rf"mpilocal: rank 2 on \S+, round 3: {what}"
    fails(3, running.write(tmp_path / "c.toml", config), tmp_path / "run", status, pattern)
    assert running.status(tmp_path / "run") == "interrupted"  # root was killed before it could say more
    assert checkpoint.newest(tmp_path / "run" / "checkpoints")[0].name == "round-00000002.h5"


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_an_error_on_all_ranks_is_told_once(tmp_path, count, late):
    config = running.table("faulty", how="raise", late=late)
    pattern = r"mpilocal: rank 0 on \S+, round 3: ZeroDivisionError: the plug-in's own fault.*"
    fails(count, running.write(tmp_path / "c.toml", config), tmp_path / "run", 1, pattern)
    assert running.status(tmp_path / "run") == "failed"


@pytest.mark.parametrize("how", ["leave", "die"])
def test_a_rank_that_vanishes(tmp_path, how):
    config = running.table("faulty", how=how, worker=5)
    done = running.run(3, "run", running.write(tmp_path / "c.toml", config), "-o", tmp_path / "run")
    assert done.returncode != 0 and "Traceback" not in done.stderr  # status and banner are the launcher's
    assert running.status(tmp_path / "run") == "interrupted"
    done = running.run(2, "resume", tmp_path / "run", HARMLESS="1")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("iterates", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_a_full_disk(tmp_path, count, iterates):
    config = running.table("faulty", how="full", worker=0)
    config["output"] |= {"iterates": iterates, "checkpoint_every": 4}
    file = running.write(tmp_path / "c.toml", config)
    path = tmp_path / "run"
    fails(count, file, path, 4, r"mpilocal: cannot write \S+: File too large; make room or name another folder")
    assert checkpoint.newest(path / "checkpoints")[0].name == "round-00000000.h5"
    assert [file.name for file in path.rglob(".*")] == []  # no half-written file
    done = running.run(2, "resume", path, HARMLESS="1")
    assert done.returncode == 0, done.stderr
    done = running.run(1, "run", file, "-o", tmp_path / "whole", HARMLESS="1")
    assert done.returncode == 0, done.stderr
    running.assert_same_run(path, tmp_path / "whole", ("history.h5", "iterates.h5")[: 1 + iterates])


def test_divergence(tmp_path):
    config = running.table()
    config["algorithm"] |= {"step_size": 30.0, "rounds": 1000}
    config["output"] = {"checkpoint_every": 10, "record_every": 25}
    file = running.write(tmp_path / "c.toml", config)
    said = set()
    for count in (1, 3):
        path = tmp_path / f"on-{count}"
        said.add(
            fails(count, file, path, 5, r"mpilocal: the (iterate|objective) is .* round \d+ .* the last checkpoint .*")
        )
        assert rundir.status(path) == "diverged"
    assert len(said) == 1
    at = int(re.search(r"round (\d+)", next(iter(said)))[1])
    newest, _ = checkpoint.newest(path / "checkpoints")
    assert int(newest.stem[6:]) == (at - 1) // 10 * 10 > 0
    done = running.run(2, "resume", path)
    assert (done.returncode, set(running.sentences(done.stderr))) == (5, said)
    running.assert_same_run(path, tmp_path / "on-1")
    refused = running.run(1, "resume", path, "-s", "algorithm.step_size=0.1")
    assert refused.returncode == 2 and "cannot become" in refused.stderr


def test_a_user_s_program_survives(tmp_path):
    """The library raises the same error on all ranks of its communicator, and the others of the world never notice."""
    program = running.PLUGINS / "on_split.py"
    tests = os.pathsep.join([str(program.parent.parent), os.environ.get("PYTHONPATH", "")])
    done = ranks.run(["mpiexec", "-n", "4", sys.executable, str(program), str(tmp_path)], env={"PYTHONPATH": tests})
    assert done.returncode == 0, done.stderr
    *inside, outside = json.loads(done.stdout)
    assert outside == {} and inside[0] == inside[1] == inside[2]
    said = inside[0]
    for partition in ("contiguous", "shared"):
        kind, status, text = said[f"raise {partition}"]
        assert (kind, status) == ("MpilocalError", 1)
        assert re.fullmatch(r"rank 2 on \S+, round 3: ZeroDivisionError: the plug-in's own fault", text)
        assert said[f"refuse {partition}"] == ["DataError", 4, "the plug-in found no data"]
        assert said[f"full {partition}"][:2] == ["DataError", 4] and "File too large" in said[f"full {partition}"][2]
    assert said["diverge"][:2] == ["DivergedError", 5]
    assert said["absent"][:2] == ["DataError", 4]
    assert said["uncompilable"][0] == "ConfigError" and "cannot be compiled" in said["uncompilable"][2]
    assert said["good"] == ["", 0, "done 8"]
