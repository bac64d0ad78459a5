"""A run resumed anywhere, on any number of ranks, as often as you like, has the bits of one that never stopped."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import helpers
import numpy as np
import pytest
from plugins import running

import mpilocal
from mpilocal.errors import CheckpointError, ConfigError, DataError
from mpilocal.session import Controls
from mpilocal.store import rundir

PROBLEMS = ["dense-logistic", "sparse-logistic", "dense-shared"]  # of at least 3 workers
OUTPUT = {"checkpoint_every": 1, "keep": 1000, "record_every": 2, "iterates": True}
FILES = ("history.h5", "iterates.h5")


def cases():
    """Name and config of every method on dense and sparse rows, and what else has a state of its own."""
    for problem in PROBLEMS:
        for method in helpers.METHODS:
            for dtype in ("float64", "float32") if problem == PROBLEMS[0] else ("float64",):
                table = helpers.config(problem, method, run={"dtype": dtype}, output=OUTPUT)
                yield f"{problem}-{method}-{dtype}", table
    for problem in ("dense-logistic", "sparse-logistic"):
        for workers in (6, 23):
            for average in ("last", helpers.AVERAGES):
                algorithm = {"rounds": 7, "iterate_average": average}
                table = helpers.config(
                    problem, "local-sgd", algorithm=algorithm, output=OUTPUT, workers={"count": workers}
                )
                yield (
                    f"{problem}-{workers}-workers-{len(average)}-period",
                    {**table, "levels": [{"group": "world", "period": 3}]},
                )
    geometric = {**OUTPUT, "record_every": {"kind": "geometric", "ratio": 1.5}}
    yield "geometric-records", helpers.config("dense-logistic", "local-sgd", algorithm={"rounds": 7}, output=geometric)
    for aggregation in ("mean", "halpern", "dykstra"):
        table = helpers.config("dense-logistic", "local-sgd", output=OUTPUT)
        table["data"] = {"source": "synthetic:separable", "options": {"rows": 24, "features": 6, "seed": 1}}
        options = {"options": {"aggregation": aggregation}}
        table["algorithm"] = {"name": "local-projection", "rounds": 6, "step_size": 1.0, **options}
        yield f"local-projection-{aggregation}", table
    for average in ("last", ["uniform"]):  # more workers than one limb carries: their mean is streamed
        for period in (1, 2):
            table = running.table()
            table["workers"]["count"] = 100
            table["algorithm"] |= {"rounds": 6, "iterate_average": average}
            levels = {"levels": [{"group": "world", "period": period}]}
            yield f"100-workers-{len(average)}-{period}", {**table, "output": OUTPUT, **levels}


def forget(path: Path, copy: Path, rounds: int) -> None:
    """Copy a run as a kill after the checkpoint of `rounds` would have left it at the latest."""
    shutil.copytree(path, copy)
    for file in copy.glob("checkpoints/round-*.h5"):
        if int(file.stem[6:]) > rounds:
            file.unlink()


@pytest.mark.slow
@pytest.mark.parallel(3, timeout=560)
def test_from_any_round_on_any_number_of_ranks(tmp_path):
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    one = world.rank == 2
    comm = world.Split(int(one), world.rank)  # two ranks, and one
    for number, (name, config) in enumerate(cases()):
        path, rounds = tmp_path / name, config["algorithm"]["rounds"]
        whole = mpilocal.run(config, comm=world, output=path)
        assert (whole.status, whole.round) == ("done", rounds)
        at = (number * (2 - one)) % rounds
        copy = tmp_path / f"{name}-from-{at}-on-{comm.size}"
        if comm.rank == 0:
            forget(path, copy, at)
        comm.Barrier()
        again = mpilocal.resume(copy, comm=comm, overrides=["run.threads=2"] if number % 5 == 0 else [])
        assert (again.status, again.round) == ("done", rounds)
        if comm.rank == 0:
            running.assert_same_run(path, copy, FILES)
        assert again.average.tobytes() == whole.average.tobytes(), name
        for column, values in whole.history.items():
            if not column.startswith("timings/"):
                assert again.history[column].tobytes() == values.tobytes(), (name, column)
        world.Barrier()
        if world.rank == 0:
            shutil.rmtree(path)
        if comm.rank == 0:
            shutil.rmtree(copy)


@pytest.mark.parallel([1, 3])
def test_extension_is_one_long_run(tmp_path):
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    table = running.table()
    table["algorithm"] |= {"rounds": 17, "iterate_average": ["uniform", "quadratic"]}
    table["output"] = {"record_every": 5, "checkpoint_every": 4, "iterates": True}
    mpilocal.run(table, comm=comm, output=tmp_path / "long")
    table["algorithm"]["rounds"] = 7  # neither recorded nor checkpointed, but as the last one
    first = mpilocal.run(table, comm=comm, output=tmp_path / "short")
    assert first.history["round"].tolist() == [0, 5, 7]
    longer = mpilocal.resume(tmp_path / "short", comm=comm, overrides=["algorithm.rounds=11"])
    assert longer.history["round"].tolist() == [0, 5, 10, 11]
    last = mpilocal.resume(tmp_path / "short", comm=comm, overrides=["algorithm.rounds=17"])
    assert last.history["round"].tolist() == [0, 5, 10, 15, 17]
    if comm.rank == 0:
        running.assert_same_run(tmp_path / "short", tmp_path / "long", FILES)
        entries = rundir.read_run(tmp_path / "short").history
        assert [one["round"] for one in entries] == [7, 11, 17] and {one["status"] for one in entries} == {"done"}
    comm.Barrier()
    with pytest.raises(ConfigError, match="is less than the 17 rounds of the newest checkpoint"):
        mpilocal.resume(tmp_path / "short", comm=comm, overrides=["algorithm.rounds=16"])


def contents(path):
    return {
        file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != "lock"
    }


@pytest.mark.parallel([1, 2])
def test_a_finished_run_is_left_as_it_is(tmp_path):
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    table = running.table()
    table["output"] = {"record_every": 5, "checkpoint_every": 3, "iterates": True}
    done = mpilocal.run(table, comm=comm, output=tmp_path / "run")
    before = contents(tmp_path / "run")
    comm.Barrier()
    for again in (
        mpilocal.resume(tmp_path / "run", comm=comm),
        mpilocal.run(table, comm=comm, output=tmp_path / "run", or_resume=True),
    ):
        assert (again.status, again.round) == ("done", 8)
        assert again.average.tobytes() == done.average.tobytes()
        assert {name: column.tolist() for name, column in again.history.items()} == {
            name: column.tolist() for name, column in done.history.items()
        }
    comm.Barrier()
    assert contents(tmp_path / "run") == before
    # Killed between the last checkpoint and the word that it is done: nothing of the history goes.
    comm.Barrier()
    config = tmp_path / "run" / "config.toml"
    if comm.rank == 0:
        config.write_text(config.read_text().replace('status = "done"', 'status = "interrupted"'))
    comm.Barrier()
    again = mpilocal.resume(tmp_path / "run", comm=comm)
    assert again.history["round"].tolist() == [0, 5, 8]
    if comm.rank == 0:
        assert rundir.status(tmp_path / "run") == "done"
    comm.Barrier()


@pytest.mark.parallel([1, 2])
def test_criteria(tmp_path):
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    table = running.table()
    table["algorithm"] |= {"rounds": 400, "batch": "all", "step_size": 0.02}
    table["output"] = {"record_every": 3, "checkpoint_every": 7, "keep": 100, "iterates": True}
    mpilocal.run(table, comm=comm, output=tmp_path / "free", overrides=["algorithm.rounds=60"])
    free = mpilocal.load(tmp_path / "free").history
    norm = float(free["gradient_norm"][10])  # of round 30
    stop = f"stop.gradient_norm={norm!r}"
    ended = mpilocal.run(table, comm=comm, output=tmp_path / "run", overrides=[stop])
    assert (ended.status, ended.round) == ("done", 30) and "stop.gradient_norm" in ended.reason
    before = contents(tmp_path / "run")
    comm.Barrier()
    again = mpilocal.resume(tmp_path / "run", comm=comm)
    assert (again.status, again.round) == ("done", 30) and "stop.gradient_norm" in again.reason
    assert again.history["round"].tolist() == list(range(0, 31, 3))
    comm.Barrier()
    assert contents(tmp_path / "run") == before
    # From an earlier checkpoint it ends there again; a lower limit lets it go on as if nothing had been.
    if comm.rank == 0:
        forget(tmp_path / "run", tmp_path / "cut", 21)
    comm.Barrier()
    assert mpilocal.resume(tmp_path / "cut", comm=comm).round == 30
    if comm.rank == 0:
        running.assert_same_run(tmp_path / "run", tmp_path / "cut", FILES)
    comm.Barrier()
    later = ["stop.gradient_norm=1e-300", "algorithm.rounds=60"]
    assert mpilocal.resume(tmp_path / "run", comm=comm, overrides=later).round == 60
    if comm.rank == 0:
        running.assert_same_run(tmp_path / "run", tmp_path / "free", FILES)
    comm.Barrier()
    # Seconds of the loop add up over resumes.
    ended = mpilocal.run(table, comm=comm, output=tmp_path / "time", overrides=["stop.seconds=1e-9"])
    assert (ended.status, ended.round, ended.reason) == ("done", 1, "stop.seconds")
    again = mpilocal.resume(tmp_path / "time", comm=comm)
    assert (again.status, again.round, again.reason) == ("done", 1, "stop.seconds")
    more = ["stop.seconds=1e9", "algorithm.rounds=60"]
    assert mpilocal.resume(tmp_path / "time", comm=comm, overrides=more).round == 60
    if comm.rank == 0:
        running.assert_same_run(tmp_path / "time", tmp_path / "free", FILES)


@pytest.mark.parallel([1, 2])
def test_time_limit_of_a_user_s_program(tmp_path):
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    table = running.table()
    mpilocal.run(table, comm=comm, output=tmp_path / "whole")
    for number in range(4):
        path = tmp_path / "run"
        controls = Controls(time.monotonic() - 1, max_time=0.5 if number < 3 else None)
        result = mpilocal.run(table, comm=comm, output=path, or_resume=True, controls=controls)
        assert (result.status, result.round) == (("stopped", number + 1) if number < 3 else ("done", 8))
    if comm.rank == 0:
        running.assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parallel([1, 3])
def test_what_cannot_be_resumed(tmp_path):
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    rows = tmp_path / "rows.txt"
    if comm.rank == 0:
        rows.write_text("".join(f"{i % 2} 1:{i % 7} 2:{i % 3}\n" for i in range(30)))
    comm.Barrier()
    table = running.table()
    table["data"] = {"source": str(rows)}
    table["algorithm"]["iterate_average"] = "tail"
    path = tmp_path / "run"
    mpilocal.run(table, comm=comm, output=path)
    resume = lambda *more: mpilocal.resume(path, comm=comm, overrides=more)  # noqa: E731
    with pytest.raises(ConfigError, match="the tail average"):
        resume("algorithm.rounds=20")
    for override in ("run.seed=2", "workers.count=5", "problem.l2=0.5", 'data.partition="iid"', "algorithm.batch=3"):
        with pytest.raises(ConfigError, match="cannot become"):
            resume(override)
        with pytest.raises(ConfigError, match="cannot become"):
            mpilocal.run(table, comm=comm, output=path, or_resume=True, overrides=[override])
    with pytest.raises(ConfigError, match=r"levels was .* cannot become .*node"):
        grouped = {**running.table(), "levels": [{"group": 2}, {"group": "world"}]}
        mpilocal.run(grouped, comm=comm, output=tmp_path / "grouped")
        grouped["levels"][0]["group"] = "node"
        mpilocal.run(grouped, comm=comm, output=tmp_path / "grouped", or_resume=True)
    with pytest.raises(ConfigError, match="holds a run"):
        mpilocal.run(table, comm=comm, output=path)
    with pytest.raises(DataError, match="there is no run in"):
        mpilocal.resume(tmp_path / "none", comm=comm)

    # Damage: the newest checkpoint, then all of them, then the data.
    files = sorted(path.glob("checkpoints/round-*.h5"))
    warnings: list[str] = []
    if comm.rank == 0:
        shutil.copytree(path, tmp_path / "whole")
        os.truncate(files[-1], 700)
    comm.Barrier()
    result = mpilocal.resume(path, comm=comm, controls=Controls(time.monotonic(), warn=warnings.append))
    assert result.status == "done"
    if comm.rank == 0:
        assert len(warnings) == 1 and f"{files[-1].name} is damaged" in warnings[0] and files[-2].name in warnings[0]
        running.assert_same_run(path, tmp_path / "whole")
    comm.Barrier()
    if comm.rank == 0:
        for file in sorted(path.glob("checkpoints/round-*.h5")):
            file.write_bytes(file.read_bytes()[:-1] + b"?")
    comm.Barrier()
    with pytest.raises(CheckpointError, match="no checkpoint in .* is usable"):
        resume()
    path = tmp_path / "whole"
    if comm.rank == 0:
        rows.write_text(rows.read_text().replace("1:6", "1:5"))
    comm.Barrier()
    with pytest.raises(DataError, match="is not the data that the run began with"):
        resume()


@pytest.mark.parallel([1, 2])
def test_workers_of_the_ranks_are_kept(tmp_path):
    """`count = "ranks"` is resolved once; the restart command of a batch script then goes on with it."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    table = running.table()
    table["workers"]["count"] = "ranks"
    past = Controls(time.monotonic() - 1, max_time=0.5)
    mpilocal.run(table, comm=comm, output=tmp_path / "run", controls=past)
    result = mpilocal.run(table, comm=comm, output=tmp_path / "run", or_resume=True)
    assert (result.status, result.config.workers.count) == ("done", comm.size)
    if comm.rank == 0:
        alone = mpilocal.resume(tmp_path / "run")
        assert np.array_equal(alone.average, result.average)
