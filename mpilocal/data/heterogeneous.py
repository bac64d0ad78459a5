"""Partitions by label and by user: what makes workers differ."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from mpilocal.data.groups import Groups, distinct, grouped
from mpilocal.data.partition import Options, Plan, Request, blocks
from mpilocal.data.permute import permuted
from mpilocal.data.pieces import offsets
from mpilocal.errors import ConfigError

ATTEMPTS = 100
MOST_CLASSES = 1 << 16


class Label(Options, frozen=True, tag="label"):
    """Rows sorted by label, then index; contiguous blocks."""

    def plan(self, asked: Request) -> Plan:
        """Place = rank among all labels."""
        return Plan(_sorted(_labels(asked)), blocks(asked.part.total, asked.workers))


class LabelShards(Options, frozen=True, tag="label-shards"):
    """Rows sorted by label and cut into M·s equal shards, s dealt at random to each worker.

    McMahan et al. (2017), "Communication-Efficient Learning of Deep Networks from Decentralized Data", section 3.
    """

    labels: Annotated[int, Meta(ge=1, description="s, shards of each worker.")] = 2

    def plan(self, asked: Request) -> Plan:
        """Place = that of its shard among the worker's, then rank in the shard."""
        shards = asked.workers * self.labels
        sizes = blocks(asked.part.total, shards)
        begins = offsets(sizes)
        order = _sorted(_labels(asked))
        shard = np.searchsorted(begins, order, side="right") - 1
        # slot w·s + j is worker w's j-th; the inverse says which shard fills it
        slot = permuted(np.arange(shards), shards, asked.seed)
        size_by_slot = np.empty(shards, np.int64)
        size_by_slot[slot] = sizes
        begin_of_slot = offsets(size_by_slot)
        position = begin_of_slot[slot[shard]] + order - begins[shard]
        return Plan(position, size_by_slot.reshape(asked.workers, self.labels).sum(axis=1))


class Dirichlet(Options, frozen=True, tag="dirichlet"):
    """Each class, in random order, is cut among the workers in proportions ~ Dirichlet(α, …, α).

    Hsu, Qi, Brown (2019), "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification".
    Drawn again with seed + 1, … (100 times at most) until every worker has `min_rows` rows.
    """

    alpha: Annotated[float, Meta(gt=0, description="Small: workers differ; large: they are alike.")]
    min_rows: Annotated[int, Meta(ge=1, description="Rows that every worker has at least.")] = 1

    def plan(self, asked: Request) -> Plan:
        """Place = worker, then class, then the random order of the class."""
        found = _labels(asked)
        table = self._counts(asked, found.counts)
        counts = table.sum(axis=0)
        if counts.min() < self.min_rows:
            raise ConfigError(
                f"data.partition: alpha = {self.alpha:g} left one of {asked.workers} workers with fewer than "
                f"min_rows = {self.min_rows} of {asked.part.total} rows in {ATTEMPTS} draws: "
                "raise alpha, or lower min_rows or the number of workers"
            )
        # cuts[c, w] is where worker w's rows begin in class c; begin[c, w] where its rows of class c have their place
        cuts = np.cumsum(table, axis=1) - table
        begin = (np.cumsum(table, axis=0) - table) + offsets(counts)[:-1]
        position = np.empty(len(found.group), np.int64)
        for c in range(len(found.keys)):
            mine = np.flatnonzero(found.group == c)
            order = permuted(found.rank[mine], int(found.counts[c]), asked.seed, 1 + c)
            worker = np.searchsorted(cuts[c], order, side="right") - 1
            position[mine] = begin[c, worker] + order - cuts[c, worker]
        return Plan(position, counts)

    def _counts(self, asked: Request, classes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return (classes, workers) row counts; root draws, so that hosts cannot differ in the last bit."""
        table = np.zeros((len(classes), asked.workers), np.int64)
        if asked.comm.rank == 0:
            for attempt in range(ATTEMPTS):
                key = np.array([asked.seed + attempt, 0], np.uint64)
                draw = np.random.Generator(np.random.Philox(key=key))
                for c, count in enumerate(classes.tolist()):
                    share = draw.dirichlet(np.full(asked.workers, self.alpha))
                    ends = np.rint(np.minimum(np.cumsum(share), 1.0) * count).astype(np.int64)
                    ends[-1] = count
                    table[c] = np.diff(ends, prepend=0)
                if table.sum(axis=0).min() >= self.min_rows:
                    break
        asked.comm.Bcast(table)
        return table


class User(Options, frozen=True, tag="user"):
    """Users in ascending order, dealt to workers in contiguous blocks; a user's rows stay together."""

    def plan(self, asked: Request) -> Plan:
        """Place = rank among all users."""
        users = asked.part.rows.users
        # the whole of a data set has users or has not, so all ranks decide alike
        if users is None:
            raise ConfigError(
                'data.partition = "user" needs data with users: a users table (data.options.users), '
                "or /users in the HDF5 file"
            )
        found = _groups(asked, users, "users")
        if len(found.keys) < asked.workers:
            raise ConfigError(
                f'data.partition = "user" has {len(found.keys)} users for workers.count = {asked.workers}: '
                f"use at most {len(found.keys)} workers"
            )
        ends = np.cumsum(blocks(len(found.keys), asked.workers))
        counts = np.diff(offsets(found.counts)[ends], prepend=0)
        return Plan(_sorted(found), counts)


def _labels(asked: Request) -> Groups:
    return _groups(asked, asked.part.rows.labels, "labels", MOST_CLASSES)


def _groups(asked: Request, values: NDArray[Any], name: str, most: int = 1 << 24) -> Groups:
    keys = distinct(asked.comm, values, most)
    if keys is None:
        raise ConfigError(
            f"data.partition: the data have more than {most} different {name}, too many to sort by: "
            'use "contiguous" or "iid"'
        )
    return grouped(asked.comm, values, keys)


def _sorted(found: Groups) -> NDArray[np.int64]:
    """Return each row's place in the order by key, then index."""
    return offsets(found.counts)[:-1][found.group] + found.rank
