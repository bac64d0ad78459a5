"""Synthetic data sets with a known law. Row i depends on (seed, i) only, whatever range of rows is asked for.

Rows are made in fixed chunks, each from its own Philox stream keyed by (seed, chunk); the law itself (its
weights, its mean, …) comes from a stream of its own. All use NumPy's `Generator`, no BLAS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from mpilocal.config.typed import build
from mpilocal.data.laws import Classification, Mixture, Regression
from mpilocal.data.laws_known import HardInstance, Quadratic, Separable
from mpilocal.data.pieces import cut, empty, join
from mpilocal.data.rows import Rows
from mpilocal.errors import ConfigError, suggest

CHUNK_VALUES = 1 << 18
LAW = 2**64 - 1


class Law(Protocol):
    """What a synthetic set provides: options as fields, the law's own draws, and rows."""

    rows: int
    features: int
    seed: int

    @property
    def sparse(self) -> bool:
        """Whether rows are CSR."""
        ...

    def prepare(self, draw: np.random.Generator) -> dict[str, NDArray[np.float64]]:
        """Draw the law; the small arrays that a reader of the data may want to know."""
        ...

    def make(self, draw: np.random.Generator, first: int, count: int, known: dict[str, NDArray[np.float64]]) -> Rows:
        """Draw rows first ≤ i < first + count."""
        ...


LAWS: dict[str, type[msgspec.Struct]] = {
    "classification": Classification,
    "hard-instance": HardInstance,
    "mixture": Mixture,
    "quadratic": Quadratic,
    "regression": Regression,
    "separable": Separable,
}


class Synthetic:
    """A synthetic data set as a `Source`."""

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        """Check the options and draw the law.

        Raises:
            ConfigError: An unknown name or option, or a value out of range.
        """
        if name not in LAWS:
            raise ConfigError(f'"synthetic:{name}" is not known: {suggest(name, LAWS)}')
        law: Any = build(LAWS[name], dict(options), "data.options")
        self.law: Law = law
        self.total, self.features, self.sparse = self.law.rows, self.law.features, self.law.sparse
        self.extra = self.law.prepare(stream(self.law.seed, LAW))
        # a chunk depends on the options only, so every rank cuts alike
        self.chunk = max(16, min(4096, CHUNK_VALUES // self.features))
        self.users: NDArray[np.int64] | None = None

    def read(self, first: int, last: int) -> Rows:
        """Return rows first ≤ i < last."""
        parts = [] if first < last else [empty(self.features, self.sparse)]
        for chunk in range(first // self.chunk, -(-last // self.chunk)):
            begin = chunk * self.chunk
            count = min(self.chunk, self.total - begin)
            rows = self.law.make(stream(self.law.seed, chunk), begin, count, self.extra)
            parts.append(cut(rows, max(first - begin, 0), min(last - begin, count)))
        return join(parts)


def stream(seed: int, chunk: int) -> np.random.Generator:
    """Return the stream of a chunk."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, chunk], np.uint64)))
