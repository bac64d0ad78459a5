"""What a study found: a file for each finished run, and one file of all of them, from which tables and figures come."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from mpilocal import atomic
from mpilocal.config.structs import to_builtins
from mpilocal.errors import DataError

if TYPE_CHECKING:
    from mpilocal.study.grid import Cell, Unit

Column = NDArray[Any]


class Run(NamedTuple):
    """One run."""

    cell: dict[str, Any]  # axis → value
    seed: int
    role: str  # report, or tune
    status: str  # done, diverged or failed
    history: dict[str, Column]  # as `mpilocal.load` gives it; empty where the run diverged
    tuned: dict[str, Any]  # dotted key → the value of this run
    config: dict[str, Any]


class Results(NamedTuple):
    """All runs of a study, in the order of cells and seeds; those that tuned come last."""

    title: str
    axes: dict[str, list[Any]]
    runs: list[Run]
    pool: Sequence[str] = ()  # axes whose cells count like seeds


def write_run(path: Path, unit: Unit, cell: Cell, status: str, history: dict[str, Column]) -> None:
    """Write one finished run (DataError where that fails)."""
    facts = {
        "cell": cell.key,
        "seed": unit.seed,
        "role": unit.role,
        "status": status,
        "tuned": unit.tuned,
        "config": to_builtins(unit.config),
    }

    def save(where: Path) -> None:
        with h5py.File(where, "w", locking=False) as file:
            file.attrs["run"] = json.dumps(facts)
            for name, column in history.items():
                file.create_dataset(name, data=column, track_times=False)

    atomic.write(path, save)


def read_run(path: Path) -> Run | None:
    """Return a finished run, or None where there is none that can be read."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _run(json.loads(file.attrs["run"]), _columns(file))
    except (OSError, KeyError, ValueError):
        return None


def write(path: Path, results: Results) -> None:
    """Write all runs: a row each, its curves as a slice of long columns; what the clock says is in /timings."""
    runs = results.runs
    names = list(dict.fromkeys(name for run in runs for name in run.history))
    lengths = {name: [len(run.history.get(name, ())) for run in runs] for name in names}

    def save(where: Path) -> None:
        with h5py.File(where, "w", locking=False) as file:
            file.attrs["creator"] = "mpilocal"
            file.attrs["title"] = results.title
            file.attrs["axes"] = json.dumps(results.axes)
            file.attrs["pool"] = json.dumps(list(results.pool))
            text = h5py.string_dtype()
            for name in ("role", "status"):
                file.create_dataset(f"runs/{name}", data=[getattr(run, name) for run in runs], dtype=text)
            for name in ("cell", "tuned", "config"):
                file.create_dataset(f"runs/{name}", data=[json.dumps(getattr(run, name)) for run in runs], dtype=text)
            file.create_dataset("runs/seed", data=np.array([run.seed for run in runs], np.int64))
            for name in names:
                whole = np.concatenate([run.history[name] for run in runs if name in run.history])
                group = f"timings/{name.removeprefix('timings/')}" if name.startswith("timings/") else f"curves/{name}"
                file.create_dataset(f"{group}/values", data=whole, track_times=False)
                file.create_dataset(f"{group}/lengths", data=np.array(lengths[name], np.int64), track_times=False)

    atomic.write(path, save)


def read(path: str | Path) -> Results:
    """Return the results of a study.

    Raises:
        DataError: the file is missing or not one of a study's.
    """
    if not Path(path).exists():
        raise DataError(f"{path} does not exist: run the study first, or name its folder with -o")
    try:
        with h5py.File(path, "r", locking=False) as file:
            rows = file["runs"]
            facts = [
                {
                    "role": role,
                    "status": status,
                    "seed": seed,
                    **dict(zip(("cell", "tuned", "config"), rest, strict=True)),
                }
                for role, status, seed, *rest in zip(
                    rows["role"].asstr()[:],
                    rows["status"].asstr()[:],
                    rows["seed"][:].tolist(),
                    *([json.loads(one) for one in rows[name].asstr()[:]] for name in ("cell", "tuned", "config")),
                    strict=True,
                )
            ]
            columns: list[dict[str, Column]] = [{} for _ in facts]
            for kind, prefix in (("curves", ""), ("timings", "timings/")):
                _spread(file.get(kind, {}), prefix, columns)
            return Results(
                str(file.attrs["title"]),
                json.loads(file.attrs["axes"]),
                [_run(*one) for one in zip(facts, columns, strict=True)],
                json.loads(file.attrs.get("pool", "[]")),
            )
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} holds no results of a study ({error}): run the study") from error


def _spread(group: Any, prefix: str, columns: list[dict[str, Column]]) -> None:
    found: list[str] = []
    if hasattr(group, "visititems"):
        group.visititems(
            lambda name, one: found.append(name) if "values" in getattr(one, "keys", lambda: ())() else None
        )
    for name in found:
        values, lengths = group[name]["values"][:], group[name]["lengths"][:]
        for part, column in zip(np.split(values, np.cumsum(lengths)[:-1]), columns, strict=True):
            if len(part):
                column[prefix + name] = part


def _run(facts: dict[str, Any], history: dict[str, Column]) -> Run:
    return Run(
        facts["cell"], int(facts["seed"]), facts["role"], facts["status"], history, facts["tuned"], facts["config"]
    )


def _columns(file: h5py.File) -> dict[str, Column]:
    found: dict[str, Column] = {}
    file.visititems(lambda name, one: found.__setitem__(name, one[:]) if isinstance(one, h5py.Dataset) else None)
    return found
