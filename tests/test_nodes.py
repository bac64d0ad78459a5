"""`group = "node"`: the workers of a host average together, however a launcher or SLURM places the ranks."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import h5py
import pytest
import ranks
from plugins import running
from slurm import Missing, cluster, fake_nodes, slurm_of_two_nodes  # noqa: F401  (a fixture)

# Prints, for each rank, the lowest rank on its host.
SPLIT = """
from mpi4py import MPI
world = MPI.COMM_WORLD
host = world.Split_type(MPI.COMM_TYPE_SHARED)
found = world.gather(min(host.allgather(world.rank)))
if world.rank == 0:
    print(found)
"""
BLOCKS, IN_TURN = [0, 0, 2, 2], [0, 1, 0, 1]
SIZES = {8: [4, 4], 5: [3, 2]}  # workers on each of two hosts, by workers, of two ranks each
ONCE = ("round", "step", "objective", "gradient_norm", "consensus")

mpi = (
    "openmpi"
    if "Open MPI" in subprocess.run(["mpiexec", "--version"], capture_output=True, text=True).stdout
    else "mpich"
)
pmi2 = pytest.mark.skipif(mpi != "mpich", reason="srun starts the Open MPI of PyPI through PMIx only")
placed = pytest.mark.parametrize("interleaved", [False, True], ids=["blocks", "in-turn"])


def launch(folder: Path, interleaved: bool, count: int, *args: object) -> subprocess.CompletedProcess[str]:
    """Run `python ARGS` on `count` ranks of two made-up hosts."""
    fake, reason = fake_nodes(mpi, 2, folder, interleaved)
    if fake is None:
        pytest.skip(reason)
    command = ["mpiexec", *fake.args, "-n", str(count), sys.executable, *map(str, args)]
    return ranks.run(command, env=fake.env)


def config(path: Path, form: Any, workers: int = 8, method: str = "local-sgd", **algorithm: Any) -> Path:
    """Write a config whose workers average in groups every round and all together every fourth."""
    table = running.table(method)
    table["workers"]["count"] = workers
    table["algorithm"] |= algorithm
    table["output"] = {"record_every": 3, "checkpoint_every": 1, "keep": 1000}
    running.write(path, table)
    form = f"{{ sizes = {form} }}" if isinstance(form, list) else json.dumps(form)
    levels = f'[[levels]]\ngroup = {form}\nperiod = 1\n[[levels]]\ngroup = "world"\nperiod = 4\n'
    path.write_text(path.read_text() + levels)
    return path


def single(*args: object) -> None:
    done = running.run(1, *args)
    assert done.returncode == 0, done.stderr


def group(run: Path) -> Any:
    return tomllib.loads((run / "config.toml").read_text())["levels"][0]["group"]


def average(run: Path, rounds: int) -> bytes:
    with h5py.File(run / "checkpoints" / f"round-{rounds:08d}.h5") as file:
        return file["average"][:].tobytes()


def assert_same_history(one: Path, two: Path) -> None:
    """Equal in every bit, save for the ledger, whose levels may have other names."""
    a, b = running.columns(one / "history.h5"), running.columns(two / "history.h5")
    for name in ONCE:
        assert a[name].tobytes() == b[name].tobytes(), name


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The run of 14 rounds on one rank, by workers, whose config gives the groups by number."""

    @functools.cache
    def made(workers: int) -> Path:
        folder = tmp_path_factory.mktemp("given")
        config(folder / "c.toml", 4 if workers == 8 else SIZES[workers], workers, rounds=14)
        single("run", folder / "c.toml", "-o", folder / "run")
        single("run", config(folder / "flat.toml", "world", workers, rounds=7), "-o", folder / "flat")
        assert average(folder / "run", 7) != average(folder / "flat", 7)  # groups matter here
        return folder / "run"

    return made


@placed
def test_the_ranks_of_made_up_hosts(tmp_path, interleaved):
    (tmp_path / "split.py").write_text(SPLIT)
    done = launch(tmp_path, interleaved, 4, tmp_path / "split.py")
    assert done.returncode == 0 and json.loads(done.stdout) == (IN_TURN if interleaved else BLOCKS), done


@pytest.mark.skipif(mpi != "mpich", reason="a variable of MPICH")
def test_the_odd_and_the_even_ranks(tmp_path):
    command = ["mpiexec", "-n", "4", sys.executable, "-c", SPLIT]
    done = ranks.run(command, env={"MPIR_CVAR_ODD_EVEN_CLIQUES": "1"})
    assert done.returncode == 0 and json.loads(done.stdout) == IN_TURN, done


