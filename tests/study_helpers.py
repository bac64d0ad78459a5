"""A small study, and made-up results with known answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from mpilocal.study import structs
from mpilocal.study.results import Results, Run

K, H = "workers.count", "algorithm.local_steps"
AXES = {K: [1, 2, 4], H: [1, 4]}
NAMES = {"K": K, "H": H}
FINAL = {"kind": "final"}

STUDY: dict[str, Any] = {
    "title": "Local steps",
    "base": {
        "data": {"source": "synthetic:regression", "options": {"rows": 60, "features": 4, "noise": 0.1}},
        "problem": {"loss": "squared", "l2": 0.1, "optimum": "auto"},
        "workers": {"count": 4},
        "algorithm": {"rounds": 1, "local_steps": 1, "batch": 2, "step_size": 0.1},
        "run": {"threads": 1},
    },
    "names": {"K": "workers.count", "H": "algorithm.local_steps"},
    "derive": {"algorithm.rounds": "ceil(96 / (K * H))"},
    "seeds": {"report": [1, 2], "tune": [11]},
    "grid": [
        {"variant": "local", "axes": {"workers.count": [2, 4], "algorithm.local_steps": [1, 4]}},
        {
            "variant": "minibatch",
            "axes": {"workers.count": [4]},
            "set": {"algorithm.name": "minibatch-sgd", "algorithm.local_steps": 4},
        },
    ],
    "tune": {
        "key": "algorithm.step_size",
        "values": [0.5, 1.0],
        "quantity": {"kind": "final", "of": "suboptimality"},
    },
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "study.toml"
    path.write_text(tomli_w.dumps(structs.merged(STUDY, changes)))
    return path


def run(workers=1, steps=1, seed=0, status="done", rounds=10, noise=0.0, **columns):
    """A gap of (1 + noise·seed)/(K·step), from round 1 on."""
    done = np.arange(1, rounds + 1)
    gap = (1 + noise * seed) / (workers * done * steps)
    history = {"round": done, "step": done * steps, "samples": done * steps * workers, "suboptimality": gap}
    history |= {"suboptimality_uniform": 2 * gap, "test_accuracy": 1 - gap, "timings/loop_max": done * 0.5}
    history |= {"level1/bytes": done * 10, "level2/bytes": done * 3, "level1/divergence": done}
    config = {"workers": {"count": workers}, "algorithm": {"local_steps": steps, "batch": 4, "name": "local-sgd"}}
    if status == "diverged":
        history, columns = {}, {}
    return Run({K: workers, H: steps}, seed, "report", status, history | columns, {}, config)


def results(*changed, seeds=(1, 2, 3), **options):
    """All cells, `changed` in place of those of the same cell and seed."""
    new = {(one.cell[K], one.cell[H], one.seed): one for one in changed}
    made = [run(k, h, seed, **options) for k in AXES[K] for h in AXES[H] for seed in seeds]
    runs = [new.get((one.cell[K], one.cell[H], one.seed), one) for one in made]
    tuning = [one._replace(role="tune", seed=99, history={"suboptimality": np.full(10, 1e9)}) for one in runs]
    return Results("made up", AXES, [*runs, *tuning])
