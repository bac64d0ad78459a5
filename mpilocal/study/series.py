"""The series that runs record, by name: columns of the history, and sums of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpilocal.errors import ConfigError, suggest
from mpilocal.study.results import Run

Floats = NDArray[np.float64]

SERIES = {
    "round": "rounds",
    "step": "local steps of each worker",
    "samples": "samples of all workers",
    "bytes": "payload sent by all workers [bytes]",
    "seconds": "seconds of local steps and averaging",
    "objective": "$F(\\bar x)$",
    "suboptimality": "$F(\\bar x) - F^*$",
    "gradient_norm": "$\\|\\nabla F(\\bar x)\\|$",
    "consensus": "$\\sum p_m \\|x_m - \\bar x\\|^2$ before averaging",
    "divergence": "$\\sum p_m \\|\\nabla f_m - \\nabla F\\|^2$",
    "gradient_noise": "$\\sum w_i \\|\\nabla f_i - \\nabla F\\|^2$",
    "effective_dimension": "effective dimension",
    "bound_risk": "bound on the excess risk",
    "contraction": "contraction of a round",
    "smoothness": "$L$",
    "convexity": "$\\mu$",
    "distance": "$\\|x_0 - x^*\\|$",
    "optimum_noise": "$\\sigma_*^2$",
    "optimum_divergence": "$\\zeta_*^2$",
    "risk": "excess risk",
    "norm": "$\\|\\bar x\\|$",
    "direction_error": "$\\|\\bar x/\\|\\bar x\\| - w/\\|w\\|\\|$",
    "local_direction_error": "the same of local iterates, mean",
    "accuracy": "accuracy",
    "test_loss": "loss on the test rows",
    "test_accuracy": "accuracy on the test rows",
}
STARRED = ("suboptimality*", "objective*", "risk*")
KEYS = {
    "workers.count": "workers",
    "algorithm.local_steps": "local steps per round",
    "algorithm.batch": "batch [samples per local step]",
    "algorithm.step_size": "step size",
    "algorithm.rounds": "rounds",
    "problem.l2": "ridge weight $\\lambda$",
}
FAMILIES = re.compile(r"(objective|suboptimality|risk)_[a-z0-9_]+|level[1-9][0-9]*/[a-z_]+|timings/[a-z0-9_]+")


def is_series(name: str) -> bool:
    """Return whether a history can have this column."""
    return name in SERIES or FAMILIES.fullmatch(name) is not None


def label_of(name: str) -> str:
    """Return what an axis of a figure calls a series or a key of the config."""
    known = {**SERIES, **KEYS}
    if name in STARRED:
        return f"{SERIES[name[:-1]]}, best average"
    if average := average_of(name):
        return f"{SERIES[name.partition('_')[0]]}, {average}"
    if level := re.fullmatch(r"level(\d+)/(\w+)", name):
        return f"{known.get(level[2], level[2])}, level {level[1]}"
    return known.get(name, name.replace("_", " "))


def average_of(name: str) -> str:
    """Return which average of the iterates a series is of, "" where it is of none."""
    base, _, rest = name.partition("_")
    return f"{rest.replace('_', ' ')} average" if base in ("suboptimality", "objective", "risk") and rest else ""


def all_of(name: str, run: Run) -> list[str]:
    """Return the series of a run that a name stands for: `suboptimality*` for those of all averages of the iterates."""
    if not name.endswith("*"):
        return [name]
    base = name[:-1]
    return [one for one in run.history if one == base or one.startswith(f"{base}_")]


def check(name: str, where: str) -> None:
    """Refuse a name that no history has (ConfigError)."""
    if name not in STARRED and not is_series(name):
        raise ConfigError(f'{where} = "{name}" is not a known series; {suggest(name, SERIES)}')


def column(run: Run, name: str, where: str = "of") -> Floats:
    """Return a series of a run, (records,), empty where the run has no history.

    `bytes` is the sum over the levels, `seconds` the longest of all ranks.

    Raises:
        ConfigError: the run did not record it.
    """
    history = run.history
    if not history:
        return np.empty(0)
    if name == "bytes":
        sent = [values for key, values in history.items() if re.fullmatch(r"level\d+/bytes", key)]
        total: Floats = np.sum([np.zeros(_records(history)), *sent], axis=0, dtype=np.float64)
        return total
    if name == "seconds":
        name = "timings/loop_max"
    if name not in history:
        raise ConfigError(f'{where}: no "{name}" was recorded; {suggest(name, history)}')
    return np.asarray(history[name], np.float64)


def lost(run: Run) -> bool:
    """Return whether the run has no end: it diverged or failed."""
    return run.status in ("diverged", "failed") or not run.history


def _records(history: Mapping[str, Any]) -> int:
    return len(next(iter(history.values())))
