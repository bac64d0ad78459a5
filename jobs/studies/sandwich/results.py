"""What the study keeps: one file, results.h5, from which the table and the figures are made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from mpilocal import atomic

Floats = NDArray[np.float64]
NAMES = ("part", "scheme", "overrides", "config", "digest")
COLUMNS = ("step", "objective", "accuracy", "gradient_norm", "divergence", "local", "globe")
DEPTHS = 4


class Row(NamedTuple):
    """One run.

    Attributes:
        part: the comparison that it belongs to.
        scheme: what is compared.
        seed: of the run, also of its groups.
        overrides: of sandwich.toml, a line each.
        config: as resolved, TOML.
        digest: SHA-256 of the last x̄.
        curves: columns by name, (records,): step, objective, accuracy, gradient_norm, divergence where measured, local
            and globe (averagings below the world and of the world that a worker has waited for), and level1, … (the
            divergence D_1, … of each level, the smallest groups first).
    """

    part: str
    scheme: str
    seed: int
    overrides: str
    config: str
    digest: str
    curves: dict[str, Floats]

    def last(self, name: str = "objective") -> float:
        """Return the last value of a column."""
        return float(self.curves[name][-1])


class Results(NamedTuple):
    """All rows, and what they have in common: data, size, smoothness, gamma."""

    rows: list[Row]
    facts: dict[str, Any]

    def of(self, part: str, scheme: str | None = None) -> list[Row]:
        """Return the rows of a part, of all schemes or one."""
        return [row for row in self.rows if row.part == part and scheme in (None, row.scheme)]

    def finals(self, part: str, scheme: str) -> Floats:
        """Return the last objectives (runs,)."""
        return np.array([row.last() for row in self.of(part, scheme)])

    def mean(self, part: str, scheme: str, name: str) -> Floats:
        """Return a column's mean over the runs (records,)."""
        found: Floats = np.mean([row.curves[name] for row in self.of(part, scheme)], axis=0)
        return found


def curves(history: Mapping[str, NDArray[Any]], groups: Iterable[int]) -> dict[str, Floats]:
    """Return the columns that are kept of a history; `groups` are there at each level, the smallest first."""
    found = {name: np.asarray(history[name], np.float64) for name in COLUMNS if name in history}
    counts = [
        np.asarray(history[f"level{number}/averagings"], np.float64) / many for number, many in enumerate(groups, 1)
    ]
    found["globe"] = counts[-1]
    found["local"] = np.sum(counts[:-1], axis=0) + np.zeros_like(counts[-1])
    for number in range(1, DEPTHS + 1):
        if f"level{number}/divergence" in history:
            found[f"level{number}"] = np.asarray(history[f"level{number}/divergence"], np.float64)
    return found


def digest(average: NDArray[np.floating]) -> str:
    """Return the digest of x̄'s bits."""
    return hashlib.sha256(np.ascontiguousarray(average).tobytes()).hexdigest()


def write(results: Results, path: Path) -> None:
    """Write the file: /runs with a row per run, /curves with a row per run and NaN behind the last record."""
    rows = results.rows
    names = [*COLUMNS, *(f"level{number}" for number in range(1, DEPTHS + 1))]
    width = max(len(row.curves["step"]) for row in rows)

    def save(temporary: Path) -> None:
        with h5py.File(temporary, "w") as file:
            for key, fact in results.facts.items():
                file.attrs[key] = fact
            for name in NAMES:
                file[f"runs/{name}"] = np.array([getattr(row, name) for row in rows], h5py.string_dtype())
            file["runs/seed"] = np.array([row.seed for row in rows])
            for name in ("objective", "accuracy", "gradient_norm"):
                file[f"runs/{name}"] = np.array([row.last(name) for row in rows])
            for name in names:
                table = np.full((len(rows), width), np.nan)
                for number, row in enumerate(rows):
                    column = row.curves.get(name, np.empty(0))
                    table[number, : len(column)] = column
                file[f"curves/{name}"] = table

    atomic.write(path, save)


def read(path: Path) -> Results:
    """Return what `write` wrote; OSError or KeyError where the file is not there or not ours."""
    with h5py.File(path, "r") as file:
        texts = [file[f"runs/{name}"].asstr()[:] for name in NAMES]
        seeds = file["runs/seed"][:]
        columns = {name: table[:] for name, table in file["curves"].items()}
        rows = []
        for number, seed in enumerate(seeds):
            kept = np.isfinite(columns["step"][number])
            found = {name: table[number][kept] for name, table in columns.items()}
            part, scheme, overrides, config, hashed = (str(text[number]) for text in texts)
            found = {name: column for name, column in found.items() if np.isfinite(column).any()}
            rows.append(Row(part, scheme, int(seed), overrides, config, hashed, found))
        facts = {key: value.item() if isinstance(value, np.generic) else value for key, value in file.attrs.items()}
    return Results(rows, facts)
