"""Two groupings of the same shards: a worker holds few labels, and its group all of them (alike) or few (apart).

The rows of each label are dealt to `groups` piles in turn. A pile, sorted by label, is cut into n/groups shards.
Alike, worker g·n/groups + i holds shard i of pile g, and a group of consecutive workers a whole pile: group-IID.
Apart, worker i·groups + g holds it, and a group holds shards of few labels: group-non-IID. Other than by their numbers
the workers are the same, so their gradients are as far apart, and flat averaging differs by its draws only.

A partition takes no options, hence a name for each number of groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpilocal.data.groups import distinct, grouped
from mpilocal.data.partition import blocks
from mpilocal.data.pieces import offsets

Deal = Callable[..., NDArray[np.int64]]


def dealt(groups: int, alike: bool) -> Deal:
    """Return the partition into `groups` piles; n must be a multiple of them."""

    def deal(
        labels: NDArray[Any], users: Any, first: int, total: int, workers: int, seed: int, comm: Any
    ) -> NDArray[np.int64]:
        keys = distinct(comm, labels)
        if keys is None or workers % groups:
            raise ValueError(f"{workers} workers do not make {groups} equal groups, or the labels are no classes")
        found = grouped(comm, labels, keys)
        place = offsets(found.counts)[:-1][found.group] + found.rank  # sorted by label, then index
        pile, inside = place % groups, place // groups
        shards = workers // groups
        sizes = blocks(total, groups)  # of the piles; the first total mod groups hold one more
        ends = np.stack([np.cumsum(blocks(int(size), shards)) for size in sizes])  # (groups, shards)
        shard = (inside[:, None] >= ends[pile]).sum(axis=1)
        return np.asarray(pile * shards + shard if alike else shard * groups + pile, np.int64)

    return deal


alike_2, apart_2 = dealt(2, True), dealt(2, False)
alike_5, apart_5 = dealt(5, True), dealt(5, False)
