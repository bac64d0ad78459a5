"""TOML to `Config` and back, with `-s key=value` overrides; every fault is a ConfigError of one sentence."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from mpilocal.config import kinds
from mpilocal.config.levels import parse_group
from mpilocal.config.structs import Config, to_builtins
from mpilocal.config.typed import build, check_numbers, shown
from mpilocal.errors import ConfigError

MOST_WORKERS = 1 << 24
RECORDED = ("resolved", "history")  # tables that a run adds to its own config.toml


def read(path: str | Path) -> dict[str, Any]:
    """Return the TOML file as a dictionary.

    Raises:
        ConfigError: it cannot be read, or is not TOML; the sentence gives file and line.
    """
    try:
        return tomllib.loads(Path(path).read_bytes().decode())
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}; give the path of a TOML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the config {path} is not UTF-8 text (byte {error.start}): give a TOML file") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"the config {path} is not TOML: {error}; correct it there") from error


def override(table: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return a copy of `table` with each `dotted.key=value` set; the value is TOML, else a bare string.

    A number in a key is the index of a list: `levels.0.period=4`. Tables and lists that are missing are added.

    Raises:
        ConfigError: no `=`, a parent that is not a table, an index beyond the list, or a broken table or list.
    """
    result: dict[str, Any] = copy.deepcopy(dict(table))
    for setting in settings:
        key, equals, text = setting.partition("=")
        parts = [part.strip() for part in key.split(".")]
        if not equals or not all(parts):
            raise ConfigError(f'-s "{setting}" is not an override: write -s key=value, as in -s algorithm.rounds=100')
        node: Any = result
        for depth, part in enumerate(parts):
            where = ".".join(parts[:depth])
            last = depth == len(parts) - 1
            if isinstance(node, list):
                if part == str(len(node)) and not last:
                    node.append({})
                if not (part.isdecimal() and int(part) < len(node)):
                    raise ConfigError(
                        f'-s "{setting}": {where} has {len(node)} entries, and "{part}" is none of them: '
                        f"write an index from 0 to {len(node) - 1}"
                    )
                index: Any = int(part)
            elif isinstance(node, dict):
                index = part
                if not last:
                    node.setdefault(part, [] if parts[depth + 1] == "0" else {})
            else:
                raise ConfigError(
                    f'-s "{setting}": {where} = {shown(node)} is not a table: write -s {where}={{…}} to replace it'
                )
            if last:
                node[index] = _value(text.strip(), setting)
            else:
                node = node[index]
    return result


def _value(text: str, setting: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        if text[:1] in ("{", "[", '"', "'"):
            raise ConfigError(
                f'-s "{setting}": {text} is not a TOML value; quote strings inside it, and the whole for the shell'
            ) from error
        return text
    value = parsed["value"]
    known = isinstance(value, bool | int | float | str | list | dict)  # a date is the name that it looks like
    return value if known and len(parsed) == 1 else text


def convert(table: Mapping[str, Any]) -> Config:
    """Return the table as a checked `Config`.

    Raises:
        ConfigError: naming the dotted key, its value, and what to write instead.
    """
    check_numbers(table)
    config = build(Config, table)
    check(config)
    return config


def load(source: str | Path | Mapping[str, Any] | Config, overrides: Sequence[str] = ()) -> Config:
    """Return a checked `Config` from a TOML file, a dictionary or a `Config`, with overrides applied.

    The `config.toml` of a run is a config too: what the run recorded beside it is left out. Values of a dictionary may
    be NumPy's, paths and tuples; None is as if the key were not there.
    """
    if isinstance(source, Config):
        table = to_builtins(source)
    elif isinstance(source, Mapping):
        table = _plain(source)
    elif isinstance(source, str | Path):
        table = {key: value for key, value in read(source).items() if key not in RECORDED}
    else:
        raise ConfigError(f"{source!r} is no config: give the path of a TOML file, a dictionary or a Config")
    return convert(override(table, overrides))


def check(config: Config) -> None:
    """Refuse what no single key shows: tables with a `kind`, and keys that exclude each other (ConfigError).

    The partition, the loss, the method's options, and how levels nest are checked where they are built.
    """
    for index, level in enumerate(config.levels):
        parse_group(level.group, f"levels.{index}.group")
    if config.stop.suboptimality is not None and config.problem.optimum is None:
        raise ConfigError(
            f'stop.suboptimality = {config.stop.suboptimality:g} needs F*: set problem.optimum to "auto" or a number'
        )
    count = config.workers.count
    if isinstance(count, int) and count > MOST_WORKERS:
        raise ConfigError(f"workers.count = {count} is more than {MOST_WORKERS}, to which sums over workers are exact")
    algorithm = config.algorithm
    kinds.parse_step_size(algorithm.step_size)
    kinds.parse_iterate_average(algorithm.iterate_average)
    kinds.parse_record_every(config.output.record_every)
    local_steps = kinds.parse_local_steps(algorithm.local_steps)
    if algorithm.inner_step_size is not None and algorithm.server_step_size != 1:
        raise ConfigError(
            f"algorithm.server_step_size = {shown(algorithm.server_step_size)} excludes algorithm.inner_step_size = "
            f"{shown(algorithm.inner_step_size)}: step_size is the outer step then, so remove server_step_size"
        )
    if isinstance(local_steps, kinds.Growing):
        steps = local_steps.scale * algorithm.rounds**2
    else:
        steps = float(local_steps.steps) * algorithm.rounds
    if steps >= 2.0**63:
        raise ConfigError(
            f"algorithm.rounds = {algorithm.rounds} with algorithm.local_steps = {shown(algorithm.local_steps)} makes "
            f"{steps:.3g} steps a worker, more than 64 bits count: write fewer"
        )


def dump(config: Config, *tables: Mapping[str, Any]) -> str:
    """Return the config as TOML, unset keys and empty tables left out, followed by further top-level tables.

    Values of NumPy and paths are written as the numbers and strings that they stand for.
    """
    whole = {key: _filled(value) for key, value in to_builtins(config).items() if value and _filled(value)}
    for table in tables:
        whole |= {key: _plain(value) for key, value in table.items() if value is not None}
    return tomli_w.dumps(whole)


def _filled(value: Any) -> Any:
    return {key: item for key, item in value.items() if item != {}} if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value.tolist() if hasattr(value, "tolist") else value
