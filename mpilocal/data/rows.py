"""What every reader yields: some rows of a data set, dense or compressed sparse rows (CSR)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


class Rows(NamedTuple):
    """Consecutive rows. Dense when `dense` is set, else CSR with indices from 0, ascending in a row."""

    labels: NDArray[np.float64]  # (rows,) as the file gives them
    features: int
    dense: Floats | None = None  # (rows, features), C order
    values: Floats | None = None  # (non-zeros,)
    indices: NDArray[np.int32] | None = None  # (non-zeros,)
    indptr: NDArray[np.int64] | None = None  # (rows + 1,), from 0
    users: NDArray[np.int64] | None = None  # (rows,) the user whom a row belongs to

    @property
    def count(self) -> int:  # type: ignore[override]
        """The number of rows."""
        return len(self.labels)

    @property
    def sparse(self) -> bool:
        """Whether the rows are CSR."""
        return self.dense is None


class Part(NamedTuple):
    """One rank's contiguous share of a data set, before rows are dealt out to workers."""

    rows: Rows
    first: int  # global index of the first row
    total: int  # rows on all ranks
    digest: str  # of the content of all rows: 32 hex digits, whatever the format, chunking and rank count
    extra: dict[str, NDArray[np.float64]] = {}  # noqa: RUF012  # small arrays equal on all ranks: optimum, curvature, …


class Source(Protocol):
    """A data set that can be read in contiguous pieces without holding the whole."""

    total: int
    features: int
    sparse: bool
    extra: dict[str, NDArray[np.float64]]

    def read(self, first: int, last: int) -> Rows:
        """Return rows first ≤ i < last."""
        ...


def block(total: int, parts: int, part: int) -> tuple[int, int]:
    """Return [first, last) of `part` in the block distribution: the first total % parts hold one more."""
    share, rest = divmod(total, parts)
    first = part * share + min(part, rest)
    return first, first + share + (part < rest)
