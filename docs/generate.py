"""Prints docs/config.md from the structs of the config: python docs/generate.py > docs/config.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from mpilocal.config.kinds import ITERATE_AVERAGES, LOCAL_STEPS, RECORD_EVERY, STEP_SIZES
from mpilocal.config.structs import Config
from mpilocal.config.typed import expected
from mpilocal.data.bundled import BundledOptions
from mpilocal.data.images import ImageOptions
from mpilocal.data.laws import Exponential, Power, Regression, Single
from mpilocal.data.pairs import PairOptions
from mpilocal.data.partition import kinds
from mpilocal.data.sources import TextOptions
from mpilocal.data.synthetic import LAWS

HEAD = """\
# Config reference

Made from the source by `python docs/generate.py > docs/config.md`: do not edit it here.

A config is a TOML file. A key that is not known, a value of the wrong type, and a table with an option that its kind
does not have are refused with one sentence and status 2. `-s key=value` overrides any key
(`-s algorithm.local_steps=32 -s levels.0.period=4`). A relative file is looked for beside the config, then in the
working directory. The smallest config:

```toml
[data]
source = "sklearn:breast_cancer"
options = { standardize = true }

[workers]
count = 8

[algorithm]
rounds = 100
step_size = 0.1
```

Formulas use t for the local steps that a worker has completed, from 0; j for rounds; n for all rows; M for the workers.
[Methods](methods.md) says what the methods, losses and partitions do with these keys.
"""


VARIANTS = (
    (
        "Step sizes",
        "`algorithm.step_size` is a number, or a table with `kind`. All take `warmup`, in steps, default `0`: η_t is\n"
        "multiplied by min(1, (t + 1)/warmup).",
        STEP_SIZES,
    ),
    ("Local steps", "`algorithm.local_steps` is an integer, or a table with `kind`.", LOCAL_STEPS),
    ("Recorded rounds", "`output.record_every` is an integer, or a table with `kind`.", RECORD_EVERY),
    (
        "Iterate averages",
        "`algorithm.iterate_average` is a name, a table with `kind`, or a list of these.",
        ITERATE_AVERAGES,
    ),
)
PARTITIONS = "`data.partition` is a name, a table with `kind`, or `FILE.py:NAME`."
SOURCES: dict[str, type[Struct]] = {
    "`sklearn:NAME`": BundledOptions,
    "IDX and CIFAR-10 images": ImageOptions,
    "LIBSVM text": TextOptions,
}


def pages() -> Iterator[str]:
    """Yield the page, part by part."""
    yield HEAD
    for field in msgspec.structs.fields(Config):
        table, several = struct_of(field.type)
        yield f"## `{f'[[{field.name}]]' if several else f'[{field.name}]'}`\n\n{doc(table)}\n\n{keys(table)}"
    for title, text, found in VARIANTS:
        yield f"## {title}\n\n{text}\n\n{variants(found)}"
    yield f"## Partitions\n\n{PARTITIONS}\n\n{variants(kinds().values())}"
    yield f"## Pairs of digits\n\n`[data.pairs]`. {doc(PairOptions)}\n\n{keys(PairOptions)}"
    yield "## Options of a source\n\n`[data.options]`, by the source. HDF5 and `.npz` have none."
    for name, law in LAWS.items():
        yield f"### `synthetic:{name}`\n\n{doc(law)}\n\n{keys(law)}"
        if law is Regression:
            yield f"A sequence is a list, a string, or a table with `kind`:\n\n{variants((Power, Exponential, Single))}"
    for title, options in SOURCES.items():
        yield f"### {title}\n\n{doc(options)}\n\n{keys(options)}"


def struct_of(kind: Any) -> tuple[type[Struct], bool]:
    """Return the struct of a table of the config, and whether it is a list of them."""
    several = False
    while not isinstance(kind, type) or not issubclass(kind, Struct):
        several |= get_origin(kind) is list
        kind = get_args(kind)[0]
    return kind, several


def doc(kind: type) -> str:
    """Return the docstring."""
    lines = (kind.__doc__ or "").strip().splitlines()
    return "\n".join(line.strip() for line in lines)


def keys(kind: type[Struct]) -> str:
    """Return the table of a struct's fields."""
    rows = ["| key | type | default | |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(kind):
        rows.append(
            f"| `{field.encode_name}` | {cell(expected(field.type))} | {default(field)} | {described(field.type)} |"
        )
    return "\n".join(rows)


def variants(found: Iterable[type[Struct]]) -> str:
    """Return the table of the kinds of one key."""
    rows = ["| kind | | options |", "|---|---|---|"]
    for kind in found:
        options = [option(field) for field in msgspec.structs.fields(kind) if field.name != "warmup"]
        rows.append(f"| `{kind.__struct_config__.tag}` | {cell(' '.join(doc(kind).split()))} | {'; '.join(options)} |")
    return "\n".join(rows)


def option(field: Any) -> str:
    """Return a field of a kind in words: its type, default and description."""
    said = f"`{field.encode_name}`, {cell(expected(field.type))}"
    if not field.required:
        said += f", default {default(field)}"
    more = described(field.type)
    return f"{said} ({more[:1].lower() + more[1:].rstrip('.')})" if more else said


def default(field: Any) -> str:
    """Return a field's default as TOML writes it."""
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return "none" if value is None else f"`{json.dumps(value, ensure_ascii=False)}`"


def described(kind: Any) -> str:
    """Return the description that the annotation carries, at any depth."""
    metas = [one for one in getattr(kind, "__metadata__", ()) if isinstance(one, Meta) and one.description]
    if metas:
        return cell(str(metas[0].description))
    return next((text for one in get_args(kind) if (text := described(one))), "")


def cell(text: str) -> str:
    """Return text that a table's cell can hold."""
    return text.replace("|", "\\|").replace("\n", " ").replace("of at most 9.22337e+18", "below 2^63")


def page() -> str:
    """Return the whole page."""
    return "\n\n".join(part.strip("\n") for part in pages()) + "\n"


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    if len(sys.argv) > 1:
        sys.exit(f"usage: python {Path(__file__).name} > docs/config.md")
    sys.stdout.write(page())
