"""kill -9 at any moment, of a rank, of the launcher, of all: the restart has the bits of the run that nothing befell.

MPILOCAL_KILLS sets how many there are.
"""

from __future__ import annotations

import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from plugins import running

from mpilocal.store import rundir

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("MPILOCAL_KILLS", "50"))
LANES = 2  # runs under fire at a time
SLOW = 0.015  # seconds of a round, so that the loop lasts about as long as the start
FILES = ("history.h5", "iterates.h5")


def variants() -> list[dict[str, Any]]:
    """Configs of about 1.5 s of rounds, with checkpoints all the while."""
    found = []
    for number, (partition, dtype, period) in enumerate(
        [("contiguous", "float64", 1), ("shared", "float32", 1), ("iid", "float64", 4)], 1
    ):
        table = running.table("slow")
        table["data"] = {"source": "synthetic:regression", "partition": partition}
        table["data"]["options"] = {"rows": 240, "features": 5000}  # checkpoints of some size
        table["algorithm"] |= {"rounds": 90, "iterate_average": ["uniform", "linear"], "step_size": 1e-4}
        table["output"] = {"record_every": number, "checkpoint_every": number, "keep": 4 - number, "iterates": True}
        table["run"]["dtype"] = dtype
        found.append({**table, "levels": period})
    return found


def save(table: dict[str, Any], path: Path) -> Path:
    file = running.write(path, {name: part for name, part in table.items() if name != "levels"})
    with file.open("a") as text:
        text.write(f'[[levels]]\ngroup = "world"\nperiod = {table["levels"]}\n')
    return file


class Range:
    """Counts the kills of all lanes."""

    def __init__(self) -> None:
        self.left = KILLS
        self.failed = False
        self.said: dict[str, int] = {}
        self._lock = threading.Lock()

    def open(self) -> bool:
        return self.left > 0 and not self.failed

    def note(self, *what: str) -> None:
        with self._lock:
            self.left -= 1
            for one in what:
                self.said[one] = self.said.get(one, 0) + 1


def wait(draw: random.Random, path: Path, process: Any) -> str:
    """Sleep until the moment of the kill; return how it was chosen."""
    moment = draw.choice(["any", "loop", "loop", "writing", "writing"])
    begin = time.monotonic()
    if moment == "any":  # before the run directory is there, during the start, …
        while time.monotonic() < begin + draw.uniform(0, 4) and process.poll() is None:
            time.sleep(0.01)
        return moment
    before = newest(path)
    while newest(path) == before and process.poll() is None:
        time.sleep(0.002)
    if moment == "loop":
        time.sleep(draw.uniform(0, 1))
        return moment
    end = time.monotonic() + draw.uniform(0, 1)
    while process.poll() is None:
        writing = [name for folder in (path, path / "checkpoints") for name in os.listdir(folder) if ".tmp-" in name]
        if writing and time.monotonic() > end:
            return moment
    return moment


def newest(path: Path) -> str:
    try:
        return max((name for name in os.listdir(path / "checkpoints") if name.startswith("round-")), default="")
    except FileNotFoundError:
        return ""


def hit(draw: random.Random, process: Any) -> str:
    """Kill; return what."""
    pids = running.members(process)
    target = draw.choice(["rank", "launcher", "all"])
    if target != "rank":
        running.kill(process.pid)
    if target != "launcher":
        for pid in draw.sample(pids, 1) if target == "rank" and pids else pids:
            running.kill(pid)
    process.communicate(timeout=running.LIMIT)
    running.gone(process)
    return target


def course(draw: random.Random, file: Path, whole: Path, path: Path, range: Range) -> int:
    """Run, kill and restart until the run is done or nothing may be shot any more; return the kills."""
    kills = 0
    while True:
        ranks = draw.choice([1, 2, 3])
        words = ["run", file, "-o", path, "--or-resume"]
        if newest(path) and draw.random() < 0.3:
            words = ["resume", path]
        shoot = range.open()
        with running.started(ranks, *words, slow=SLOW if shoot else 0.0) as process:
            if shoot:
                moment = wait(draw, path, process)
            if not shoot or process.poll() is not None:
                _, err = process.communicate(timeout=running.LIMIT)
                assert process.returncode == 0, (process.returncode, err)
                break
            target = hit(draw, process)
        if process.returncode == 0:  # done a moment before it was hit
            break
        kills += 1
        range.note(moment, target, f"{ranks} ranks")
        if rundir.holds_run(path):
            assert running.status(path) in ("interrupted", "done")
    assert rundir.status(path) == "done"
    running.assert_same_run(path, whole, FILES)
    assert not list(path.rglob(".*"))  # what the killed ones left has been swept away
    return kills


