"""The run directory: who may write there, what config.toml tells, and the status of a run."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys

import numpy as np
import pytest

from mpilocal import atomic, config
from mpilocal.errors import ConfigError, DataError, LaunchError
from mpilocal.store import checkpoint, provenance, record
from mpilocal.store.rundir import RunDir, holds_run, read_run, status

CONFIG = config.convert(
    {"data": {"source": "x"}, "workers": {"count": 4}, "algorithm": {"rounds": 5, "step_size": 0.5}}
)
RESOLVED = {"source": "/data/x", "rows": np.int64(10), "labels": {"-1": 0, "1": 1}, "absent": None}
HOLD = """
import sys, time
from mpilocal.store.rundir import RunDir
with RunDir.open(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def entry(**more):
    return {**provenance.entry(2, 1, 1, "MPICH Version:\t5.0.2\nBuilt\0", ["a=1"], "mpilocal run x"), **more}


def test_life_of_a_run(tmp_path):
    path = tmp_path / "deep" / "run"
    with pytest.raises(DataError, match="there is no run in"):
        status(path)
    with RunDir.create(path) as run:
        assert not holds_run(path)
        assert status(path) == "running"
        run.write_config(CONFIG, RESOLVED, entry())
        assert status(path) == "running"
        assert read_run(path).history[-1]["overrides"] == ["a=1"]
    assert status(path) == "interrupted"
    with pytest.raises(ConfigError, match=r"holds a run: continue it with .*--or-resume"):
        RunDir.create(path)
    with RunDir.open(path) as run:
        run.write_config(CONFIG, RESOLVED, entry(ranks=3))
        run.finish("stopped", 3, "by SIGTERM")
    assert status(path) == "stopped"
    got = read_run(path)
    assert got.config == CONFIG
    assert got.resolved == {"source": "/data/x", "rows": 10, "labels": {"-1": 0, "1": 1}}
    assert [one["status"] for one in got.history] == ["interrupted", "stopped"]
    assert [one["ranks"] for one in got.history] == [2, 3]
    last = got.history[-1]
    assert (last["round"], last["message"], last["versions"]["mpi"]) == (3, "by SIGTERM", "MPICH Version: 5.0.2")
    assert last["started"] <= last["ended"]
    assert config.load(path / "config.toml") == CONFIG
    assert sorted(os.listdir(path)) == ["config.toml", "lock"]


def test_second_job_is_told_who_holds_it_and_a_kill_frees_it(tmp_path):
    with RunDir.create(tmp_path) as run:
        run.write_config(CONFIG, RESOLVED, entry())
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "held\n"
            assert status(tmp_path) == "running"
            for attempt in (RunDir.open, RunDir.create):
                with pytest.raises(LaunchError, match=rf"is in use by pid {other.pid} on \S+ since 2") as caught:
                    attempt(tmp_path)
                assert caught.value.status == 6
            assert read_run(tmp_path).config == CONFIG
        finally:
            other.kill()
    assert status(tmp_path) == "interrupted"
    RunDir.open(tmp_path).close()


def test_file_system_without_locks(tmp_path, monkeypatch):
    def flock(file, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="file system without locks"):
        run = RunDir.create(tmp_path)
    run.write_config(CONFIG, RESOLVED, entry())
    assert status(tmp_path) == "running"
    with pytest.warns(UserWarning), pytest.raises(LaunchError, match=f"pid {os.getpid()}"):
        RunDir.open(tmp_path)
    (tmp_path / "lock").write_text("pid 1 on another-host since 2025-01-01\n")
    assert status(tmp_path) == "interrupted"


def test_folders_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ConfigError, match="is not a folder"):
            RunDir.create(path)
    with pytest.raises(DataError, match="there is no run in"):
        RunDir.open(tmp_path)
    assert os.listdir(tmp_path) == ["file"]


def test_damaged_config_is_named(tmp_path):
    (tmp_path / "config.toml").write_text("[data")
    with pytest.raises(DataError, match=r"no usable config\.toml"):
        read_run(tmp_path)


def test_unbegun(tmp_path):
    with RunDir.create(tmp_path) as run:
        run.write_config(CONFIG, RESOLVED, entry())
        assert run.unbegun
        history = record.History(run.history)
        history.append({"round": 0, "objective": 1.0})
        history.write()
        assert run.unbegun
        checkpoint.write(None, run.checkpoints, 0, np.zeros(2), [], {}, 4, 0, 3)
        assert not run.unbegun


def test_atomic_write_fails_whole(tmp_path):
    file = tmp_path / "a"
    atomic.write(file, lambda path: path.write_text("old"))

    def broken(path):
        path.write_text("ne")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match=r"cannot write .*a: No space left on device"):
        atomic.write(file, broken)
    assert os.listdir(tmp_path) == ["a"] and file.read_text() == "old"
    with pytest.raises(DataError, match="No such file"):
        atomic.write(tmp_path / "none" / "a", lambda path: path.write_text("x"))


def test_sweep_removes_only_temporaries(tmp_path):
    for name in (".a.h5.tmp-12-0123abcd", ".a.h5", "a.tmp-12-0123abcd", ".x.tmp-1"):
        (tmp_path / name).touch()
    assert [path.name for path in atomic.sweep(tmp_path)] == [".a.h5.tmp-12-0123abcd"]
    assert len(os.listdir(tmp_path)) == 3
