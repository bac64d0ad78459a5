"""Settings and data that are wrong, each with its exit status and what the sentence says; see test_bad_input.py."""

from __future__ import annotations

import gzip
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
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
    "group that does not divide": (2, r"levels\.0\.group = 3 does not divide workers\.count = 4", ["levels.0.group=3"]),
    "unknown group": (2, r'levels\.0\.group = "rack".*"node"', ["levels.0.group=rack"]),
    "groups that do not nest": (
        2,
        r"levels\.0\.group = 4 does not nest in 2",
        ["levels.0.group=4", "levels.1.group=2"],
    ),
    "period that does not divide": (
        2,
        r"levels\.0\.period = 2 does not divide 3",
        ["levels.0.group=2", "levels.0.period=2", "levels.1.period=3"],
    ),
    "period for each of too few groups": (
        2,
        r"levels\.0\.period has 3 entries for 2 groups",
        ["levels.0.group=2", "levels.0.period=[1, 1, 1]"],
    ),
    "server step without the world": (
        2,
        r"server_step_size.*group = \"world\"",
        ["levels.0.group=2", "algorithm.server_step_size=2"],
    ),
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
    "no records": (2, r"output\.record_every = 0", ["output.record_every=0"]),
    "records at once": (2, r"output\.record_every\.ratio = 1", ['output.record_every={kind="geometric",ratio=1}']),
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
