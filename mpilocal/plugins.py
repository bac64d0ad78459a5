"""What a user brings along: FILE.py:NAME in a config, or an entry point of an installed package."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from mpilocal.errors import ConfigError, suggest


def find(name: str, known: Mapping[str, str], group: str, key: str, folder: Path) -> Any:
    """Return the object that `name` names: one of `known`, an entry point of `group`, or FILE.py:NAME.

    Args:
        name: what the config says.
        known: name → "module:attribute" of what is built in.
        group: the entry points' group.
        key: the config's key, for the error.
        folder: where a relative FILE is looked for, before the working directory.

    Raises:
        ConfigError: nothing has that name, or the file does not hold it.
    """
    if name in known:
        module, _, attribute = known[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    if is_file(name):
        return load(name, group, key, folder)
    found = {point.name: point for point in entry_points(group=group)}
    if name in found:
        try:
            return found[name].load()
        except Exception as error:
            raise ConfigError(f'{key} = "{name}" cannot be loaded from {found[name].value}: {error}') from error
    raise ConfigError(f'{key} = "{name}" is not known; {suggest(name, {*known, *found})}')


def is_file(name: str) -> bool:
    """Return whether a name is of the form FILE.py:NAME."""
    return ".py:" in name


def locate(name: str, group: str, key: str, folder: Path) -> tuple[Path, str]:
    """Return (file, attribute) of FILE.py:NAME, or of an entry point of `group`."""
    for point in entry_points(group=group, name=name):
        spec = importlib.util.find_spec(point.module)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin), point.attr
    file, _, attribute = name.rpartition(":")
    for base in (folder, Path.cwd()):
        path = base / file
        if path.is_file():
            return path.resolve(), attribute
    raise ConfigError(f'{key} = "{name}": there is no file {file} beside the config or in the working directory')


def load(name: str, group: str, key: str, folder: Path) -> Any:
    """Return the object NAME of FILE.py."""
    path, attribute = locate(name, group, key, folder)
    module = import_file(path, f'{key} = "{name}"')
    if not hasattr(module, attribute):
        public = [known for known in vars(module) if not known.startswith("_")]
        raise ConfigError(f'{key} = "{name}": {path.name} holds no {attribute}; {suggest(attribute, public)}')
    return getattr(module, attribute)


def import_file(path: Path, what: str) -> ModuleType:
    """Import a file as a module of its own, once."""
    name = f"mpilocal_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(f"{what} cannot be imported: {type(error).__name__}: {error}") from error
    return module
