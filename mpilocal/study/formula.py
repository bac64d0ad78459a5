"""Formulas of a study's file: numbers, names, + − × ÷ and a few functions, and nothing that could do harm."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from mpilocal.errors import ConfigError, suggest


class NoValue(ConfigError):
    """A formula that has no value here, as 1/0."""


OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ceil": math.ceil,
    "floor": math.floor,
    "max": max,
    "min": min,
    "sqrt": math.sqrt,
    "log": math.log,
    "exp": math.exp,
}


def evaluate(text: str, names: Mapping[str, float], where: str) -> float:
    """Return the value of a formula.

    Raises:
        ConfigError: it is no formula, a name is not known, or it has no value.
    """
    try:
        found: float = _value(ast.parse(text, mode="eval").body, names, where)
        return found
    except (SyntaxError, TypeError, ValueError) as error:
        known = f"numbers, + - * / // **, {', '.join(FUNCTIONS)} and the names {', '.join(names)}"
        raise ConfigError(f'{where} = "{text}" is no formula ({error}): write it with {known}') from error
    except ArithmeticError as error:
        raise NoValue(f'{where} = "{text}" has no value: {error}') from error


def _value(node: ast.AST, names: Mapping[str, float], where: str) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.Name):
        if node.id not in names:
            raise ConfigError(f'{where}: "{node.id}" is not a known name; {suggest(node.id, names)}')
        return names[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.left, names, where), _value(node.right, names, where))
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.operand, names, where))
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in FUNCTIONS
        and not node.keywords
    ):
        args = [_value(one, names, where) for one in node.args]
        try:
            return FUNCTIONS[node.func.id](*args)
        except ValueError as error:
            if any(math.isnan(one) for one in args):
                raise
            raise ArithmeticError(f"{ast.unparse(node)}: {error}") from error
    raise ValueError(f"{ast.unparse(node)} is not possible here")
