"""What careless users do: one sentence each, and nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from study_helpers import written

import mpilocal
from mpilocal.data.convert import convert
from mpilocal.errors import ConfigError, DataError
from mpilocal.study import results, runner, structs, tune
from mpilocal.study.grid import cells_of
from mpilocal.study.structs import Family

TABLE: dict[str, Any] = {
    "data": {"source": "sklearn:breast_cancer", "options": {"standardize": True}},
    "problem": {"l2": 0.01, "optimum": "auto"},
    "workers": {"count": 4},
    "algorithm": {"rounds": 4, "local_steps": 3, "batch": 2, "step_size": 0.1},
    "run": {"threads": 1},
}


@pytest.mark.parametrize("name", ["constants", "contraction", "divergence", "noise", "direction", "risk"])
def test_what_is_measured_stays(name: str, tmp_path: Path) -> None:
    """A refusal leaves the run as it was."""
    mpilocal.run(TABLE, output=tmp_path / "run")
    before = (tmp_path / "run" / "config.toml").read_bytes()
    with pytest.raises(ConfigError, match=rf"output.{name} was false and cannot become true at a resume"):
        mpilocal.resume(tmp_path / "run", overrides=[f"output.{name}=true", "algorithm.rounds=6"])
    assert (tmp_path / "run" / "config.toml").read_bytes() == before
    assert mpilocal.resume(tmp_path / "run", overrides=["algorithm.rounds=6"]).round == 6


@pytest.mark.parametrize("options", [{"standardize": True}, {"scale": 0.01}, {"standardize": True, "part": "train"}])
def test_held_out_rows_are_scaled_as_those_of_training(options: dict[str, Any]) -> None:
    data = {"source": "sklearn:breast_cancer", "test": "sklearn:breast_cancer", "options": options}
    history = mpilocal.run({**TABLE, "data": data, "algorithm": {**TABLE["algorithm"], "rounds": 40}}).history
    if "part" in options:
        assert history["test_accuracy"][-1] > 0.9
    else:  # the same rows
        np.testing.assert_allclose(history["test_accuracy"], history["accuracy"], rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"data": {"source": "sklearn:breast_cancer", "test": "sklearn:digits"}},
            "data.test = sklearn:digits has not the",
        ),
        ({"run": {"threads": 100_000_000}}, "run.threads = 100000000 is not accepted: .* of at most 1024"),
        (
            {"levels": [{"group": {"random": 3}, "period": 1}]},
            r"group = \{ random = 3 \} does not divide .*take a divisor$",
        ),
        ({"levels": [{"group": {"random": 2, "sizes": [2, 2]}, "period": 1}]}, "both sizes and random"),
        ({"algorithm": {"name": "methods.py:number"}}, 'name = "methods.py:number" is no function'),
        ({"algorithm": {"name": "methods.py:none"}}, "cannot be called with one Setting"),
        ({"algorithm": {"name": "methods.py:three"}}, "returned a int in the place of an Algorithm"),
        ({"data": {"source": "gone.svm"}}, r'"gone.svm" does not exist \(not in [^ ]+\)'),
    ],
)
def test_configs(changes: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "methods.py").write_text(
        "number = 3\n\ndef none():\n    return 3\n\ndef three(setting):\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    table = {key: {**value, **changes.get(key, {})} for key, value in TABLE.items()}
    table |= {key: value for key, value in changes.items() if key not in TABLE}
    if "source" in changes.get("data", {}):
        table["data"] = changes["data"]
    with pytest.raises((ConfigError, DataError), match=said):
        mpilocal.run(table)


def test_a_data_set_is_not_converted_onto_itself(tmp_path: Path) -> None:
    file = tmp_path / "rows.svm"
    file.write_text("1 1:1\n-1 1:2\n")
    (tmp_path / "link.svm").symlink_to(file)
    for output in ("rows.svm", "link.svm"):
        with pytest.raises(ConfigError, match="is the data set itself"):
            convert(MPI.COMM_SELF, str(file), tmp_path / output)
    assert file.read_text() == "1 1:1\n-1 1:2\n"


def test_calls() -> None:
    with pytest.raises(ConfigError, match="3 is no config"):
        mpilocal.run(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="name it as output"):
        mpilocal.run(TABLE, or_resume=True)
    assert mpilocal.run(TABLE, overrides="algorithm.rounds=2").round == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grid": {"0": {"axes": {"workers.count": [2, 2]}}}}, "grid.0.axes.workers.count holds 2 twice"),
        ({"seeds": {"report": [1, 2, 1]}}, "seeds.report holds 1 twice"),
        ({"seeds": {"tune": [7, 7]}}, "seeds.tune holds 7 twice"),
        ({"names": {"q": "foo.bar"}}, 'names.q = "foo.bar": foo is no key of a config'),
        ({"names": {"q": "workers.cuont"}}, r'cuont is no key of \[workers\]; did you mean "count"'),
        ({"seeds": {"report": []}}, "write a list of at least 1, each: an integer of at least 0"),
        ({"tune": {"values": [0.1]}}, "write a list of at least 2, each: a number above 0"),
    ],
)
def test_studies(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        study, files = structs.load(written(tmp_path, **changes))
        cells_of(study, files)


def test_values_beyond_what_a_number_holds_are_not_tried() -> None:
    family = Family(values=[1e299, 1e300])
    assert tune.missing(family, 8, {1e299: 2.0, 1e300: 1.0}) == []
    assert tune.missing(Family(values=[1e-300, 1e-200]), 8, {1e-300: 1.0, 1e-200: 2.0}) == []


def test_a_place_that_no_run_came_to_has_no_value(tmp_path: Path) -> None:
    from mpilocal.study import claims

    study, files = structs.load(written(tmp_path))
    found = runner.run(study, cells_of(study, files), MPI.COMM_SELF, tmp_path / "out", files)
    table = {"kind": "bound", "claim": "c", "at_most": 1e9, "quantity": {"kind": "at", "round": 3000}}
    row = claims.evaluate([table], found, study.names)[0]
    assert row.holds is False and "no value" in row.measured
    with pytest.raises(DataError, match="does not exist: run the study first"):
        results.read(tmp_path / "nowhere" / "results.h5")
