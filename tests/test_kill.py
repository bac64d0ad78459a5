"""kill -9 at any moment loses nothing: resumed on any number of ranks, a run ends with the bits of one left alone."""

from __future__ import annotations

import os
import random
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from plugins import running

KILLS = int(os.environ.get("MPILOCAL_KILLS", "50"))
LIVES = 5  # kills of one run, which then may end
ROUNDS = 40


def newest(path: Path) -> int:
    """The round of the newest checkpoint, −1 where there is none."""
    return max((int(file.stem[6:]) for file in path.glob("checkpoints/round-*.h5")), default=-1)


def wait_for_the_moment(dice: random.Random, path: Path, process: subprocess.Popen[str]) -> None:
    """Sleep into the start-up, or until some rounds on and then a moment more: into a round, or a write."""
    if dice.random() < 0.3:
        time.sleep(dice.uniform(0, 1.5))
        return
    goal = min(newest(path) + dice.randint(1, 8), ROUNDS - 2)
    deadline = time.monotonic() + running.LIMIT
    while newest(path) < goal and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(dice.uniform(0, 0.05))


def strike(dice: random.Random, process: subprocess.Popen[str]) -> bool:
    """Kill a rank, all ranks, or launcher and ranks; return whether the run was still alive."""
    victims = running.members(process)
    if not victims or process.poll() is not None:
        return False
    how = dice.choice(["rank", "ranks", "all"])
    for pid in [dice.choice(victims)] if how == "rank" else victims:
        running.kill(pid)
    if how == "all":
        process.kill()
    # Where one rank is gone the launcher ends the others: nothing may wait for ever.
    process.wait(60)
    running.gone(process)
    return True


def live(number: int, folder: Path, config: Path, kills: int) -> tuple[Path, int]:
    """Start a run, kill it `kills` times and let it end; return its folder and how often it was resumed in mid-run."""
    dice = random.Random(number)
    path = folder / f"run-{number}"
    resumed = 0
    while kills > 0:
        with running.started(dice.choice((1, 2, 3)), "run", config, "-o", path, "--or-resume", slow=0.03) as process:
            wait_for_the_moment(dice, path, process)
            if strike(dice, process):
                kills -= 1
                resumed += newest(path) > 0
            elif process.wait(60) == 0:
                break  # it got to its end first
    done = running.run(dice.choice((1, 2, 3)), "run", config, "-o", path, "--or-resume")
    assert done.returncode == 0, done.stderr
    return path, resumed


@pytest.mark.slow
def test_random_kills_change_no_bit(tmp_path: Path) -> None:
    table = running.table("slow")
    table["algorithm"] |= {"rounds": ROUNDS, "iterate_average": "uniform"}
    table["output"] = {"record_every": 2, "checkpoint_every": 1, "iterates": True}
    config = running.write(tmp_path / "config.toml", table)
    whole = tmp_path / "whole"
    assert running.run(1, "run", config, "-o", whole).returncode == 0
    shares = [min(LIVES, KILLS - at) for at in range(0, KILLS, LIVES)]
    with ThreadPoolExecutor(2) as pool:
        lives = list(pool.map(lambda item: live(item[0], tmp_path, config, item[1]), enumerate(shares)))
    for path, _ in lives:
        assert running.status(path) == "done"
        for name in ("history.h5", "iterates.h5", f"checkpoints/round-{ROUNDS:08d}.h5"):
            running.assert_same_file(whole / name, path / name)
    assert sum(resumed for _, resumed in lives) >= KILLS // 3  # they were no kills of the start-up only
