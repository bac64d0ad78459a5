"""mpilocal run and resume: from start to extension, the ways to end early, and one sentence per error."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
import ranks
from cli_helpers import JOBS, make_job, said, single

from mpilocal import show

PLUGIN = """
def alone(labels, users, first, total, workers, seed, comm):
    if comm.rank == comm.size - 1:
        raise KeyError("a fault of\\nmine")
    comm.Barrier()
"""


@pytest.fixture
def job(tmp_path):
    return make_job(tmp_path)


@pytest.mark.slow
def test_a_run_from_its_start_to_its_extension(job, mpiexec):
    run = job.parent / "run"
    done = mpiexec(2, "run", job, "-o", run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mpilocal ") and done.stdout.count("4 on 2 ranks × 1 thread") == 1
    assert "Level 1: 20 averagings, 80 vectors, 2,560 bytes, as the closed form says ✓" in done.stdout
    assert "local steps" in done.stdout and "samples/s" in done.stdout and str(run) in done.stdout
    assert "round 0/20" in done.stderr and "round 20/20" in done.stderr
    begun = f"{job} → {run}: local-sgd, 20 rounds, 4 workers on 2 ranks\n"
    assert done.stderr.count(begun) == 1 and done.stderr.index(begun) < done.stderr.index("round 0/20")
    again = mpiexec(2, "run", job, "-o", run)
    assert again.returncode == 2 and len(said(again)) == 1 and "holds a run" in again.stderr
    assert "local-sgd" not in again.stderr
    assert single("run", job, "-o", run, "--or-resume").returncode == 0
    longer = single("resume", run, "-s", "algorithm.rounds=30")
    assert longer.returncode == 0 and "done at round 30 of 30" in longer.stdout, longer.stderr
    assert longer.stderr.startswith(f"{run}: local-sgd, 30 rounds, 4 workers on 1 rank\n")
    refused = single("resume", run, "-s", "run.seed=7")
    assert refused.returncode == 2 and len(said(refused)) == 1 and "run.seed was 1" in refused.stderr
    assert "local-sgd" not in refused.stderr


def test_what_begins_is_said_before_the_data_are_read(job):
    done = single("run", job, "-o", job.parent / "run", "-s", "data.source=nowhere.txt", "-s", 'workers.count="ranks"')
    assert done.returncode == 4 and len(said(done)) == 1
    assert done.stderr.startswith(f"{job} → {job.parent / 'run'}: local-sgd, 20 rounds, 1 worker on 1 rank\nmpilocal: ")


def test_shared_rows_are_quiet(job, mpiexec):
    done = mpiexec(2, "run", job, "-o", job.parent / "run", "-s", "data.partition=shared")
    assert done.returncode == 0, done.stderr
    assert all("local-sgd" in line or line.startswith("round ") for line in done.stderr.splitlines()), done.stderr


def test_default_output_and_or_resume(job):
    done = single("run", job, cwd=job.parent)
    assert done.returncode == 0, done.stderr
    (run,) = (job.parent / "runs").iterdir()
    assert run.name.startswith("job-") and (run / "config.toml").exists()
    done = single("run", job, "--or-resume", cwd=job.parent)
    assert done.returncode == 2 and said(done) == [
        "mpilocal: --or-resume needs the folder of the run: name it with -o RUN"
    ]


@pytest.mark.parametrize(
    ("count", "settings", "status", "sentence"),
    [
        (3, ["algorithm.roundz=3"], 2, "roundz"),
        (3, ["workers.count=2"], 2, "less than the 3 ranks"),
        (2, ["data.source=nowhere.txt"], 4, "nowhere.txt"),
        (2, ["algorithm.step_size=1e200", "problem.loss=squared"], 5, "not finite at round 1"),
        (1, ["data.source=job.toml"], 4, "job.toml"),
    ],
)
def test_errors_are_said_once(count, settings, status, sentence, job, mpiexec):
    words = [word for setting in settings for word in ("-s", setting)]
    done = mpiexec(count, "run", job, "-o", job.parent / "run", *words)
    assert done.returncode == status, done.stderr
    assert len(said(done)) == 1 and sentence in said(done)[0]


def test_an_exception_on_one_rank_ends_the_job(job, mpiexec):
    (job.parent / "plugin.py").write_text(PLUGIN)
    done = mpiexec(3, "run", job, "-o", job.parent / "run", "-s", "data.partition=plugin.py:alone", timeout=60)
    assert done.returncode != 0
    (line,) = said(done)
    assert line.startswith("mpilocal: rank 2 on ") and "KeyError: 'a fault of\\nmine'" in line and "--debug" in line


def test_time_limit(job, mpiexec):
    many = ["-s", "algorithm.rounds=10000000", "-s", "output.record_every=100000"]
    done = mpiexec(2, "run", job, "-o", job.parent / "run", "--max-time", "0:03", *many)
    assert done.returncode == 75, done.stderr
    assert len(said(done)) == 1 and "by the time limit; `mpilocal resume" in said(done)[0]
    assert show.facts(job.parent / "run")["status"] == "stopped"


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS"])
def test_singletons_are_refused(variable, job):
    environment = {variable: "4", **({"SLURM_PROCID": "0"} if variable == "SLURM_NTASKS" else {})}
    done = single("run", job, "-o", job.parent / "run", env=environment)
    assert done.returncode == 6, done.stderr
    assert len(said(done)) == 1 and f"4 processes ({variable} = 4) but MPI sees 1 rank" in done.stderr
    assert not (job.parent / "run").exists()
    if variable == "SLURM_NTASKS":
        assert single("run", job, "-o", job.parent / "run", "--singleton", env=environment).returncode == 0


def test_interrupt_is_quiet(job):
    command = [sys.executable, "-m", "mpilocal", "run", job, "-o", job.parent / "run"]
    command += ["-s", "algorithm.rounds=10000000", "-s", "output.record_every=100000"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ranks.unlaunched()
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline().startswith("mpilocal ")
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130 and "Traceback" not in err and "mpilocal:" not in err


@pytest.mark.slow
def test_demo(tmp_path, mpiexec):
    pytest.importorskip("sklearn")
    done = mpiexec(2, "run", JOBS / "demo.toml", "-o", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    facts = show.facts(tmp_path / "demo")
    assert facts["status"] == "done" and facts["suboptimality"] < 1e-3
    assert facts["suboptimality_quadratic"] < 1e-4 and facts["suboptimality_certified"] < 1e-3
    assert "as the closed form says ✓" in done.stdout
    pytest.importorskip("matplotlib")
    assert (tmp_path / "demo" / "figure.svg").exists()


@pytest.mark.slow
def test_w8a(tmp_path, data, mpiexec):
    made = mpiexec(2, "data", "convert", data / "libsvm" / "w8a.gz", tmp_path / "w8a.h5")
    assert made.returncode == 0, made.stderr
    done = mpiexec(2, "run", JOBS / "w8a.toml", "-o", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = show.facts(tmp_path / "run")
    assert facts["optimum"] == pytest.approx(0.126180686510513, abs=1e-12)
    assert facts["suboptimality"] < 0.02 and facts["bytes"] == 500 * 16 * 300 * 8
