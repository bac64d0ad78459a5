"""One thing that the doctor looks at."""

from __future__ import annotations

from importlib import metadata
from typing import Literal, NamedTuple


class Item(NamedTuple):
    """One thing that was looked at."""

    name: str
    status: Literal["ok", "note", "warning", "broken"]
    text: str
    remedy: str = ""


def many(count: int, thing: str) -> str:
    """Return "1 rank", "2 ranks"."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def version(package: str) -> str:
    """Return the version of an installed package, or "missing"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"
