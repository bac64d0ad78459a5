"""Tables to frozen structs; what does not fit becomes one sentence with the key, its value and the remedy."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct, inspect

from mpilocal.errors import ConfigError, suggest

S = TypeVar("S", bound=Struct)


def build(kind: type[S], table: Any, where: str = "") -> S:
    """Return `table` as a struct of type `kind`; `where` is its dotted key, empty for the whole config.

    Raises:
        ConfigError: a key is unknown, missing, or its value is not of the field's type.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} = {shown(table)} is not a table: write it as [{where}] with the keys {_keys(kind)}")
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    tag = kind.__struct_config__.tag_field
    for key in table:
        if key not in fields and key != tag:
            owner = f"of [{where}]" if where else "of the config"
            raise ConfigError(f'"{key}" is not a known key {owner}; {suggest(str(key), fields)}')
    values: dict[str, Any] = {}
    for key, field in fields.items():
        path = f"{where}.{key}" if where else key
        nested = field.type if isinstance(field.type, type) and issubclass(field.type, Struct) else None
        if key in table:
            values[field.name] = build(nested, table[key], path) if nested else typed(field.type, table[key], path)
        elif field.required and nested:
            values[field.name] = build(nested, {}, path)
        elif field.required:
            raise ConfigError(f"{path} is missing: write {expected(field.type)}")
    return kind(**values)


def typed(kind: Any, value: Any, where: str) -> Any:
    """Return a value as `kind`; `where` is its dotted key; ConfigError where it does not fit."""
    inner = get_args(kind)[0] if get_origin(kind) is list else None
    if isinstance(inner, type) and issubclass(inner, Struct):
        if not isinstance(value, list):
            raise ConfigError(f"{where} = {shown(value)} is not a list of tables: write [[{where}]] once for each")
        return [build(inner, item, f"{where}.{index}") for index, item in enumerate(value)]
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        message = f"{where} = {shown(value)} is not accepted: write {expected(kind)}"
    if isinstance(value, str) and (near := suggest(value, _literals(inspect.type_info(kind)))).startswith("did"):
        message += f"; {near}"
    raise ConfigError(message)


def expected(kind: Any) -> str:
    """Return what a value of this type looks like: `an integer of at least 1 or "all"`."""
    return _expected(inspect.type_info(kind))


def _expected(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.Metadata):
        return _expected(kind.type)
    if isinstance(kind, inspect.UnionType):
        return " or ".join(_expected(one) for one in kind.types if not isinstance(one, inspect.NoneType))
    if isinstance(kind, inspect.LiteralType):
        return " or ".join(shown(value) for value in kind.values)
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        bounds = [f"{word} {bound:g}" for word, bound in _bounds(kind) if bound is not None]
        noun = "an integer" if isinstance(kind, inspect.IntType) else "a number"
        return f"{noun} {' and '.join(bounds)}" if bounds else noun
    if isinstance(kind, inspect.ListType):
        least = f" at least {kind.min_length}, each" if kind.min_length else ""
        return f"a list of{least}: {_expected(kind.item_type)}"
    nouns = {inspect.StrType: "a string", inspect.BoolType: "true or false", inspect.DictType: "a table"}
    return nouns.get(type(kind), "a table")


def _bounds(kind: inspect.IntType | inspect.FloatType) -> list[tuple[str, float | None]]:
    return [("above", kind.gt), ("of at least", kind.ge), ("below", kind.lt), ("of at most", kind.le)]


def _literals(kind: inspect.Type) -> list[str]:
    if isinstance(kind, inspect.Metadata):
        return _literals(kind.type)
    if isinstance(kind, inspect.UnionType):
        return [name for one in kind.types for name in _literals(one)]
    return [str(value) for value in kind.values] if isinstance(kind, inspect.LiteralType) else []


def _keys(kind: type[Struct]) -> str:
    return ", ".join(field.encode_name for field in msgspec.structs.fields(kind))


def shown(value: Any) -> str:
    """Return a value as TOML would write it, cut at 60 characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def check_numbers(table: Any) -> None:
    """Refuse nan, inf, integers beyond 64 bits and strings with NUL anywhere in the table (ConfigError)."""
    for key, value in _leaves(table, ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key} = {value} is not finite: write a number")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ConfigError(f"{key} = {value:.6g} does not fit in 64 bits: write a smaller integer")
        if isinstance(value, str) and "\0" in value:
            raise ConfigError(f"{key} = {shown(value)} holds a NUL character: remove it")


def _leaves(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    else:
        yield where, value
        return
    for key, item in items:
        yield from _leaves(item, f"{where}.{key}" if where else str(key))
