"""A study's file: what is run over which grid and seeds, what is tuned, claimed and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

from mpilocal.config import toml
from mpilocal.config.typed import build, check_numbers, shown
from mpilocal.errors import ConfigError, suggest
from mpilocal.study.names import check_definitions, is_number

Table = dict[str, Any]
Seed = Annotated[int, Meta(ge=0)]
Values = Annotated[
    list[Annotated[float, Meta(gt=0)]],
    Meta(min_length=2, description="Ascending; extended by the same ratio until the best is not at an end."),
]


class Grid(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Cells: all combinations of the values of `axes`, each a dotted key of the config."""

    variant: Annotated[str, Meta(description="The name of these cells on the axis `variant`.")] = ""
    axes: Annotated[Table, Meta(description="Dotted key → list of values.")] = field(default_factory=dict)
    set: Annotated[Table, Meta(description="Dotted key → value, the same in all these cells.")] = field(
        default_factory=dict
    )
    derive: Annotated[dict[str, str], Meta(description="Laid over the study's.")] = field(default_factory=dict)
    tune: Annotated[Table | None, Meta(description="Instead of the study's.")] = None
    seeds: Annotated[Table, Meta(description="Laid over the study's.")] = field(default_factory=dict)


class Seeds(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Seeds of the runs: those that are reported, and those on which step sizes are chosen."""

    report: Annotated[list[Seed], Meta(min_length=1)]
    tune: list[Seed] = field(default_factory=list)
    keys: Annotated[list[str], Meta(min_length=1, description="Dotted keys that take the seed.")] = field(
        default_factory=lambda: ["run.seed"]
    )


class Family(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Values to try for the key that is tuned, other keys being set so."""

    values: Values
    set: Annotated[Table, Meta(description="Dotted key → value.")] = field(default_factory=dict)


class Tune(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """In each cell `key` takes the value whose mean of `quantity` over the tuning seeds is best."""

    key: Annotated[str, Meta(description="Dotted key, as algorithm.step_size.")]
    values: Values | None = None
    families: Annotated[
        list[Family], Meta(description="Instead of `values`: several grids, of which the best of all is taken.")
    ] = field(default_factory=list)
    quantity: Annotated[Table, Meta(description="What is made small: a quantity, as in a claim.")]
    largest: Annotated[bool, Meta(description="Make it large instead.")] = False
    extensions: Annotated[int, Meta(ge=0, description="Values added at one end, at most.")] = 8


class Study(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole study."""

    title: str
    base: Annotated[str | Table, Meta(description="A config, by its file or as a table.")]
    grid: list[Table]
    seeds: Seeds
    derive: Annotated[
        dict[str, str], Meta(description="Dotted key → formula in the names of `names`, as `ceil(2e6 / (K * b * H))`.")
    ] = field(default_factory=dict)
    names: Annotated[
        dict[str, str], Meta(description="Short name → dotted key, number, or formula in other names; for formulas.")
    ] = field(default_factory=dict)
    pool: Annotated[
        list[str], Meta(description="Axes, as `data.options.seed`, whose cells are tuned apart and count like seeds.")
    ] = field(default_factory=list)
    tune: Table | None = None
    told: Annotated[
        dict[str, list[Table]], Meta(description="Name → `entries`, which claims of the kind `table` may name.")
    ] = field(default_factory=dict)
    claims: list[Table] = field(default_factory=list)
    figures: list[Table] = field(default_factory=list)
    quick: Annotated[Table, Meta(description="Keys of the study that `--quick` replaces.")] = field(
        default_factory=dict
    )
    full: Annotated[Table, Meta(description="Keys of the study that `--full` replaces.")] = field(default_factory=dict)

    def grids(self) -> list[Grid]:
        """Return the checked grids."""
        return [build(Grid, table, f"grid.{place}") for place, table in enumerate(self.grid)]

    def sown(self, grid: int) -> Seeds:
        """Return the seeds of the cells of a grid, checked."""
        return build(Seeds, merged(msgspec.to_builtins(self.seeds), self.grids()[grid].seeds), f"grid.{grid}.seeds")

    def tuning(self, grid: int) -> Tune | None:
        """Return what is tuned in the cells of a grid, checked."""
        own = self.grids()[grid].tune
        table, where = (self.tune, "tune") if own is None else (own, f"grid.{grid}.tune")
        if table is None:
            return None
        found = build(Tune, table, where)
        if (found.values is None) == (not found.families):
            raise ConfigError(f"{where} has to have either values or families")
        families = found.families or [Family(values=found.values or [])]
        for family in families:
            if sorted(set(family.values)) != family.values:
                raise ConfigError(f"{where}.values = {shown(family.values)} must ascend: sort them, without repeats")
        return msgspec.structs.replace(found, values=None, families=families)


def load(path: str | Path, size: str = "", overrides: Sequence[str] = ()) -> tuple[Study, Path]:
    """Return a study from its file, and the folder in which its files are looked for.

    Args:
        path: Of the TOML file.
        size: "", "quick" or "full".
        overrides: `key=value` for the study's own keys.

    Raises:
        ConfigError: it is no study.
    """
    table = toml.read(path)
    if size:
        table = merged(table, table.get(size, {}))
    table = toml.override(table, overrides)
    check_numbers(table)
    if isinstance(names := table.get("names"), dict):
        plain = {short: repr(one) if is_number(one) else one for short, one in names.items()}
        table = {**table, "names": plain}
    study = _with_entries(build(Study, table))
    check_definitions(study.names)
    grids = study.grids()
    if not grids:
        raise ConfigError("grid is empty: write [[grid]] with the axes of the study at least once")
    for place, grid in enumerate(grids):
        for key, values in grid.axes.items():
            if not isinstance(values, list) or not values:
                raise ConfigError(f"grid.{place}.axes.{key} = {shown(values)} is no list of values: write some")
            _refuse_repeats(values, f"grid.{place}.axes.{key}")
    known = dict.fromkeys(axis for grid in grids for axis in grid.axes)
    if lacking := [axis for axis in study.pool if axis not in known]:
        raise ConfigError(f'pool: "{lacking[0]}" is not an axis of the grid; {suggest(lacking[0], known)}')
    if len({grid.variant for grid in grids}) < len(grids):
        raise ConfigError("two entries of grid have the same variant: give each its own name")
    for place in range(len(grids)):
        seeds = study.sown(place)
        for name in ("report", "tune", "keys"):
            _refuse_repeats(getattr(seeds, name), f"seeds.{name}")
        if not study.tuning(place):
            continue
        if not seeds.tune:
            raise ConfigError("seeds.tune is missing: what is tuned is never chosen on the seeds that are reported")
        if shared := sorted(set(seeds.tune) & set(seeds.report)):
            raise ConfigError(f"seeds.tune and seeds.report share {shared[0]}: no value is chosen on a reported seed")
    return study, Path(path).absolute().parent


def _refuse_repeats(values: Sequence[Any], where: str) -> None:
    seen: list[Any] = []
    for value in values:
        if value in seen:
            raise ConfigError(f"{where} holds {shown(value)} twice: write it once")
        seen.append(value)


def _with_entries(study: Study) -> Study:
    """Return the study with the entries that its claims name."""
    claims = []
    for place, claim in enumerate(study.claims):
        name = claim.get("entries")
        if isinstance(name, str) and name not in study.told:
            raise ConfigError(f'claims.{place}.entries: "{name}" is not a table of told; {suggest(name, study.told)}')
        claims.append({**claim, "entries": study.told[name]} if isinstance(name, str) else claim)
    return msgspec.structs.replace(study, claims=claims)


def merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table with the changes laid over it.

    Tables inside tables are merged; lists are replaced, by a table whose keys are places (`grid.0.axes`) only there.
    """
    found = dict(table)
    for key, value in changes.items():
        old = found.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            found[key] = merged(old, value)
        elif isinstance(old, list) and isinstance(value, Mapping):
            found[key] = list(_at_places(old, value, key).values())
        else:
            found[key] = value
    return found


def _at_places(old: list[Any], changes: Mapping[str, Any], key: str) -> dict[str, Any]:
    places = {str(place): one for place, one in enumerate(old)}
    for place, change in changes.items():
        if place not in places:
            raise ConfigError(f"{key}.{place}: {key} has {len(old)} entries, counted from 0")
        whole = isinstance(places[place], Mapping) and isinstance(change, Mapping)
        places[place] = merged(places[place], change) if whole else change
    return places


def plain(study: Study) -> dict[str, Any]:
    """Return the study as plain dictionaries."""
    found: dict[str, Any] = msgspec.to_builtins(study)
    return {key: value for key, value in found.items() if value is not None}
