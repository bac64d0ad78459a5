"""The tables with a `kind`: step sizes, local steps, averages of the iterates, with their options.

t counts the local steps that a worker has completed, from 0; j counts rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from msgspec import Meta, Struct

from mpilocal.config.typed import build, shown
from mpilocal.errors import ConfigError, suggest

Above = Annotated[float, Meta(gt=0)]
AtLeast = Annotated[float, Meta(ge=0)]
Steps = Annotated[int, Meta(ge=1)]


class Schedule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """What all step sizes share: η_t is multiplied by min(1, (t + 1)/warmup) where warmup > 0."""

    warmup: Annotated[int, Meta(ge=0, description="Steps.")] = 0


class Constant(Schedule, frozen=True, tag="constant"):
    """η_t = value."""

    value: Above


class InverseTime(Schedule, frozen=True, tag="inverse-time"):
    """η_t = scale/(shift + t); "auto": 4/µ and a = max{16κ, H}, Stich (2019), Theorem 2.2."""

    scale: Above | Literal["auto"] = "auto"
    shift: Above | Literal["auto"] = "auto"


class InverseSqrt(Schedule, frozen=True, tag="inverse-sqrt"):
    """η_t = scale/√(shift + t)."""

    scale: Above
    shift: Above = 1.0


class Stich(Schedule, frozen=True, tag="stich"):
    """η_t = min{32, c·n/(t + 1)}, or 32c where `constant`; Stich (2019), section 4; n is all rows."""

    c: Above
    constant: bool = False


class Piecewise(Schedule, frozen=True, tag="piecewise"):
    """η_t = values[i] for steps[i − 1] ≤ t < steps[i]: one value more than steps, which ascend."""

    values: Annotated[list[Above], Meta(min_length=1)]
    steps: list[Steps]


class FixedSteps(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="constant"):
    """`steps` local steps in every round."""

    steps: Steps


class PostLocal(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="post-local"):
    """One local step in each of the first `until` rounds, then `steps`; Lin et al. (2020)."""

    until: Annotated[int, Meta(ge=0, description="Rounds.")]
    steps: Steps


class Growing(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="growing"):
    """Round j = 1, 2, … ends at step ⌊scale·j²⌋."""

    scale: Above


class Regular(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="regular"):
    """Every `rounds` rounds."""

    rounds: Steps


class Geometric(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="geometric"):
    """Round 1, then ⌈ratio·r⌉ after round r, but at least r + 1."""

    ratio: Annotated[float, Meta(gt=1)]


class Last(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="last"):
    """The last iterate itself."""


class Uniform(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="uniform"):
    """Weights w_t = 1."""


class Linear(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="linear"):
    """Weights w_t = shift + t; "auto": the shift of an inverse-time or inverse-sqrt step size, else 1."""

    shift: AtLeast | Literal["auto"] = "auto"


class Quadratic(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="quadratic"):
    """Weights w_t = (shift + t)², Stich (2019), Theorem 2.2; "auto" as in `Linear`."""

    shift: AtLeast | Literal["auto"] = "auto"


class Tail(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="tail"):
    """Weights w_t = 1 from the fraction `start` of all steps on, 0 before."""

    start: Annotated[float, Meta(gt=0, lt=1)] = 0.5


StepSize: TypeAlias = Constant | InverseTime | InverseSqrt | Stich | Piecewise
LocalSteps: TypeAlias = FixedSteps | PostLocal | Growing
RecordEvery: TypeAlias = Regular | Geometric
IterateAverage: TypeAlias = Last | Uniform | Linear | Quadratic | Tail

STEP_SIZES: tuple[type[StepSize], ...] = (Constant, InverseTime, InverseSqrt, Stich, Piecewise)
LOCAL_STEPS: tuple[type[LocalSteps], ...] = (FixedSteps, PostLocal, Growing)
RECORD_EVERY: tuple[type[RecordEvery], ...] = (Regular, Geometric)
ITERATE_AVERAGES: tuple[type[IterateAverage], ...] = (Last, Uniform, Linear, Quadratic, Tail)

K = TypeVar("K", bound=Struct)


def parse_step_size(value: float | Mapping[str, Any]) -> StepSize:
    """Return `algorithm.step_size`, a number or a table with `kind`; ConfigError where it is neither."""
    if not isinstance(value, Mapping):
        return build(Constant, {"value": value}, "algorithm.step_size")
    found: StepSize = _tagged(STEP_SIZES, value, "algorithm.step_size")
    if isinstance(found, Piecewise):
        ascending = all(first < second for first, second in zip(found.steps, found.steps[1:], strict=False))
        if not ascending:
            raise ConfigError(f"algorithm.step_size.steps = {shown(found.steps)} must ascend: sort it, without repeats")
        if len(found.values) != len(found.steps) + 1:
            raise ConfigError(
                f"algorithm.step_size has {len(found.values)} values for {len(found.steps)} steps: "
                f"write one value more than steps, the first being used before steps[0]"
            )
    return found


def parse_local_steps(value: int | Mapping[str, Any]) -> LocalSteps:
    """Return `algorithm.local_steps`, an integer or a table with `kind`; ConfigError where it is neither."""
    if not isinstance(value, Mapping):
        return build(FixedSteps, {"steps": value}, "algorithm.local_steps")
    return _tagged(LOCAL_STEPS, value, "algorithm.local_steps")


def parse_record_every(value: int | Mapping[str, Any]) -> RecordEvery:
    """Return `output.record_every`, an integer or a table with `kind`; ConfigError where it is neither."""
    if not isinstance(value, Mapping):
        return build(Regular, {"rounds": value}, "output.record_every")
    return _tagged(RECORD_EVERY, value, "output.record_every")


def parse_iterate_average(
    value: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]],
) -> tuple[IterateAverage, ...]:
    """Return `algorithm.iterate_average`: each a name, or a table with `kind`; all different.

    Raises:
        ConfigError: a kind or option is not known, or the same average is asked for twice.
    """
    key = "algorithm.iterate_average"
    several = isinstance(value, Sequence) and not isinstance(value, str)
    items = list(value) if several else [value]
    found: list[IterateAverage] = []
    for index, item in enumerate(items):
        where = f"{key}.{index}" if several else key
        one: IterateAverage = _tagged(ITERATE_AVERAGES, {"kind": item} if isinstance(item, str) else item, where)
        if one in found:
            raise ConfigError(f"{where} = {shown(item)} is asked for twice: remove one")
        found.append(one)
    return tuple(found)


def _tagged(kinds: Sequence[type[K]], table: Any, where: str) -> K:
    known = {str(kind.__struct_config__.tag): kind for kind in kinds}
    names = ", ".join(known)
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} = {shown(table)} is not accepted: write a table with `kind`, one of: {names}")
    if "kind" not in table:
        raise ConfigError(f"{where}.kind is missing: write one of: {names}")
    name = table["kind"]
    if not isinstance(name, str) or name not in known:
        raise ConfigError(f"{where}.kind = {shown(name)} is not known; {suggest(str(name), known)}")
    return build(known[name], table, where)
