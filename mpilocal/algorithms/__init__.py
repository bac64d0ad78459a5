"""Methods by name; a user's own is FILE.py:NAME or an entry point of the group `mpilocal.methods`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

from mpilocal.algorithms.base import Algorithm, Phase, Setting
from mpilocal.config.typed import expected, typed
from mpilocal.errors import ConfigError, suggest
from mpilocal.plugins import find

METHODS = {
    "local-sgd": "mpilocal.algorithms.local_sgd:local_sgd",
    "minibatch-sgd": "mpilocal.algorithms.minibatch_sgd:minibatch_sgd",
    "thumb-twiddling": "mpilocal.algorithms.thumb_twiddling:thumb_twiddling",
    "sgd": "mpilocal.algorithms.sgd:sgd",
    "local-ac-sa": "mpilocal.algorithms.local_ac_sa:local_ac_sa",
    "minibatch-ac-sa": "mpilocal.algorithms.minibatch_ac_sa:minibatch_ac_sa",
    "fedac": "mpilocal.algorithms.fedac:fedac",
    "least-squares": "mpilocal.algorithms.least_squares:least_squares",
    "modified-local-gd": "mpilocal.algorithms.modified_local_gd:modified_local_gd",
    "local-projection": "mpilocal.algorithms.local_projection:local_projection",
    "minibatch-fedac": "mpilocal.algorithms.minibatch_fedac:minibatch_fedac",
}


def build(setting: Setting, folder: Path) -> Algorithm:
    """Return the method that `algorithm.name` names, with its `[algorithm.options]`.

    Raises:
        ConfigError: there is no such method or option.
    """
    name = setting.options.name
    method: Callable[..., Algorithm] = find(name, METHODS, "mpilocal.methods", "algorithm.name", folder)
    if not callable(method):
        raise ConfigError(f'algorithm.name = "{name}" is no function: name one that takes a Setting (docs/own.md)')
    known = {
        key: parameter
        for key, parameter in inspect.signature(method).parameters.items()
        if parameter.kind == inspect.Parameter.KEYWORD_ONLY
    }
    for key in setting.options.options:
        if key not in known:
            hint = suggest(key, known) if known else "it has none"
            raise ConfigError(f'algorithm.options.{key} is not an option of "{name}"; {hint}')
    for key, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and key not in setting.options.options:
            raise ConfigError(f'algorithm.options.{key} is missing: "{name}" needs it')
    options = {key: _typed(method, key, value) for key, value in setting.options.options.items()}
    try:
        inspect.signature(method).bind(setting, **options)
    except TypeError as error:
        raise ConfigError(
            f'algorithm.name = "{name}" cannot be called with one Setting ({error}): a method takes it, and options by '
            "keyword"
        ) from error
    made: Any = method(setting, **options)
    if not isinstance(made, Algorithm):
        raise ConfigError(f'algorithm.name = "{name}" returned a {type(made).__name__} in the place of an Algorithm')
    return made


def _typed(method: Callable[..., Algorithm], key: str, value: Any) -> Any:
    """Return the value of an option as the method's annotation wants it, where it has one that is understood."""
    try:
        kind = get_type_hints(method, include_extras=True)[key]
        expected(kind)
    except (KeyError, NameError, TypeError):  # a user's method may be annotated otherwise
        return value
    return typed(kind, value, f"algorithm.options.{key}")


__all__ = ["METHODS", "Algorithm", "Phase", "Setting", "build"]
