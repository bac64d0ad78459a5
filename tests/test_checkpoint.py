"""Checkpoints: whole or absent, for any number of ranks, and damage is found."""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpilocal.data.rows import block
from mpilocal.errors import CheckpointError, DataError
from mpilocal.store import checkpoint, inplace, transfer
from mpilocal.store.checkpoint import Field

WORKERS, DIM = 11, 5
COUNTERS = {"step": 2**62, "scale": 0.1, "note": "π"}


def whole():
    x = np.random.default_rng(1).standard_normal((WORKERS, DIM))
    return {
        "x": x,
        "drawn": np.arange(WORKERS, dtype=np.int64) * 2**40,
        "flags": np.arange(WORKERS * 2).reshape(WORKERS, 2) % 3 == 0,
        "none": np.zeros((WORKERS, 0), dtype=np.float32),
        "control": x[:1].astype(np.float32),
        "level1/count": np.array(7, dtype=np.uint8),
    }


COMMON = ("control", "level1/count")


def fields(first, last):
    parts = [Field(name, a if name in COMMON else a[first:last], name in COMMON) for name, a in whole().items()]
    return [Field("unused", None, False), *parts]


def save(folder, round, keep=3, scale=1.0):
    average = whole()["x"].mean(axis=0) * scale
    return checkpoint.write(None, folder, round, average, fields(0, WORKERS), COUNTERS, WORKERS, 0, keep)


def agrees(got, first, last):
    for name, array in whole().items():
        wanted = array if name in COMMON else array[first:last]
        assert got[name].dtype == wanted.dtype and np.array_equal(got[name], wanted), name
    assert set(got) == set(whole())


@pytest.mark.parallel([1, 2, 3])
def test_any_number_of_ranks(tmp_path, monkeypatch):
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    first, last = block(WORKERS, comm.size, comm.rank)
    sizes = []
    for piece in (inplace.PIECE, 48, 8):  # so that a field takes many pieces, cut anywhere
        monkeypatch.setattr(transfer, "PIECE", piece)
        monkeypatch.setattr(inplace, "PIECE", piece)
        folder = tmp_path / f"{piece}"
        average = whole()["x"].mean(axis=0)
        strided = [f._replace(array=f.array.copy(order="F")) if f.array is not None else f for f in fields(first, last)]
        sizes.append(checkpoint.write(comm, folder, 100, average, strided, COUNTERS, WORKERS, first, 3))
        path, warnings = checkpoint.newest(folder) if comm.rank == 0 else (None, [])
        round, mean, got, counters = checkpoint.read(comm, path, WORKERS, first, last - first, DIM, np.float64)
        assert round == 100 and np.array_equal(mean, average) and counters == COUNTERS and warnings == []
        agrees(got, first, last)
        if comm.rank == 0:
            agrees(checkpoint.read(None, path, WORKERS, 3, WORKERS)[2], 0, WORKERS)
    assert len(set(sizes)) == 1
    if comm.rank == 0:
        save(tmp_path / "one", 100)
        alone = (tmp_path / "one" / "round-00000100.h5").read_bytes()
        assert sizes[0] == len(alone)
        for piece in (inplace.PIECE, 48, 8):
            assert (tmp_path / f"{piece}" / "round-00000100.h5").read_bytes() == alone

    # What root alone finds is raised on every rank, and the next checkpoint is written all the same.
    old = tmp_path / "8"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    for allowed in (0, 6000, 100_000):
        if comm.rank == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (allowed, limit[1]))
        wide = [Field("wide", np.ones((last - first, 100_000)), False)]
        with pytest.raises(DataError, match=r"cannot write .*round-00000200\.h5: File too large"):
            checkpoint.write(comm, old, 200, np.zeros(DIM), wide, {}, WORKERS, first, 3)
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    comm.Barrier()
    assert [path.name for path in sorted(old.iterdir())] == ["round-00000100.h5"]
    for arguments, why in [((WORKERS + 1,), "workers 11"), ((WORKERS, DIM + 1), "5 where the run has 6")]:
        with pytest.raises(CheckpointError, match=why):
            checkpoint.read(comm, old / "round-00000100.h5", arguments[0], first, last - first, *arguments[1:])
    with pytest.raises(CheckpointError, match="float64 where the run has float32"):
        checkpoint.read(comm, old / "round-00000100.h5", WORKERS, first, last - first, DIM, np.float32)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        checkpoint.read(comm, old / "round-00000300.h5", WORKERS, first, last - first)
    with pytest.raises(ValueError, match=r"differ in name, type or shape|begin at workers"):
        odd = [Field("x", np.zeros((last - first + 1, 2 + comm.rank)), False)]
        checkpoint.write(comm, old, 200, np.zeros(DIM), odd, {}, WORKERS, first, 3)


