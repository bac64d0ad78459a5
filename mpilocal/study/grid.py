"""The cells of a study and their configs."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mpilocal import config as configs
from mpilocal.config import Config, toml
from mpilocal.config.structs import to_builtins
from mpilocal.config.typed import shown
from mpilocal.errors import ConfigError
from mpilocal.study import quantities
from mpilocal.study.names import Keys, is_key
from mpilocal.study.selection import unpooled
from mpilocal.study.structs import Seeds, Study, Tune, merged

VARIANT = "variant"


class Cell(NamedTuple):
    """A point of the grid."""

    key: dict[str, Any]  # axis → value; `variant` where variants are named
    table: dict[str, Any]  # the config, without seed and tuned value
    seeds: Seeds
    tune: Tune | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return ", ".join(f"{axis} = {shown(value)}" for axis, value in self.key.items()) or "the only cell"


class Unit(NamedTuple):
    """One run of a study."""

    cell: int
    seed: int
    role: str  # report or tune
    tuned: dict[str, Any]  # dotted key → value
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
    for number, grid in enumerate(study.grids()):
        tune = study.tuning(number)
        if tune is not None:
            where = "tune" if grid.tune is None else f"grid.{number}.tune"
            quantities.parse(tune.quantity, f"{where}.quantity", study.names)
        names, lists = list(grid.axes), list(grid.axes.values())
        for values in itertools.product(*lists):
            key = dict(zip(names, values, strict=True))
            if grid.variant:
                key = {VARIANT: grid.variant, **key}
            table = merged(base, {})
            for dotted, value in {**grid.set, **dict(zip(names, values, strict=True))}.items():
                table = put(table, dotted, value)
            for dotted, formula in {**study.derive, **grid.derive}.items():
                for short, text in study.names.items():
                    if is_key(text):
                        at(table, text, f"names.{short}")
                result = Keys(table, study.names).evaluate(formula, f"derive.{dotted}")
                table = put(table, dotted, int(result) if float(result).is_integer() else result)
            found.append(Cell(key, table, study.sown(number), tune))
    for place, cell in enumerate(found):
        for family in cell.tune.families if cell.tune is not None else [None]:
            first = {} if family is None or cell.tune is None else {**family.set, cell.tune.key: family.values[0]}
            unit_of(found, place, cell.seeds.report[0], "report", first)
    return found


def unit_of(cells: list[Cell], cell: int, seed: int, role: str, tuned: Mapping[str, Any]) -> Unit:
    """Return a run of a cell."""
    table = cells[cell].table
    for dotted in cells[cell].seeds.keys:
        table = put(table, dotted, seed)
    for dotted, value in tuned.items():
        table = put(table, dotted, value)
    try:
        return Unit(cell, seed, role, dict(tuned), configs.load(table))
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


def axes_of(cells: list[Cell], pool: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Return axis → its values, in the order in which they first come; those that are pooled left out."""
    found: dict[str, list[Any]] = {}
    for cell in cells:
        for axis, value in unpooled(cell.key, pool).items():
            values = found.setdefault(axis, [])
            if value not in values:
                values.append(value)
    return found


def keys_of(cells: list[Cell], pool: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return axis → value of all cells, of those that are pooled once."""
    found: list[dict[str, Any]] = []
    for cell in cells:
        key = unpooled(cell.key, pool)
        if not pool or key not in found:
            found.append(key)
    return found


def _anchored(base: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the base with files beside it by their absolute paths."""
    data = dict(base.get("data", {}))
    for key in ("source", "test"):
        if isinstance(data.get(key), str) and (folder / data[key]).exists():
            data[key] = str((folder / data[key]).resolve())
    return {**base, "data": data}
