"""Tasks of pairs of digits: 25 machines, each to tell one even digit from one odd one, more or less alike.

Woodworth, Patel, Srebro (2020), "Minibatch vs Local SGD for Heterogeneous Distributed Learning", section 5.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from mpilocal.config.typed import build
from mpilocal.data.rows import Rows, Source
from mpilocal.errors import DataError

PIECE = 4096  # rows of the source held at a time


class PairOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Machine 5i + j has the even digit 2i against the odd digit 2j + 1.

    A machine's rows are drawn with replacement: (1 − similarity) of them from the rows of its two digits, the others
    from all rows. Their labels are 1 for even digits and 0 for odd ones, their user is the machine: use
    data.partition = "user" and workers.count = 25.
    """

    similarity: Annotated[float, Meta(ge=0, le=1, description="p: 0: each its own digits; 1: all digits, alike.")]
    rows: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="Rows of a machine; default: twice the rarest digit's.")] = None  # noqa: E501  # fmt: skip
    seed: Annotated[int, Meta(ge=0, description="Of the draws.")] = 0


class Pairs:
    """The tasks as a `Source`, of one whose labels are the digits."""

    def __init__(self, source: Source, options: dict[str, Any], name: str) -> None:
        """Look at all labels and draw the rows.

        Raises:
            ConfigError: An unknown option.
            DataError: The rows are sparse, or the labels are not the digits 0 to 9.
        """
        chosen = build(PairOptions, options, "data.pairs")
        if source.sparse:
            raise DataError(f"data.pairs is for dense rows, and {name} is sparse: leave it out")
        self.source, self.features, self.sparse = source, source.features, False
        self.extra: dict[str, NDArray[np.float64]] = {}
        pieces = range(0, source.total, PIECE)
        labels = np.concatenate([source.read(at, min(at + PIECE, source.total)).labels for at in pieces])
        digits = np.unique(labels)
        if len(digits) != 10 or (digits != np.arange(10)).any():
            raise DataError(f"data.pairs needs the digits 0 to 9 as labels, and {name} has {len(digits)} other ones")
        pools = [np.flatnonzero(labels == digit) for digit in range(10)]
        self.each = chosen.rows or 2 * min(map(len, pools))
        own = round((1 - chosen.similarity) * self.each)
        picks = []
        for machine in range(25):
            draw = np.random.Generator(np.random.Philox(key=np.array([chosen.seed, machine], np.uint64)))
            even, odd = divmod(machine, 5)
            pool = np.concatenate([pools[2 * even], pools[2 * odd + 1]])
            picks += [pool[draw.integers(0, len(pool), own)], draw.integers(0, source.total, self.each - own)]
        self.picks = np.concatenate(picks)
        self.labels = (labels[self.picks] % 2 == 0).astype(np.float64)
        self.total = len(self.picks)

    def read(self, first: int, last: int) -> Rows:
        """Return rows first ≤ i < last; the source is read once, in its order."""
        wanted = self.picks[first:last]
        x = np.empty((last - first, self.features))
        order = np.argsort(wanted, kind="stable")
        for at in range(0, self.source.total, PIECE):
            end = min(at + PIECE, self.source.total)
            here = order[np.searchsorted(wanted, at, sorter=order) : np.searchsorted(wanted, end, sorter=order)]
            if len(here):
                rows = self.source.read(at, end).dense
                assert rows is not None
                x[here] = rows[wanted[here] - at]
        return Rows(self.labels[first:last], self.features, dense=x, users=np.arange(first, last) // self.each)
