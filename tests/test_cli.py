"""The command line: parsing, show, the data verbs, warm, and errors without MPI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import JOBS, make_job, said, single
from hypothesis import given
from hypothesis import strategies as st

import mpilocal
from mpilocal import config as configs
from mpilocal import show
from mpilocal.cli import launch, launcher, main, output, parser
from mpilocal.errors import DataError


@pytest.fixture
def job(tmp_path):
    return make_job(tmp_path)


@pytest.mark.parametrize("verb", ["", "run", "resume", "show", "warm", "doctor", "data", "data convert", "data info"])
def test_help_has_an_example(verb, capsys):
    assert main([*verb.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "usage: mpilocal" in shown
    assert verb == "data" or f"mpilocal {verb or 'run'} " in shown.partition("options:")[2] + shown.partition("\n\n")[2]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "the following arguments are required: VERB"),
        (["rum"], "invalid choice: 'rum'"),
        (["run"], "the following arguments are required: CONFIG; see `mpilocal run --help`"),
        (["run", "a.toml", "-s", "a=1", "b=2"], "b=2 (write -s before each key=value)"),
        (["run", "a.toml", "--max-time", "1:70"], '"1:70" is not a time: write seconds, MM:SS'),
        (["data", "convert", "a", "b", "--features", "0"], '"0" is not a whole number of at least 1'),
    ],
)
def test_usage(words, sentence, capsys, monkeypatch):
    for name in launcher.RANKS:
        monkeypatch.delenv(name, raising=False)
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert sentence in shown.err and shown.err.count("\n") == 1 and shown.err.startswith("mpilocal: ")
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setattr(output, "LINGER", 0.0)
    assert main(words) == 2
    assert capsys.readouterr().err == ""  # the first process has spoken


@given(st.integers(0, 30), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_durations(days, hours, minutes, seconds):
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    assert parser.duration(f"{days}-{hours:02d}:{minutes:02d}:{seconds:02d}") == total
    assert parser.duration(f"{hours + 24 * days}:{minutes}:{seconds}") == total
    assert parser.duration(str(total)) == total


def test_what_the_launcher_says():
    assert launcher.rank({}) == 0 and launcher.launched({}) is None
    inside = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "7", "SLURM_JWT": "secret"}
    assert launcher.launched(inside) == (8, "SLURM_NTASKS")
    assert launcher.launched({"SLURM_NTASKS": "8"}) == (8, "SLURM_NTASKS")
    hydra = {**inside, "PMI_RANK": "3", "PMI_SIZE": "4"}
    assert launcher.rank(hydra) == 3 and launcher.launched(hydra) == (4, "PMI_SIZE")
    assert launcher.variables(hydra) == {name: hydra[name] for name in sorted(hydra) if name != "SLURM_JWT"}


def test_ucx_makes_windows_only_where_it_is_asked_for(monkeypatch):
    variable = "OMPI_MCA_osc"
    monkeypatch.setenv(variable, "ucx")
    launch._quiet_windows("Open MPI v5.0.11, package: …")
    assert os.environ[variable] == "ucx"
    monkeypatch.delenv(variable)
    launch._quiet_windows("MPICH Version:      5.0.2")
    assert variable not in os.environ
    launch._quiet_windows("Open MPI v5.0.11, package: …")
    assert os.environ[variable] == "^ucx"


def test_an_error_without_mpi_is_one_sentence(tmp_path, capsys):
    assert main(["show", str(tmp_path)]) == 4
    assert capsys.readouterr().err.startswith(f"mpilocal: there is no run in {tmp_path}: ")
    assert main(["data", "info", str(tmp_path / "none")]) == 4
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["show", str(tmp_path), "--debug"]) == 4
    assert "Traceback" in capsys.readouterr().err

    def fail():
        raise ZeroDivisionError("by\nnothing")

    def interrupt():
        raise KeyboardInterrupt

    assert output.alone(fail, False) == 1
    assert capsys.readouterr().err == "mpilocal: ZeroDivisionError: by nothing (--debug shows the traceback)\n"
    assert output.alone(interrupt, False) == 130
    assert capsys.readouterr().err == ""


def test_show(job, capsys):
    result = mpilocal.run(job, output=job.parent / "run")
    assert main(["show", str(job.parent / "run"), "--json"]) == 0

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    facts = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert facts["status"] == "done" and facts["round"] == facts["rounds"] == facts["recorded_round"] == 20
    assert facts["suboptimality"] is None and facts["workers"] == 4 and facts["ranks"] == 1
    assert facts["objective"] == result.history["objective"][-1]
    assert facts["gradient_norm"] == result.history["gradient_norm"][-1]
    assert facts["suboptimality_bound"] == pytest.approx(facts["gradient_norm"] ** 2 / 0.2)
    assert facts["samples"] == 20 * 4 * 4 * 2
    assert facts["samples_per_second"] == pytest.approx(facts["samples"] / facts["seconds"])
    assert facts["bytes"] == facts["levels"][0]["expected_bytes"] == 20 * 4 * 4 * 8
    assert facts["resolved"]["labels"] == {"-1": -1, "1": 1} and len(facts["launches"]) == 1

    assert main(["show", str(job.parent / "run")]) == 0
    shown = capsys.readouterr().out
    assert "done at round 20 of 20" in shown and "24 rows × 4 features, sparse" in shown
    assert "loose bound" in shown and "-1 → -1, 1 → +1" in shown

    other = mpilocal.run(job, output=job.parent / "other", overrides=["algorithm.step_size=0.01"])
    assert main(["show", str(job.parent / "run"), "--against", str(job.parent / "other"), "--json"]) == 0
    apart = json.loads(capsys.readouterr().out)["against"]
    x, y = result.average, other.average
    error = np.linalg.norm(x / np.linalg.norm(x) - y / np.linalg.norm(y))
    assert apart["direction_error"] == pytest.approx(error, rel=1e-12) and error > 0
    assert apart["distance"] == pytest.approx(np.linalg.norm(x - y), rel=1e-12)
    assert main(["show", str(job.parent / "run"), "--against", str(job.parent / "run")]) == 0
    assert "direction error 0, distance 0" in capsys.readouterr().out
    narrow = {"source": "sklearn:breast_cancer"}
    mpilocal.run(
        {"data": narrow, "workers": {"count": 2}, "algorithm": {"rounds": 1, "step_size": 0.1}},
        output=job.parent / "narrow",
    )
    assert main(["show", str(job.parent / "run"), "--against", str(job.parent / "narrow")]) == 4
    assert "compare runs of one problem" in capsys.readouterr().err

    (job.parent / "run" / "history.h5").unlink()
    assert main(["show", str(job.parent / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["objective"] is None
    with pytest.raises(DataError, match="there is no run"):
        show.facts(job.parent)


def test_optimum_is_shown(job, capsys):
    mpilocal.run(job, output=job.parent / "run", overrides=["problem.optimum=0.25"])
    assert main(["show", str(job.parent / "run")]) == 0
    shown = capsys.readouterr().out
    assert "0.25, given" in shown and "suboptimality" in shown and "loose" not in shown


def test_a_reader_that_leaves_is_no_error(job):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "mpilocal", "data", "info", "rows.txt"],
            stdout=writing, stderr=subprocess.PIPE, text=True, cwd=job.parent, timeout=120, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_data_verbs(job, mpiexec, capsys):
    done = mpiexec(2, "data", "convert", job.parent / "rows.txt", job.parent / "rows.h5", "--features", "6")
    assert done.returncode == 0 and "24 rows × 6 features, sparse" in done.stdout, done.stderr
    made = single("data", "make", "regression", job.parent / "toy.h5", "-s", "rows=10", "-s", "features=3", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["rows"] == 10
    for name, features in (("rows.h5", 6), ("toy.h5", 3)):
        assert main(["data", "info", str(job.parent / name), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["features"] == features
    assert main(["data", "info", str(job.parent / "rows.h5")]) == 0
    assert "2 different (-1: 8, 1: 16)" in capsys.readouterr().out
    wrong = single("data", "make", "regresion", job.parent / "toy.h5")
    assert wrong.returncode == 2 and len(said(wrong)) == 1 and "regression" in wrong.stderr


@pytest.mark.slow
def test_warm(job):
    done = single("warm", job, "--json")
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["cache"]).is_dir()
    assert "The kernels are in " in single("warm").stdout


@pytest.mark.parametrize("name", ["demo", "w8a"])
def test_jobs_are_configs(name):
    config = configs.load(JOBS / f"{name}.toml")
    assert config.problem.optimum == "auto" and config.problem.l2 == "1/n"
