"""The cells of a study and their configs."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mpilocal import config as configs
from mpilocal.config import Config, toml
from mpilocal.config.structs import to_builtins
from mpilocal.config.typed import shown
from mpilocal.errors import ConfigError
from mpilocal.study import quantities
from mpilocal.study.formula import evaluate
from mpilocal.study.structs import Study, merged

VARIANT = "variant"


class Cell(NamedTuple):
    """A point of the grid."""

    key: dict[str, Any]  # axis → value; `variant` where variants are named
    table: dict[str, Any]  # the config, without seed and tuned value

    @property
    def name(self) -> str:
        """What messages call it."""
        return ", ".join(f"{axis} = {shown(value)}" for axis, value in self.key.items()) or "the only cell"


class Unit(NamedTuple):
    """One run of a study."""

    cell: int
    seed: int
    role: str  # report or tune
    value: float | None  # of the tuned key
    config: Config

    @property
    def digest(self) -> str:
        """A name that depends on what is run alone."""
        text = json.dumps([self.role, to_builtins(self.config)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def cost(self) -> float:
        """Samples of the run, to share work out."""
        algorithm = self.config.algorithm
        steps = algorithm.local_steps if isinstance(algorithm.local_steps, int) else 16
        batch = algorithm.batch if isinstance(algorithm.batch, int) else 1000
        workers = self.config.workers.count if isinstance(self.config.workers.count, int) else 1
        return float(algorithm.rounds) * (steps * batch * workers + 100)


def cells_of(study: Study, folder: Path) -> list[Cell]:
    """Return the cells in the order of the file; each has a config that holds.

    Raises:
        ConfigError: a config of a cell does not; the sentence names the cell.
    """
    if isinstance(study.base, str):
        file = folder / study.base
        base = {key: value for key, value in toml.read(file).items() if key not in toml.RECORDED}
        folder = file.parent
    else:
        base = dict(study.base)
    base = _anchored(base, folder)
    found = []
    for grid in study.grids():
        names, lists = list(grid.axes), list(grid.axes.values())
        for values in itertools.product(*lists):
            key = dict(zip(names, values, strict=True))
            if grid.variant:
                key = {VARIANT: grid.variant, **key}
            table = merged(base, {})
            for dotted, value in {**grid.set, **dict(zip(names, values, strict=True))}.items():
                table = put(table, dotted, value)
            for dotted, formula in study.derive.items():
                known = {short: at(table, long, f"names.{short}") for short, long in study.names.items()}
                numbers = {short: value for short, value in known.items() if isinstance(value, int | float)}
                result = evaluate(formula, numbers, f"derive.{dotted}")
                table = put(table, dotted, int(result) if float(result).is_integer() else result)
            found.append(Cell(key, table))
    if (tune := study.tuning()) is not None:
        quantities.parse(tune.quantity, "tune.quantity", study.names)
    for place in range(len(found)):
        unit_of(study, found, place, study.seeds.report[0], "report", None)
    return found


def unit_of(study: Study, cells: list[Cell], cell: int, seed: int, role: str, value: float | None) -> Unit:
    """Return a run of a cell."""
    table = put(cells[cell].table, "run.seed", seed)
    tune = study.tuning()
    if tune is not None:
        table = put(table, tune.key, tune.values[0] if value is None else value)
    try:
        return Unit(cell, seed, role, value, configs.load(table))
    except ConfigError as error:
        raise ConfigError(f"in the cell {cells[cell].name}: {error}") from error


def put(table: Mapping[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    """Return a copy of the table with one dotted key set."""
    first, _, rest = dotted.partition(".")
    if not rest:
        return {**table, first: value}
    inner = table.get(first, {})
    if isinstance(inner, list):
        place, _, deeper = rest.partition(".")
        if not place.isdecimal() or int(place) >= len(inner) or not deeper:
            raise ConfigError(f'the key "{dotted}" names no entry of {first}, which has {len(inner)}')
        items = [put(item, deeper, value) if str(number) == place else item for number, item in enumerate(inner)]
        return {**table, first: items}
    if not isinstance(inner, Mapping):
        inner = {}
    return {**table, first: put(inner, rest, value)}


def at(table: Mapping[str, Any], dotted: str, where: str) -> Any:
    """Return the value of a dotted key."""
    node: Any = table
    for part in dotted.split("."):
        if not isinstance(node, Mapping) or part not in node:
            raise ConfigError(f'{where} = "{dotted}" is not set in the base: write it there')
        node = node[part]
    return node


def axes_of(cells: list[Cell]) -> dict[str, list[Any]]:
    """Return axis → its values, in the order in which they first come."""
    found: dict[str, list[Any]] = {}
    for cell in cells:
        for axis, value in cell.key.items():
            values = found.setdefault(axis, [])
            if value not in values:
                values.append(value)
    return found


def _anchored(base: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the base with files beside it by their absolute paths."""
    data = dict(base.get("data", {}))
    for key in ("source", "test"):
        if isinstance(data.get(key), str) and (folder / data[key]).exists():
            data[key] = str((folder / data[key]).resolve())
    return {**base, "data": data}
