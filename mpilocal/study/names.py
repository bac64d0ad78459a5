"""The numbers that a formula of a claim or a figure may name: keys of the config, and series at one record.

`K` where the study's `names` has `K = "workers.count"`; `step`, a series; `local_steps`, the last part of a key of the
config that no other key ends in. Formulas of conditions compare two such: `H <= sqrt(step / (K * b))`.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from mpilocal.config.structs import Config
from mpilocal.errors import ConfigError
from mpilocal.study.formula import FUNCTIONS, evaluate
from mpilocal.study.results import Run
from mpilocal.study.series import column, is_series

RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


class Known(Mapping[str, float]):
    """The numbers of a run at one record; `place` None: the keys of its config alone."""

    def __init__(self, run: Run, names: Mapping[str, str], place: int | None) -> None:
        self.run, self.place = run, place
        self.keys_of = {**leaves(), **names}

    def __getitem__(self, name: str) -> float:
        if name in self.keys_of:
            found = at(self.run.config, self.keys_of[name])
            if isinstance(found, bool) or not isinstance(found, int | float):
                raise ConfigError(f'the name "{name}" stands for {self.keys_of[name]}, which is no number in every run')
            return float(found)
        if self.place is None:
            return math.nan
        return float(column(self.run, name, name)[self.place])

    def __contains__(self, name: object) -> bool:
        return name in self.keys_of or name in self.run.history or name in ("bytes", "seconds") or self.place is None

    def __iter__(self) -> Iterator[str]:
        return iter([*self.keys_of, *(name for name in self.run.history if name.isidentifier())])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def evaluate(self, text: str, where: str) -> float:
        """Return the value of a formula (ConfigError where it has none)."""
        return float(evaluate(text, self, where))

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


def check(text: str, names: Mapping[str, str], where: str) -> None:
    """Refuse what is no formula, or names what is not known (ConfigError)."""
    known = dict.fromkeys([*names, *leaves()], math.nan)
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError):
        nodes = []
    used = {node.id for node in nodes if isinstance(node, ast.Name)} - set(FUNCTIONS)
    known |= {name: math.nan for name in used if is_series(name)}
    try:
        evaluate(text, known, where)
    except ConfigError as error:
        # ceil and floor of NaN, which stands here for every name
        if "NaN" not in str(error.__cause__):
            raise
