"""history.h5 and iterates.h5."""

from __future__ import annotations

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpilocal.config import kinds
from mpilocal.errors import DataError
from mpilocal.schedules import Records
from mpilocal.store.iterates import Iterates, read_iterates
from mpilocal.store.record import History, read_history


def rows(history, first, last):
    for round in range(first, last):
        history.append(
            {"round": round, "objective": 1 / (round + 1), "level1/averagings": np.int64(round), "consensus": 0.0},
            {"seconds": 0.5 * round, "ranks": 2},
        )


def test_history_on_disk(tmp_path):
    history = History(tmp_path / "history.h5", {"objective": ("J", "the objective")})
    rows(history, 0, 5)
    history.write()
    with h5py.File(tmp_path / "history.h5") as file:
        assert set(file) == {"round", "objective", "consensus", "level1", "timings"}
        assert file["round"].dtype == file["level1/averagings"].dtype == np.int64
        assert file["objective"].dtype == np.float64
        assert file["round"].is_scale and file["timings/round"].is_scale
        for name in ("objective", "consensus", "level1/averagings"):
            assert file[name].shape == (5,)
            assert file[name].dims[0][0] == file["round"]
        assert file["timings/seconds"].dims[0][0] == file["timings/round"]
        assert file["objective"].attrs["units"] == "J"
        assert file["level1/averagings"].attrs["description"] == "averagings of the level so far"
        assert file.attrs["creator"] == "mpilocal"
    got = read_history(tmp_path / "history.h5")
    assert got["objective"].tolist() == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    assert got["timings/ranks"].tolist() == [2] * 5
    assert {name: column.tolist() for name, column in history.columns().items()} == {
        name: column.tolist() for name, column in got.items()
    }
    assert os.listdir(tmp_path) == ["history.h5"]


@given(st.integers(0, 12), st.integers(1, 5))
def test_cut_and_continue_is_the_uninterrupted_one(tmp_path_factory, round, every):
    folder = tmp_path_factory.mktemp("history")
    whole = History(folder / "whole.h5")
    first = History(folder / "cut.h5")
    rows(whole, 0, 10)
    rows(first, 0, 8)
    first.write()
    second = History.read(folder / "cut.h5")
    second.cut(round, Records(kinds.Regular(rounds=every)))
    begin = min(round, 7) + 1
    begin -= (begin - 1) % every > 0
    assert len(second) == begin
    rows(second, begin, 10)
    second.write()
    whole.write()
    assert (folder / "cut.h5").read_bytes() == (folder / "whole.h5").read_bytes()


def test_rows_that_do_not_fit(tmp_path):
    history = History(tmp_path / "history.h5")
    rows(history, 0, 2)
    good = {"round": 2, "objective": 1.0, "level1/averagings": 3, "consensus": 0.0}
    with pytest.raises(ValueError, match="round 1 does not follow round 1"):
        history.append({**good, "round": 1})
    with pytest.raises(ValueError, match="column of integers"):
        history.append({**good, "level1/averagings": 0.5})
    with pytest.raises(DataError, match="are not those of this run"):
        history.append({"round": 2, "objective": 1.0})
    assert len(history) == 2
    history.append({**good, "objective": 1})
    assert len(history) == 3


def test_an_empty_history_and_no_history(tmp_path):
    History(tmp_path / "history.h5").write()
    assert read_history(tmp_path / "history.h5") == {}
    with pytest.raises(DataError, match="there is no history"):
        read_history(tmp_path / "none.h5")
    (tmp_path / "bad.h5").write_bytes(b"not HDF5" * 100)
    with pytest.raises(DataError, match="cannot read the history"):
        read_history(tmp_path / "bad.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = [1, 2]
    with pytest.raises(DataError, match="is not a history"):
        History.read(tmp_path / "other.h5")


def test_a_full_disk_leaves_the_old_history(tmp_path):
    code = """
import resource, sys
from mpilocal.store.record import History, read_history
from mpilocal.errors import DataError
history = History(sys.argv[1])
for round in range(100000):
    history.append({"round": round, "objective": 0.5})
    if round == 10:
        history.write()
resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000))
try:
    history.write()
except DataError as error:
    print(error)
assert len(read_history(sys.argv[1])["round"]) == 11
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "history.h5"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cannot write {tmp_path}/history.h5: File too large;")
    assert os.listdir(tmp_path) == ["history.h5"]


def test_iterates_grow_are_cut_and_resized(tmp_path):
    path = tmp_path / "iterates.h5"
    with Iterates.create(path, 3, 3) as iterates:
        assert iterates.capacity == 3
        for round in range(5):
            iterates.append(round, np.full(3, round / 7))
            got, x = read_iterates(path)
            assert got.tolist() == list(range(round + 1))
            assert np.array_equal(x, np.repeat(np.arange(round + 1) / 7, 3).reshape(-1, 3))
        assert iterates.capacity == 6
        with pytest.raises(ValueError, match="does not follow"):
            iterates.append(4, np.zeros(3))
        with pytest.raises(ValueError, match=r"\(2,\)"):
            iterates.append(5, np.zeros(2))
        iterates.cut(3, {0, 2})
        iterates.resize(4)
        with pytest.raises(ValueError, match="do not fit"):
            iterates.resize(2)
    with Iterates(path) as iterates:
        assert len(iterates) == 3
        iterates.append(7, np.ones(3))
        iterates.sync()
    with h5py.File(path) as file:
        assert file["round"][:].tolist() == [0, 1, 2, 7]
        assert file["x"].shape == (4, 3) and file["x"].dims[0][0] == file["round"]
    assert os.listdir(tmp_path) == ["iterates.h5"]


def test_iterates_that_are_none(tmp_path):
    for reader in (Iterates, read_iterates):
        with pytest.raises(DataError, match="the iterates"):
            reader(tmp_path / "none.h5")


def test_a_killed_writer_leaves_whole_records(tmp_path):
    path = tmp_path / "iterates.h5"
    code = """
import sys, numpy as np
from mpilocal.store.iterates import Iterates
iterates = Iterates(sys.argv[1])
print("open", flush=True)
for round in range(len(iterates), 10**9):
    iterates.append(round, np.full(1000, float(round)))
"""
    Iterates.create(path, 10, 1000).close()
    for pause in (0.0, 0.003, 0.01, 0.05):
        with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == "open\n"
            with pytest.raises(subprocess.TimeoutExpired):
                writer.wait(pause)
            writer.kill()
        rounds, x = read_iterates(path)
        assert rounds.tolist() == list(range(len(rounds)))
        assert (x == rounds[:, None]).all()
        with Iterates(path) as iterates:
            iterates.cut(len(rounds) // 2)
    assert len(rounds) > 10