def test_kills(tmp_path):
    made = []
    for number, table in enumerate(variants()):
        file = save(table, tmp_path / f"{number}.toml")
        whole = tmp_path / f"whole-{number}"
        done = running.run(2, "run", file, "-o", whole)
        assert done.returncode == 0, done.stderr
        made.append((file, whole))
    seed = int(os.environ.get("MPILOCAL_SEED", time.time_ns() % 1_000_000))
    print(f"MPILOCAL_SEED={seed}")
    range = Range()

    def lane(number: int) -> list[int]:
        draw = random.Random(seed * LANES + number)
        kills = []
        try:
            while range.open():
                file, whole = draw.choice(made)
                kills.append(course(draw, file, whole, tmp_path / f"run-{number}-{len(kills)}", range))
        except BaseException:
            range.failed = True
            raise
        return kills

    with ThreadPoolExecutor(LANES) as pool:
        kills = [one for found in pool.map(lane, [*map(int, "01"[:LANES])]) for one in found]
    print(f"{sum(kills)} kills in {len(kills)} runs: {range.said}")
    assert sum(kills) >= KILLS


STUDY = """
title = "kills"
base = { data = { source = "synthetic:regression", options = { rows = 240, features = 40 } }, problem = { loss = "squared", l2 = 0.1, optimum = "auto" }, workers = { count = 6 }, algorithm = { rounds = 600, local_steps = 1, batch = 2, step_size = 0.1 }, output = { record_every = 20 } }
grid = [{ axes = { "algorithm.local_steps" = [1, 2, 4], "workers.count" = [3, 6] } }]
seeds = { report = [1, 2], tune = [11] }
tune = { key = "algorithm.step_size", values = [0.01, 0.02], quantity = { kind = "final" } }
"""  # noqa: E501


def test_a_study_that_is_killed_ten_times(tmp_path):
    """It ends with the results of one that was not, outside its timings."""
    file = tmp_path / "study.toml"
    file.write_text(STUDY)
    done = running.run(2, "study", file, "-o", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "out"
    seed = int(os.environ.get("MPILOCAL_SEED", time.time_ns() % 1_000_000))
    print(f"MPILOCAL_SEED={seed}")
    draw = random.Random(seed)

    def files() -> list[Path]:
        return sorted(path.glob("runs/*.h5"))

    kills = 0
    while kills < 10:
        before = len(files())
        with running.started(draw.choice([1, 2, 3]), "study", file, "-o", path) as process:
            early = draw.random() < 0.2
            while not early and len(files()) == before and process.poll() is None:
                time.sleep(0.02)
            time.sleep(draw.uniform(0, 0.3))
            if process.poll() is None:
                hit(draw, process)
                kills += 1
        assert len(files()) >= before  # what is finished is kept
        if process.returncode == 0:  # too quick: some of it again
            for one in draw.sample(files(), len(files()) // 2):
                one.unlink()
    done = running.run(3, "study", file, "-o", path)
    assert done.returncode == 0, done.stderr
    running.assert_same_file(path / "results.h5", tmp_path / "whole" / "results.h5")
    assert (path / "claims.txt").read_bytes() == (tmp_path / "whole" / "claims.txt").read_bytes()
    assert not [one for one in path.rglob("*") if ".tmp-" in one.name]


def test_two_at_once(tmp_path):
    """Restarted while another job is still there: that one has the folder, the second leaves with 6."""
    file = save({**variants()[0], "levels": 1}, tmp_path / "c.toml")
    path = tmp_path / "run"
    with running.started(2, "run", file, "-o", path, "--or-resume", slow=0.05) as first:
        running.until_round(path, 3, first)
        done = running.run(2, "run", file, "-o", path, "--or-resume")
        assert done.returncode == 6, done.stderr
        assert len(running.sentences(done.stderr)) == 1 and "is in use by pid" in done.stderr
