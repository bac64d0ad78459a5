"""What users get wrong, on 1 and 3 ranks: the right status and exactly one sentence, never a traceback or a hang."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import ranks
from faults import CONFIG, SETTINGS, files
from plugins import running


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
    made["lost history"] = (4, r"lines has lost its history\.h5, .*: restore the file", ["resume", lines, *longer])
    again = ["run", good, "-o", lines, "--or-resume"]
    made["lost history, and run --or-resume"] = (4, r"lines has lost its history\.h5, .*: restore the file", again)
    # What is wrong with the data verbs.
    made["convert nothing"] = (4, r"absent\.txt", ["data", "convert", folder / "absent.txt", folder / "out.h5"])
    made["convert into nowhere"] = (
        4,
        r"cannot make the folder /proc/mpilocal: ",
        ["data", "convert", folder / "rows.txt", "/proc/mpilocal/out.h5"],
    )
    made["convert into a file"] = (
        4,
        r"rows\.txt is not a folder: name another one",
        ["data", "convert", folder / "rows.txt", folder / "rows.txt" / "out.h5"],
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


@pytest.mark.slow
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
