"""The data sets that come with scikit-learn: real, small, and there without a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct

from mpilocal.config.typed import build
from mpilocal.data.rows import Rows
from mpilocal.data.sources import InMemory
from mpilocal.errors import ConfigError, suggest

NAMES = ("breast_cancer", "diabetes", "digits", "iris", "wine")


class BundledOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of a set that comes with scikit-learn."""

    classes: Annotated[
        Annotated[list[int], Meta(min_length=1)] | None, Meta(description="Keep these classes only, such as [3, 8].")
    ] = None
    standardize: Annotated[bool, Meta(description="Each feature to mean 0, variance 1; constant ones to 0.")] = False
    scale: Annotated[float, Meta(gt=0, description="Multiplies all features.")] = 1.0
    part: Annotated[
        Literal["all", "train", "test"],
        Meta(
            description="test: every fifth row; train: the others. `data.test` takes the test rows of a training part."
        ),
    ] = "all"


def bundled(name: str, options: Mapping[str, Any]) -> InMemory:
    """Return a set by its name in `sklearn.datasets.load_…`, dense.

    Raises:
        ConfigError: An unknown name or option, or scikit-learn is not installed.
    """
    chosen = build(BundledOptions, dict(options), "data.options")
    if name not in NAMES:
        raise ConfigError(f'"sklearn:{name}" is not known: {suggest(name, NAMES)}')
    try:
        from sklearn import datasets
    except ImportError:
        raise ConfigError(f'"sklearn:{name}" needs scikit-learn: pip install scikit-learn') from None
    loaded = getattr(datasets, f"load_{name}")()
    x, y = np.array(loaded.data, np.float64), np.array(loaded.target, np.float64)
    if chosen.classes is not None:
        absent = sorted(set(chosen.classes) - set(np.unique(y).tolist()))
        if absent:
            known = ", ".join(f"{one:g}" for one in np.unique(y)[:20])
            raise ConfigError(f'data.options.classes names {absent[0]}, but "sklearn:{name}" has {known}')
        keep = np.isin(y, chosen.classes)
        x, y = x[keep], y[keep]
    if chosen.standardize:
        x -= x.mean(axis=0)
        deviation = np.sqrt(np.mean(x**2, axis=0))
        x /= np.where(deviation > 0, deviation, 1.0)
    x *= chosen.scale
    if chosen.part != "all":
        held = np.arange(len(y)) % 5 == 4
        x, y = (x[held], y[held]) if chosen.part == "test" else (x[~held], y[~held])
    return InMemory(Rows(y, x.shape[1], dense=np.ascontiguousarray(x)))