def test_layout(tmp_path):
    save(tmp_path, 7)
    path = tmp_path / "round-00000007.h5"
    lines = path.read_bytes()[:512].rstrip(b"\0").decode().splitlines()
    assert lines[0] == "mpilocal checkpoint 1"
    assert lines[1].startswith("sha256 ") and lines[2] == f"bytes {path.stat().st_size - 512}"
    with h5py.File(path) as file:
        assert file.userblock_size == 512
        assert np.array_equal(file["average"], whole()["x"].mean(axis=0))
        assert (file.attrs["round"], file.attrs["workers"], file.attrs["format"]) == (7, WORKERS, 1)
        assert dict(file["counters"].attrs) == COUNTERS
        assert np.array_equal(file["state/x"], whole()["x"])
        assert file["state/level1/count"][()] == 7


def test_only_the_newest_are_kept(tmp_path):
    for round in (0, 5, 10, 100_000_000):
        save(tmp_path, round, keep=2)
    assert [round for round, _ in checkpoint.listed(tmp_path)] == [10, 100_000_000]
    save(tmp_path, 7, keep=1)  # resumed from an earlier one: what came later is of another course
    assert [round for round, _ in checkpoint.listed(tmp_path)] == [7]


def test_none_and_none_usable(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(CheckpointError, match="there is no checkpoint in"):
            checkpoint.newest(folder)
    for name in ("round-00000001.h5", "round-00000002.h5", "round-1.h5", ".round-00000003.h5.tmp-1-00000000"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"usable \(round-00000002.h5: .*; round-00000001.h5: .*") as caught:
        checkpoint.newest(tmp_path)
    assert caught.value.status == 7


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_always_found(tmp_path, data):
    if not checkpoint.listed(tmp_path):
        save(tmp_path, 1)
        save(tmp_path, 2, scale=2.0)
        (tmp_path / "good").write_bytes((tmp_path / "round-00000002.h5").read_bytes())
    good = (tmp_path / "good").read_bytes()
    bad = bytearray(good)
    kind = data.draw(st.sampled_from(["flip", "truncate", "extend", "zero"]))
    at = data.draw(st.one_of(st.integers(0, 600), st.integers(0, len(good) - 1)))
    if kind == "flip":
        bad[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "truncate":
        del bad[at:]
    elif kind == "extend":
        bad += bytes(1 + at)
    else:
        bad[at : at + 512] = bytes(len(bad[at : at + 512]))
    (tmp_path / "round-00000002.h5").write_bytes(bad)
    path, warnings = checkpoint.newest(tmp_path)
    if bad == good:
        assert path.name == "round-00000002.h5" and warnings == []
    else:
        assert path.name == "round-00000001.h5"
        assert len(warnings) == 1 and "round-00000002.h5 is damaged" in warnings[0]


def test_a_kill_at_any_moment_leaves_a_whole_one(tmp_path):
    code = """
import sys, numpy as np
from mpilocal.store import checkpoint
from mpilocal.store.checkpoint import Field
x = np.random.default_rng(0).random((50, 20000))
begin = int(sys.argv[2])
checkpoint.write(None, sys.argv[1], begin, x[0] * begin, [Field("x", x * begin, False)], {}, 50, 0, 2)
print("first", flush=True)
for round in range(begin + 1, 10**6):
    checkpoint.write(None, sys.argv[1], round, x[0] * round, [Field("x", x * round, False)], {}, 50, 0, 2)
"""
    begin = 0
    x = np.random.default_rng(0).random((50, 20000))
    for pause in np.linspace(0, 0.2, 6):
        with subprocess.Popen(
            [sys.executable, "-c", code, tmp_path, str(begin)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == "first\n"
            time.sleep(pause)
            writer.kill()
        path, warnings = checkpoint.newest(tmp_path)
        round, average, got, _ = checkpoint.read(None, path, 50, 0, 50)
        assert warnings == [] and round >= begin
        assert np.array_equal(average, x[0] * round) and np.array_equal(got["x"], x * round)
        begin = round + 1
    assert len(checkpoint.listed(tmp_path)) <= 3
