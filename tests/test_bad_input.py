"""What users get wrong, on 1 and 3 ranks: the right status and exactly one sentence, never a traceback or a hang."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import ranks
from plugins import running

CONFIG = """\
[data]
source = "rows.txt"
[problem]
loss = "logistic"
l2 = 0.1
[workers]
count = 4
[algorithm]
rounds = 6
local_steps = 2
batch = 2
step_size = 0.1
[output]
checkpoint_every = 2
[run]
threads = 1
"""
ROWS = [f"{1 if i % 3 else -1} 1:{(i * 7) % 5 - 2} {2 + i % 3}:1" for i in range(24)]

# name → (status, what the sentence says, overrides of the config)
SETTINGS: dict[str, tuple[int, str, list[str]]] = {
    "unknown key": (
        2,
        r'"local_step" is not a known key of \[algorithm\]; did you mean "local_steps"',
        ["algorithm.local_step=4"],
    ),
    "unknown table": (2, r'algoritm\b.*did you mean "algorithm"', ["algoritm.rounds=4"]),
    "wrong type": (2, r"algorithm\.rounds = 2\.5.*integer|algorithm\.rounds.*2\.5", ["algorithm.rounds=2.5"]),
    "string for a number": (2, r"algorithm\.step_size", ['algorithm.step_size="fast"']),
    "zero rounds": (2, r"algorithm\.rounds", ["algorithm.rounds=0"]),
    "negative step size": (2, r"algorithm\.step_size", ["algorithm.step_size=-0.1"]),
    "nan": (2, r"algorithm\.step_size", ["algorithm.step_size=nan"]),
    "infinite l2": (2, r"problem\.l2", ["problem.l2=inf"]),
    "negative seed": (2, r"run\.seed", ["run.seed=-1"]),
    "batch of none": (2, r"algorithm\.batch", ["algorithm.batch=0"]),
    "batch by a word": (2, r"algorithm\.batch", ['algorithm.batch="some"']),
    "no equals sign": (2, r"algorithm\.rounds", ["algorithm.rounds"]),
    "empty key": (2, r"=3", ["=3"]),
    "broken value": (2, r"algorithm\.rounds", ["algorithm.rounds=[1"]),
    "key below a value": (2, r"algorithm\.rounds", ["algorithm.rounds.x=1"]),
    "unknown loss": (2, r'problem\.loss = "logistik".*did you mean "logistic"', ["problem.loss=logistik"]),
    "unknown method": (2, r'algorithm\.name = "local-sdg".*did you mean "local-sgd"', ["algorithm.name=local-sdg"]),
    "unknown partition": (2, r'data\.partition = "idd".*did you mean "iid"', ["data.partition=idd"]),
    "unknown option": (2, r"algorithm\.options\.beta.*it has none", ["algorithm.options.beta=0.5"]),
    "unknown device": (2, r"run\.device", ["run.device=cuda"]),
    "unknown dtype": (2, r"run\.dtype", ["run.dtype=float16"]),
    "unknown reduction": (2, r"run\.reduction", ["run.reduction=sum"]),
    "unknown sampling": (2, r"algorithm\.sampling", ["algorithm.sampling=with"]),
    "unknown step size": (2, r'kind = "inverse-tim".*did you mean', ['algorithm.step_size={kind="inverse-tim"}']),
    "step size without kind": (2, r"algorithm\.step_size\.kind is missing", ["algorithm.step_size={scale=1.0}"]),
    "option of another step size": (
        2,
        r'"scale".*\[algorithm\.step_size\]',
        ['algorithm.step_size={kind="constant",scale=1.0}'],
    ),
    "steps that do not ascend": (
        2,
        r"steps = \[4, 4\] must ascend",
        ['algorithm.step_size={kind="piecewise",values=[1.0,0.5,0.1],steps=[4,4]}'],
    ),
    "too few values": (2, r"1 values for 1 steps", ['algorithm.step_size={kind="piecewise",values=[1.0],steps=[4]}']),
    "growing without scale": (2, r"algorithm\.local_steps\.scale.*missing", ['algorithm.local_steps={kind="growing"}']),
    "growing backwards": (2, r"algorithm\.local_steps\.scale", ['algorithm.local_steps={kind="growing",scale=-1.0}']),
    "auto without convexity": (
        2,
        r"µ > 0",
        ['algorithm.step_size={kind="inverse-time"}', "problem.l2=0.0"],
    ),
    "an average twice": (2, r"twice", ['algorithm.iterate_average=["uniform","uniform"]']),
    "fewer workers than ranks": (2, r"workers\.count = 2 is less than the 3 ranks", ["workers.count=2"]),
    "no workers": (2, r"workers\.count", ["workers.count=0"]),
    "more workers than rows": (2, r"worker 24 of 30 has no rows", ["workers.count=30"]),
    "sgd with workers": (2, r'"sgd" is one worker', ["algorithm.name=sgd"]),
    "another group": (2, r"levels", ['levels=[{group="node"}]']),
    "a rare world for gradients": (
        2,
        r"averages gradients in every round",
        ["algorithm.name=minibatch-sgd", 'levels=[{group="world",period=2}]'],
    ),
    "quadratic loss on plain data": (4, r'"quadratic" needs', ["problem.loss=quadratic"]),
    "dirichlet of nothing": (2, r"alpha", ['data.partition={kind="dirichlet",alpha=0.0}']),
    "dirichlet that leaves a worker bare": (
        2,
        r"left one of 20 workers with fewer",
        [
            'data.partition={kind="dirichlet",alpha=1e-4}',
            "workers.count=20",
        ],
    ),
    "users where there are none": (2, r"needs data with users", ["data.partition=user"]),
    "unknown synthetic set": (2, r"did you mean", ["data.source=synthetic:regresion"]),
    "unknown bundled set": (2, r"did you mean", ["data.source=sklearn:digit"]),
    "unknown option of the data": (
        2,
        r'"rowz".*\[data\.options\]; did you mean "rows"',
        ["data.source=synthetic:regression", "data.options.rowz=4"],
    ),
    "options for a file": (2, r"data\.options", ["data.options.rows=4"]),
    "missing file of a method": (2, r"there is no file mine\.py", ["algorithm.name=mine.py:method"]),
    "missing name in a file": (
        2,
        r"holds no faultyy; did you mean",
        [f"algorithm.name={running.PLUGINS}/faulty.py:faultyy"],
    ),
    "missing option of a method": (
        2,
        r"algorithm\.options\.how is missing",
        [f"algorithm.name={running.PLUGINS}/faulty.py:faulty"],
    ),
    "file that cannot be imported": (2, r"cannot be imported: SyntaxError", ["algorithm.name=broken.py:method"]),
    "loss without value": (2, r"has no function value", [f"problem.loss={running.PLUGINS}/faulty.py:slow"]),
    "loss that does not compile": (
        2,
        r"cannot be compiled",
        [f"problem.loss={running.PLUGINS}/faulty.py:Uncompilable"],
    ),
    "missing file": (4, r"absent\.txt", ["data.source=absent.txt"]),
    "folder": (4, r"folder", ["data.source=folder"]),
    "empty file": (4, r"empty\.txt", ["data.source=empty.txt"]),
    "only comments": (4, r"holds no rows", ["data.source=comments.txt"]),
    "rubbish": (4, r"rubbish\.bin", ["data.source=rubbish.bin"]),
    "truncated gzip": (4, r"rows\.gz", ["data.source=rows.gz"]),
    "index 0": (4, r"zero\.txt, line 5\b.*", ["data.source=zero.txt"]),
    "descending indices": (4, r"descending\.txt, line 7\b", ["data.source=descending.txt"]),
    "infinite value": (4, r"infinite\.txt, line 20\b", ["data.source=infinite.txt"]),
    "bad token": (4, r"token\.txt, line 24\b", ["data.source=token.txt"]),
    "bad label": (4, r"label\.txt, line 1\b", ["data.source=label.txt"]),
    "huge index": (4, r"huge\.txt, line 3\b", ["data.source=huge.txt"]),
    "one label": (4, r"label", ["data.source=one-label.txt"]),
    "three labels": (4, r"label", ["data.source=three-labels.txt"]),
    "too few features": (4, r"data\.features|features", ["data.features=2"]),
    "only empty rows": (4, r"features", ["data.source=bare.txt"]),
    "wider test set": (4, r"data\.test|features", ["data.test=wide.txt"]),
    "test set with another label": (4, r"data\.test.*label", ["data.test=three-labels.txt"]),
    "missing test set": (4, r"data\.test = .absent\.txt", ["data.test=absent.txt"]),
    "hdf5 without the datasets": (4, r"other\.h5", ["data.source=other.h5"]),
    "damaged hdf5": (4, r"damaged\.h5", ["data.source=damaged.h5"]),
    "hdf5 that was edited": (4, r"edited\.h5", ["data.source=edited.h5"]),
    "npz without labels": (4, r"\by\b", ["data.source=bare.npz"]),
    "npz with nan": (4, r"nan\.npz", ["data.source=nan.npz"]),
    "npz of two lengths": (4, r"lengths\.npz", ["data.source=lengths.npz"]),
}


def files(folder: Path) -> None:
    """Write the data that the cases name."""
    text = {
        "rows": ROWS,
        "empty": [],
        "comments": ["# nothing", "", "  "],
        "zero": [*ROWS[:4], "1 0:2", *ROWS[5:]],
        "descending": [*ROWS[:6], "1 3:2 2:1", *ROWS[7:]],
        "infinite": [*ROWS[:19], "1 1:inf", *ROWS[20:]],
        "token": [*ROWS[:23], "1 1:2 x"],
        "label": ["yes 1:2", *ROWS[1:]],
        "huge": [*ROWS[:2], "1 99999999999:1", *ROWS[3:]],
        "one-label": ["1" + row[2:] if row[0] == "-" else row for row in ROWS],
        "three-labels": ["2 1:1", *ROWS],
        "bare": ["1", "-1"] * 6,
        "wide": ["1 9:1", *ROWS],
    }
    for name, lines in text.items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    (folder / "folder").mkdir()
    (folder / "rubbish.bin").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "rows.gz").write_bytes(gzip.compress("\n".join(ROWS * 50).encode())[:-20])
    (folder / "broken.py").write_text("def method(:\n")
    with h5py.File(folder / "other.h5", "w") as file:
        file["a"] = np.zeros(3)
    whole = Path(folder / "good.h5")
    _convert(folder / "rows.txt", whole)
    data = whole.read_bytes()
    (folder / "damaged.h5").write_bytes(data[: len(data) // 2])
    shutil.copy(whole, folder / "edited.h5")
    with h5py.File(folder / "edited.h5", "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        values = next(file[name] for name in names if name.endswith(("values", "/data")) or name == "data")
        values[0] = 77.0
    np.savez(folder / "bare.npz", X=np.ones((4, 2)))
    np.savez(folder / "nan.npz", X=np.full((8, 2), np.nan), y=np.arange(8) % 2)
    np.savez(folder / "lengths.npz", X=np.ones((8, 2)), y=np.arange(7) % 2)


def _convert(source: Path, target: Path) -> None:
    done = ranks.run([sys.executable, "-m", "mpilocal", "data", "convert", str(source), str(target)])
    assert done.returncode == 0, done.stderr


def others(folder: Path, count: int) -> dict[str, tuple[int, str, list[str]]]:
    """name → (status, what the sentence says, arguments) of what is not a setting of the config."""
    good = folder / "c.toml"
    made: dict[str, tuple[int, str, list[Any]]] = {}

    def config(name: str, status: int, pattern: str, text: str) -> None:
        file = folder / f"{name.replace(' ', '-')}.toml"
        file.write_text(text)
        made[name] = (status, pattern, ["run", file, "-o", folder / "out"])

    config("toml syntax", 2, r"toml-syntax\.toml.*line 3", CONFIG.replace("[problem]", "[problem"))
    config("missing key", 2, r"algorithm\.rounds.*missing|missing.*rounds", CONFIG.replace("rounds = 6\n", ""))
    config("missing table", 2, r"workers", CONFIG.replace("[workers]\ncount = 4\n", ""))
    config("a table for a string", 2, r"data\.source", CONFIG.replace('"rows.txt"', "{ a = 1 }"))
    config("a key twice", 2, r"a-key-twice\.toml", CONFIG.replace("batch = 2", "batch = 2\nbatch = 3"))
    config("not utf-8", 2, r"not-utf-8\.toml", CONFIG)
    (folder / "not-utf-8.toml").write_bytes(CONFIG.encode() + b"# \xff\xfe\n")
    config("empty config", 2, r"missing", "")
    made["missing config"] = (2, r"absent\.toml", ["run", folder / "absent.toml", "-o", folder / "out"])
    made["config is a folder"] = (2, r"folder", ["run", folder / "folder", "-o", folder / "out"])
    made["no verb"] = (2, r"VERB", [])
    made["unknown verb"] = (2, r"rum", ["rum", good])
    made["no config"] = (2, r"CONFIG", ["run"])
    made["unknown argument"] = (2, r"--rounds", ["run", good, "--rounds", "4"])
    made["bad time"] = (2, r"soon.*is not a time", ["run", good, "--max-time", "soon"])
    made["or-resume without a folder"] = (2, r"-o RUN", ["run", good, "--or-resume"])
    made["output is a file"] = (2, r"is not a folder", ["run", good, "-o", folder / "rows.txt"])
    made["output below a file"] = (2, r"is not a folder", ["run", good, "-o", folder / "rows.txt" / "run"])
    made["output cannot be made"] = (4, r"cannot make the folder", ["run", good, "-o", "/proc/mpilocal/run"])
    made["output has a file in the way"] = (4, r"checkpoints", ["run", good, "-o", folder / "way"])
    (folder / "way").mkdir(exist_ok=True)
    (folder / "way" / "checkpoints").touch()

    def run(name: str) -> Path:
        return shutil.copytree(folder / "run", folder / f"run-{name}")

    made["output holds a run"] = (2, r"holds a run", ["run", good, "-o", folder / "run"])
    made["no run"] = (4, r"there is no run in", ["resume", folder / "folder"])
    made["no run to show"] = (4, r"there is no run in", ["show", folder / "absent"])
    made["changed config"] = (
        2,
        r"run\.seed was 1",
        ["run", good, "-o", run("seed"), "--or-resume", "-s", "run.seed=2"],
    )
    made["changed at resume"] = (2, r"run\.dtype", ["resume", run("dtype"), "-s", "run.dtype=float32"])
    made["fewer rounds"] = (2, r"algorithm\.rounds = 5", ["resume", run("fewer"), "-s", "algorithm.rounds=5"])
    longer = ["-s", "algorithm.rounds=9"]
    changed = run("data")
    for part in ("config.toml",):
        file = changed / part
        file.write_text(file.read_text().replace(str(folder / "rows.txt"), str(folder / "wide.txt")))
    made["changed data"] = (4, r"is not the data that the run began with", ["resume", changed, *longer])
    lost = run("lost")
    file = lost / "config.toml"
    file.write_text(file.read_text().replace(str(folder / "rows.txt"), str(folder / "gone.txt")))
    made["lost data"] = (4, r"gone\.txt", ["resume", lost, *longer])
    damaged = run("damaged")
    for file in damaged.glob("checkpoints/*.h5"):
        os.truncate(file, 600)
    made["all checkpoints damaged"] = (7, r"no checkpoint in .* is usable", ["resume", damaged, *longer])
    none = run("none")
    shutil.rmtree(none / "checkpoints")
    made["no checkpoint"] = (7, r"there is no checkpoint in", ["resume", none, *longer])
    wide = run("wide")
    for file in wide.glob("checkpoints/*.h5"):
        shutil.copy(folder / "wide" / "checkpoints" / file.name, file)
    made["checkpoint of another dimension"] = (7, r"coordinates 9 where the run has 4", ["resume", wide, *longer])
    spoilt = run("spoilt")
    (spoilt / "config.toml").write_text("[data")
    made["damaged config of a run"] = (4, r"no usable config\.toml", ["resume", spoilt])
    past = run("past")
    (past / "history.h5").write_bytes(b"no history")
    made["damaged history"] = (4, r"history", ["resume", past, *longer])
    lines = run("lines")
    (lines / "history.h5").unlink()
    made["lost history"] = (4, r"history", ["resume", lines, *longer])
    # What is wrong with the data verbs.
    made["convert nothing"] = (4, r"absent\.txt", ["data", "convert", folder / "absent.txt", folder / "out.h5"])
    made["convert into nowhere"] = (
        2,
        r"cannot be written",
        ["data", "convert", folder / "rows.txt", "/proc/mpilocal/out.h5"],
    )
    made["info of rubbish"] = (4, r"rubbish\.bin", ["data", "info", folder / "rubbish.bin"])
    made["make what is not known"] = (2, r"did you mean", ["data", "make", "regresion", folder / "out.h5"])
    if count < 3:
        del SETTINGS_OF[count]["fewer workers than ranks"]
    return {name: (status, pattern, [str(word) for word in words]) for name, (status, pattern, words) in made.items()}


SETTINGS_OF = {1: dict(SETTINGS), 3: dict(SETTINGS)}


@pytest.fixture
def folder(tmp_path):
    """A folder with the data, a good config, and two finished runs."""
    files(tmp_path)
    (tmp_path / "c.toml").write_text(CONFIG)
    for name, more in (("run", []), ("wide", ["-s", "data.source=wide.txt"])):
        done = running.run(1, "run", tmp_path / "c.toml", "-o", tmp_path / name, *more)
        assert done.returncode == 0, done.stderr
    return tmp_path


@pytest.mark.parametrize("count", [1, 3])
def test_every_fault_has_its_sentence(folder, count):
    wanted = others(folder, count)
    for name, (status, pattern, overrides) in SETTINGS_OF[count].items():
        words = [word for override in overrides for word in ("-s", override)]
        wanted[name] = (status, pattern, ["run", str(folder / "c.toml"), "-o", str(folder / "out"), *words])
    calls = [(name, words) for name, (_, _, words) in wanted.items()]
    (folder / "calls.json").write_text(json.dumps(calls))
    launcher = ["mpiexec", "-n", str(count)] if count > 1 else []
    program = [
        sys.executable,
        str(running.PLUGINS / "many_mains.py"),
        str(folder / "calls.json"),
        str(folder / "said.json"),
    ]
    done = ranks.run([*launcher, *program], timeout=150)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    said = json.loads((folder / "said.json").read_text())
    wrong = []
    for name, (status, pattern, _) in wanted.items():
        found = said[name]
        text = "".join(one for _, one in found)
        sentences = running.sentences(text)
        if (
            {one for one, _ in found} != {status}
            or len(sentences) != 1
            or not re.search(pattern, sentences[0])
            or "Traceback" in text
        ):
            wrong.append(f"{name}: wanted {status} and {pattern!r}, got {[one for one, _ in found]} and\n    {text}")
        if os.environ.get("MPILOCAL_SHOW_SENTENCES") and sentences:
            print(f"{name}: {sentences[0]}")
    assert not wrong, f"{len(wrong)} of {len(wanted)}\n" + "\n".join(wrong)
    assert len(wanted) >= 40
