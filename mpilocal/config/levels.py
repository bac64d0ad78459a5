"""The forms of `[[levels]] group`: which workers average together, smallest groups first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from mpilocal.config.typed import build, shown
from mpilocal.errors import ConfigError

Size = Annotated[int, Meta(ge=1)]


class Blocks(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`group = 4`: blocks of so many consecutive workers."""

    size: Size


class Sizes(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`{ sizes = [3, 5] }`: blocks of consecutive workers, each of its own size."""

    sizes: Annotated[list[Size], Meta(min_length=1)]


class Random(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`{ random = 4, redraw = "every" }`: seeded random groups of so many workers.

    They are drawn inside each group of the level above, afresh at each averaging of that group ("every") or "once".
    """

    random: Size
    redraw: Literal["every", "once"] = "every"


Group: TypeAlias = Blocks | Sizes | Random | Literal["node", "world"]

FORMS = 'a number of workers, "node", "world", { sizes = [3, 5] } or { random = 4, redraw = "every" }'


def parse_group(value: Any, where: str) -> Group:
    """Return what `group` says.

    Raises:
        ConfigError: it has none of the forms.
    """
    if value in ("node", "world"):
        name: Literal["node", "world"] = value
        return name
    if isinstance(value, Mapping) and {"sizes", "random"} <= value.keys():
        raise ConfigError(f"{where} has both sizes and random, which exclude each other: remove one")
    if isinstance(value, Mapping) and "sizes" in value:
        return build(Sizes, value, where)
    if isinstance(value, Mapping) and "random" in value:
        return build(Random, value, where)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return Blocks(size=value)
    raise ConfigError(f"{where} = {shown(value)} is not accepted: write {FORMS}")
