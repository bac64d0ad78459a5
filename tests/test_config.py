"""The config: TOML and overrides to structs, and one sentence for everything that is wrong."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpilocal import config
from mpilocal.config import kinds
from mpilocal.config.structs import Config
from mpilocal.errors import ConfigError

BASE: dict[str, Any] = {
    "data": {"source": "w8a.h5"},
    "workers": {"count": 16},
    "algorithm": {"rounds": 5, "step_size": 0.5},
}


def test_load_file_with_overrides(tmp_path):
    file = tmp_path / "job.toml"
    file.write_text(
        '[data]\nsource = "w8a.h5"\n[workers]\ncount = 4\n[algorithm]\nrounds = 10\nstep_size = 1\n'
        '[[levels]]\ngroup = "world"\nperiod = 4\n'
    )
    overrides = [
        "algorithm.local_steps=32",
        "levels.0.period=2",
        "data.partition={kind='dirichlet', alpha=0.1}",
        "algorithm.batch=all",
        "data.source=/data/2024=x.h5",
        "run.seed = 7",
        "data.test=2024-01-01",
        "stop.seconds=60",
    ]
    got = config.load(file, overrides)
    assert got.algorithm.local_steps == 32
    assert [level.period for level in got.levels] == [2]
    assert got.data.partition == {"kind": "dirichlet", "alpha": 0.1}
    assert got.algorithm.batch == "all"
    assert got.data.source == "/data/2024=x.h5"
    assert got.data.test == "2024-01-01"
    assert got.run.seed == 7
    assert got.stop.seconds == 60
    assert isinstance(got.algorithm.step_size, float)


def test_a_dictionary_may_hold_what_programs_compute(tmp_path):
    table = {
        "data": {"source": tmp_path / "w8a.h5", "test": None},
        "workers": {"count": np.int64(16)},
        "algorithm": {"rounds": np.int32(5), "step_size": np.float32(0.5), "iterate_average": ("uniform", "last")},
    }
    got = config.load(table)
    assert got == config.load(
        {
            "data": {"source": str(tmp_path / "w8a.h5")},
            "workers": {"count": 16},
            "algorithm": {"rounds": 5, "step_size": 0.5, "iterate_average": ["uniform", "last"]},
        }
    )


def test_override_leaves_its_argument_alone():
    config.override(BASE, ["algorithm.rounds=9", "run.seed=2"])
    assert BASE["algorithm"]["rounds"] == 5
    assert "run" not in BASE


WRONG = {
    "algorithm.local_step=3": 'not a known key of [algorithm]; did you mean "local_steps"?',
    "algoritm.rounds=3": 'did you mean "algorithm"?',
    "algorithm.rounds=0": "algorithm.rounds = 0 is not accepted: write an integer of at least 1",
    "algorithm.rounds=1.5": "algorithm.rounds = 1.5",
    "algorithm.rounds=true": "algorithm.rounds = true",
    "algorithm.rounds=many": 'algorithm.rounds = "many"',
    "algorithm.batch=al": 'write an integer of at least 1 or "all"; did you mean "all"?',
    "run.dtype=float16": 'write "float32" or "float64"',
    "run.seed=-1": "run.seed = -1",
    "run.seed=99999999999999999999": "does not fit in 64 bits",
    "workers=3": "workers = 3 is not a table: write it as [workers]",
    "workers.count=0": 'write an integer of at least 1 or "ranks"',
    "levels=4": "write [[levels]] once for each",
    "levels=[{group='rack'}]": "levels.0.group",
    "levels=[{group='world', perod=3}]": 'did you mean "period"?',
    "problem.l2=1/m": 'did you mean "1/n"?',
    "problem.l2=-1": "problem.l2 = -1",
    "output.keep=0": "output.keep = 0",
    "stop.suboptimality=0": "stop.suboptimality = 0",
    "algorithm.step_size=nan": "algorithm.step_size = nan is not finite",
    "algorithm.step_size=-0.1": "algorithm.step_size = -0.1",
    "data.options.noise=inf": "data.options.noise = inf is not finite",
    'data.source="a\\u0000b"': "NUL character",
    "data.partition={kind=iid}": "is not a TOML value",
    "algorithm.rounds.x=3": "algorithm.rounds = 5 is not a table",
    "levels.x.period=4": "is not a list of tables",
    "algorithm.rounds": "is not an override: write -s key=value",
    ".x=3": "is not an override",
    "algorithm.step_size={value=3}": "algorithm.step_size.kind is missing: write one of: constant",
    "algorithm.step_size={kind='constnt', value=1}": 'did you mean "constant"?',
    "algorithm.step_size={kind='constant'}": "algorithm.step_size.value is missing",
    "algorithm.step_size={kind='stich', c=1, d=2}": '"d" is not a known key of [algorithm.step_size]',
    "algorithm.step_size={kind='inverse-time', shift='auot'}": 'did you mean "auto"?',
    "algorithm.step_size={kind='piecewise', values=[1, 2], steps=[3, 4]}": "2 values for 2 steps",
    "algorithm.step_size={kind='piecewise', values=[1, 2, 3], steps=[4, 3]}": "must ascend",
    "algorithm.step_size={kind='constant', value=1, warmup=-1}": "algorithm.step_size.warmup = -1",
    "algorithm.local_steps={kind='growing', scale=0}": "algorithm.local_steps.scale = 0",
    "algorithm.local_steps={kind='post-local', until=3}": "algorithm.local_steps.steps is missing",
    "algorithm.local_steps=9223372036854775807": "more than 64 bits count",
    "algorithm.iterate_average=tial": 'did you mean "tail"?',
    "algorithm.iterate_average=['last', 'last']": "is asked for twice",
    "algorithm.iterate_average={kind='tail', start=1}": "above 0 and below 1",
    "algorithm.iterate_average=3": "algorithm.iterate_average = 3",
}


@pytest.mark.parametrize("setting", WRONG)
def test_wrong_value_is_one_sentence(setting):
    with pytest.raises(ConfigError) as caught:
        config.load(BASE, [setting])
    assert WRONG[setting] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_server_step_size_excludes_inner():
    with pytest.raises(ConfigError, match=r"excludes algorithm\.inner_step_size"):
        config.load(BASE, ["algorithm.inner_step_size=0", "algorithm.server_step_size=2"])
    config.load(BASE, ["algorithm.inner_step_size=0"])


def test_index_beyond_the_list():
    with pytest.raises(ConfigError, match="levels has 1 entries"):
        config.load(BASE, ["levels=[{group='world'}]", "levels.2.period=4"])


def test_missing_keys_are_named():
    for table, key in [({}, "data.source"), ({"data": {"source": "x"}}, "workers.count")]:
        with pytest.raises(ConfigError, match=f"{key} is missing: write "):
            config.convert(table)


def test_broken_files_are_named(tmp_path):
    file = tmp_path / "job.toml"
    with pytest.raises(ConfigError, match=r"cannot read the config .*job\.toml: No such file"):
        config.load(file)
    for text in (b"[data]\nsource = w8a", b"[data\n", b"a = 1\na = 2", b"= 3", b'x = "'):
        file.write_bytes(text)
        with pytest.raises(ConfigError, match=r"job\.toml is not TOML: .*(line \d|end of document)"):
            config.load(file)
    file.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        config.load(file)


floats = st.floats(1e-300, 1e300)
step_sizes = st.one_of(
    floats,
    st.fixed_dictionaries({"kind": st.just("inverse-sqrt"), "scale": floats}, optional={"shift": floats}),
    st.fixed_dictionaries({"kind": st.just("stich"), "c": floats, "constant": st.booleans()}),
)
configs = st.fixed_dictionaries(
    {
        "data": st.fixed_dictionaries(
            {"source": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))},
            optional={"features": st.integers(1, 2**40), "options": st.just({"rows": 3, "nested": {"a": [1, 2]}})},
        ),
        "workers": st.fixed_dictionaries({"count": st.integers(1, 2**24) | st.just("ranks")}),
        "algorithm": st.fixed_dictionaries(
            {"rounds": st.integers(1, 10**6), "step_size": step_sizes},
            optional={"iterate_average": st.just([]) | st.just(["last", {"kind": "tail", "start": 0.25}])},
        ),
    },
    optional={
        "levels": st.lists(st.fixed_dictionaries({"group": st.just("world"), "period": st.integers(1, 9)}), max_size=1),
        "problem": st.fixed_dictionaries({"l2": floats | st.just("1/n")}),
    },
)


@given(configs)
def test_dump_is_read_back_the_same(tmp_path_factory, table):
    first = config.convert(table)
    file = tmp_path_factory.mktemp("dump") / "config.toml"
    text = config.dump(first, {"resolved": {"rows": 3, "path": file}, "history": [{"started": "now", "note": None}]})
    file.write_bytes(text.encode())
    assert config.load(file) == first == config.load(first)
    assert config.read(file)["resolved"] == {"rows": 3, "path": str(file)}
    assert config.read(file)["history"] == [{"started": "now"}]


def test_kinds():
    assert kinds.parse_step_size(0.5) == kinds.Constant(value=0.5)
    assert kinds.parse_step_size({"kind": "inverse-time"}) == kinds.InverseTime(scale="auto", shift="auto")
    assert kinds.parse_step_size({"kind": "piecewise", "values": [1, 0.1], "steps": [10], "warmup": 5}) == (
        kinds.Piecewise(values=[1.0, 0.1], steps=[10], warmup=5)
    )
    assert kinds.parse_local_steps(4) == kinds.FixedSteps(steps=4)
    assert kinds.parse_local_steps({"kind": "post-local", "until": 3, "steps": 8}) == kinds.PostLocal(until=3, steps=8)
    assert kinds.parse_iterate_average("last") == (kinds.Last(),)
    assert kinds.parse_iterate_average(["uniform", {"kind": "quadratic", "shift": 3}]) == (
        kinds.Uniform(),
        kinds.Quadratic(shift=3.0),
    )


def test_default_config_is_the_documented_one():
    got = config.load(BASE)
    assert isinstance(got, Config)
    assert (got.problem.l2, got.run.dtype, got.run.reduction, got.data.partition) == (
        0.0,
        "float64",
        "exact",
        "contiguous",
    )
    assert got.levels == []


def test_no_module_of_a_run_on_disk_imports_mpi():
    code = (
        "import sys, mpilocal.config, mpilocal.store.rundir, mpilocal.store.checkpoint, mpilocal.store.iterates\n"
        "sys.exit('mpi4py.MPI' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
