"""The numbers that a formula of a claim or a figure may name: keys of the config, and series at one record.

`K` where the study's `names` has `K = "workers.count"`; `cost` where it has `cost = "1 + 50 / K"`; `step`, a series,
and `first_suboptimality`, `largest_suboptimality`, its first value and its largest up to there; `local_steps`, the last
part of a key of the config that no other key ends in. Formulas of conditions compare two such:
`H <= sqrt(step / (K * b))`.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from mpilocal.config.structs import Config
from mpilocal.errors import ConfigError, suggest
from mpilocal.study.formula import FUNCTIONS, evaluate
from mpilocal.study.results import Run
from mpilocal.study.series import column, is_series

RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


class Keys(Mapping[str, float]):
    """The numbers of a config."""

    def __init__(self, config: Any, names: Mapping[str, str]) -> None:
        self.config, self.names = config, names
        self.keys_of = {short: key for short, key in {**leaves(), **names}.items() if is_key(key)}

    def __getitem__(self, name: str) -> float:
        if name in self.names and name not in self.keys_of:
            return float(evaluate(self.names[name], self, f"names.{name}"))
        found = at(self.config, self.keys_of[name])
        if not is_number(found):
            raise ConfigError(f'the name "{name}" stands for {self.keys_of[name]}, which is no number in every run')
        return float(found)

    def __contains__(self, name: object) -> bool:
        return name in self.names or name in self.keys_of

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.names, *self.keys_of]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def evaluate(self, text: str, where: str) -> float:
        """Return the value of a formula (ConfigError where it has none)."""
        return float(evaluate(text, self, where))


class Known(Keys):
    """The numbers of a run at one record; `place` None: the keys of its config alone. `more` come before all others."""

    def __init__(
        self, run: Run, names: Mapping[str, str], place: int | None, more: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(run.config, names)
        self.run, self.place, self.more = run, place, more or {}

    def __getitem__(self, name: str) -> float:
        if name in self.more:
            return self.more[name]
        if super().__contains__(name):
            return super().__getitem__(name)
        if self.place is None:
            return math.nan
        how, series = along(name)
        values = column(self.run, series, name)[: self.place + 1]
        return float({"first_": values[0], "largest_": np.max(values), "": values[-1]}[how])

    def __contains__(self, name: object) -> bool:
        series = along(str(name))[1]
        recorded = series in self.run.history or series in ("bytes", "seconds") or self.place is None
        return name in self.more or super().__contains__(name) or recorded

    def __iter__(self) -> Iterator[str]:
        own = [*self.names, *self.keys_of, *(name for name in self.run.history if name.isidentifier())]
        return iter(dict.fromkeys([*self.more, *own]))

    def holds(self, text: str, where: str) -> bool:
        """Return whether a condition holds; it does where it has no value, so that nothing lost is hidden."""
        left, relation, right = split(text, where)
        one, other = self.evaluate(left, where), self.evaluate(right, where)
        return math.isnan(one) or math.isnan(other) or RELATIONS[relation](one, other)


@functools.cache
def leaves() -> dict[str, str]:
    """Return the last part of each key → the key, where only one ends in it and no series is called so."""
    found = []
    for section in msgspec.structs.fields(Config):
        if isinstance(section.type, type) and issubclass(section.type, Struct):
            for leaf in msgspec.structs.fields(section.type):
                found.append((leaf.encode_name, f"{section.encode_name}.{leaf.encode_name}"))
    count = Counter(leaf for leaf, _ in found)
    return {leaf: key for leaf, key in found if count[leaf] == 1 and not is_series(leaf)}


def at(config: Any, dotted: str) -> Any:
    """Return the value of a dotted key, None where it is not set; places of lists count from 0."""
    node = config
    for part in dotted.split("."):
        if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, Mapping) and part in node:
            node = node[part]
        else:
            return None
    return node


def split(text: str, where: str) -> tuple[str, str, str]:
    """Return the two sides of a condition and what stands between them (ConfigError unless there is just one)."""
    parts = re.split(r"(<=|>=|<|>)", text)
    if len(parts) != 3:
        raise ConfigError(f'{where} = "{text}" is no condition: write two formulas with one of <= >= < > between them')
    return parts[0].strip(), parts[1], parts[2].strip()


def is_key(text: str) -> bool:
    """Return whether a name stands for a dotted key, and not for a formula."""
    return re.fullmatch(r"[A-Za-z_]\w*(\.[\w-]+)+", text) is not None


def along(name: str) -> tuple[str, str]:
    """Return how a name is taken from a series, and which: `first_` and `largest_` are of the records up to there."""
    for how in ("first_", "largest_"):
        if name.startswith(how) and is_series(name.removeprefix(how)):
            return how, name.removeprefix(how)
    return "", name


def is_number(value: Any) -> bool:
    """Return whether a value of a config is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def used(text: str) -> list[str]:
    """Return the names in a formula, in alphabetical order; none where it is no formula."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError):
        return []
    return sorted({node.id for node in nodes if isinstance(node, ast.Name)} - set(FUNCTIONS))


def check_definitions(names: Mapping[str, str]) -> None:
    """Refuse names that stand for no key or formula, or for themselves (ConfigError)."""

    def follow(short: str, path: tuple[str, ...]) -> None:
        if short in path:
            raise ConfigError(f"names.{short} is defined by itself: {' → '.join([*path, short])}")
        if short in names and not is_key(names[short]):
            check(names[short], names, f"names.{short}", more=("target",))
            for other in used(names[short]):
                follow(other, (*path, short))

    for short, text in names.items():
        if is_key(text):
            _check_key(text, f"names.{short}")
        follow(short, ())


def _check_key(dotted: str, where: str) -> None:
    """Refuse a dotted key that no config has (ConfigError); what is inside a table of options is not looked at."""
    kind: Any = Config
    for place, part in enumerate(dotted.split(".")):
        if not (isinstance(kind, type) and issubclass(kind, Struct)):
            return
        known = {one.encode_name: one.type for one in msgspec.structs.fields(kind)}
        if part not in known:
            owner = "a config" if place == 0 else f"[{'.'.join(dotted.split('.')[:place])}]"
            raise ConfigError(f'{where} = "{dotted}": {part} is no key of {owner}; {suggest(part, known)}')
        kind = known[part]


def definitions(texts: Iterable[str], names: Mapping[str, str]) -> list[str]:
    """Return `rho = 25` for each name with a formula or number that these formulas use, directly or not."""
    found: dict[str, str] = {}
    waiting = [short for text in texts for part in re.split(r"<=|>=|<|>", text) for short in used(part)]
    while waiting:
        short = waiting.pop(0)
        if short in names and short not in found and not is_key(names[short]):
            found[short] = f"{short} = {names[short]}"
            waiting += used(names[short])
    return list(found.values())


def check(text: str, names: Mapping[str, str], where: str, more: Iterable[str] = ()) -> None:
    """Refuse what is no formula, or names what is not known (ConfigError); `more` is known besides."""
    known = dict.fromkeys([*names, *leaves(), *more], math.nan)
    known |= {name: math.nan for name in used(text) if is_series(along(name)[1])}
    try:
        evaluate(text, known, where)
    except ConfigError as error:
        # ceil and floor of NaN, which stands here for every name
        if "NaN" not in str(error.__cause__):
            raise