@pytest.mark.slow
@placed
@pytest.mark.parametrize("workers", [8, 5])
def test_the_hosts_are_resolved_once(tmp_path, given, interleaved, workers):
    """Into sizes that resume keeps on one rank and on other hosts; the bits are those of the sizes on one rank."""
    run, file = tmp_path / "run", config(tmp_path / "c.toml", "node", workers, rounds=7)
    done = launch(tmp_path, interleaved, 4, "-m", "mpilocal", "run", file, "-o", run)
    assert done.returncode == 0, done.stderr
    assert group(run) == {"sizes": SIZES[workers]}
    assert average(run, 7) == average(given(workers), 7)  # round 7 lies between two averagings of all
    single("resume", run, "-s", "algorithm.rounds=11")
    assert group(run) == {"sizes": SIZES[workers]}
    assert average(run, 11) == average(given(workers), 11)
    # Three ranks on these hosts would have other sizes.
    done = launch(tmp_path, interleaved, 3, "-m", "mpilocal", "resume", run, "-s", "algorithm.rounds=14")
    assert done.returncode == 0, done.stderr
    assert group(run) == {"sizes": SIZES[workers]}
    assert average(run, 14) == average(given(workers), 14)
    assert_same_history(run, given(workers))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_one_host(tmp_path, count):
    run = tmp_path / "run"
    done = running.run(count, "run", config(tmp_path / "c.toml", "node"), "-o", run)
    assert done.returncode == 0, done.stderr
    assert group(run) == {"sizes": [8]}


@pmi2
def test_the_ranks_of_slurm(tmp_path, slurm):
    for options, expected in ((["--mpi=pmi2"], BLOCKS), (["--mpi=pmi2", "--distribution=cyclic"], IN_TURN)):
        done = slurm.srun([sys.executable, "-c", SPLIT], ntasks=4, nodes=2, options=options)
        assert done.returncode == 0 and json.loads(done.stdout) == expected, done


@pmi2
@pytest.mark.slow
@pytest.mark.parametrize("distribution", ["block", "cyclic"])
@pytest.mark.parametrize("workers", [8, 5])
def test_the_nodes_of_slurm(tmp_path, slurm, given, workers, distribution):
    run, file = tmp_path / "run", config(tmp_path / "c.toml", "node", workers, rounds=14)
    program = [sys.executable, "-m", "mpilocal", "run", file, "-o", run]
    done = slurm.srun(program, ntasks=4, nodes=2, options=["--mpi=pmi2", f"--distribution={distribution}"])
    assert done.returncode == 0, done.stderr
    assert group(run) == {"sizes": SIZES[workers]}
    assert average(run, 7) == average(given(workers), 7) and average(run, 14) == average(given(workers), 14)
    assert_same_history(run, given(workers))


ROUNDS = 60
JOB = """#!/bin/bash
#SBATCH --nodes=2
#SBATCH --ntasks=4
#SBATCH --requeue
export SLOW=0.02
srun --mpi=pmi2 {python} -m mpilocal run {config} -o {run} --or-resume
status=$?
echo "status $status"
if [ "$status" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60
fi
exit "$status"
"""


@pmi2
@pytest.mark.slow
def test_a_batch_job_that_is_stopped_and_requeued(tmp_path, slurm):
    """The script of docs/cluster.md: SIGUSR1 to the ranks, status 75, requeue, and the same bits in the end."""
    run, alone = tmp_path / "run", tmp_path / "alone"
    file = config(tmp_path / "n.toml", "node", method="slow", rounds=ROUNDS)
    script = tmp_path / "job.sh"
    script.write_text(JOB.format(python=sys.executable, config=file, run=run))
    job = slurm.sbatch(script)
    slurm.until(lambda: any((run / "checkpoints").glob("round-0000001?.h5")), job)
    slurm.call("scancel", "--signal=USR1", str(job))
    ended = slurm.wait(job)
    said = script.with_suffix(".out").read_text()
    assert (ended.state, ended.status, ended.restarts) == ("COMPLETED", 0, 1), said
    assert [line for line in said.splitlines() if line.startswith("status")] == ["status 75", "status 0"], said
    history = tomllib.loads((run / "config.toml").read_text())["history"]
    assert [one["status"] for one in history] == ["stopped", "done"] and 0 < history[0]["round"] < ROUNDS
    assert group(run) == {"sizes": [4, 4]}
    single("run", config(tmp_path / "s.toml", 4, method="slow", rounds=ROUNDS), "-o", alone)
    assert average(run, ROUNDS) == average(alone, ROUNDS)
    assert_same_history(run, alone)


def test_slurm_leaves_nothing(tmp_path):
    """Neither the daemons nor a job that is still running."""
    try:
        with cluster() as slurm:
            script = tmp_path / "job.sh"
            script.write_text("#!/bin/sh\nsrun --ntasks=1 sleep 100\n")
            job = slurm.sbatch(script)
            slurm.until(lambda: slurm.facts(job)["JobState"] == "RUNNING", job)
            assert len(slurm.left()) > 4
    except Missing as reason:
        pytest.skip(str(reason))
    assert slurm.left() == [] and not slurm.conf.parent.exists()
