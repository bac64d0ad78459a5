"""The specification of schedules: rows of workers, rounds, step sizes and weights; t counts local steps from 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np


def blocks(n: int, workers: int) -> list[range]:
    """The rows of each worker: with q, r = divmod(n, M) the first r workers hold q + 1 rows."""
    q, r = divmod(n, workers)
    ends = np.cumsum([q + 1] * r + [q] * (workers - r))
    return [range(end - q - (m < r), end) for m, end in enumerate(ends)]


def bounds(kind: int | Mapping[str, Any], rounds: int) -> list[int]:
    """The step at which each round begins, and the last one's end."""
    out = [0]
    for j in range(1, rounds + 1):
        if isinstance(kind, int):
            out.append(out[-1] + kind)
        elif kind["kind"] == "post-local":
            out.append(out[-1] + (1 if j <= kind["until"] else kind["steps"]))
        else:
            out.append(max(out[-1] + 1, math.floor(Fraction(repr(kind["scale"])) * j * j)))
    return out


def step_size(kind: float | Mapping[str, Any], t: int, rows: int = 0) -> float:
    """η_t."""
    if not isinstance(kind, Mapping):
        return kind
    if kind["kind"] == "constant":
        eta = kind["value"]
    elif kind["kind"] == "inverse-time":
        eta = kind["scale"] / (kind["shift"] + t)
    elif kind["kind"] == "inverse-sqrt":
        eta = kind["scale"] / math.sqrt(kind.get("shift", 1.0) + t)
    elif kind["kind"] == "stich":
        eta = 32 * kind["c"] if kind.get("constant") else min(32.0, kind["c"] * rows / (t + 1))
    else:
        eta = kind["values"][sum(step <= t for step in kind["steps"])]
    warmup = kind.get("warmup", 0)
    return float(eta * min(1.0, (t + 1) / warmup) if warmup else eta)


def weight(kind: str, t: int, shift: float = 1.0, begin: int = 0) -> float:
    """w_t of an average of the iterates."""
    return {"uniform": 1.0, "linear": shift + t, "quadratic": (shift + t) ** 2, "tail": float(t >= begin)}[kind]
