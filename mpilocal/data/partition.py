"""Which worker holds which rows: every partition gives each row a place in the order of workers."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from mpilocal import plugins
from mpilocal.config.typed import build, shown
from mpilocal.data.pieces import offsets
from mpilocal.data.rows import Part, block
from mpilocal.errors import ConfigError, agreed, suggest

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


class Plan(NamedTuple):
    """A partition: worker m holds the rows with places Σ_{k<m} counts[k] ≤ place < Σ_{k≤m} counts[k]."""

    position: NDArray[np.int64]  # (my rows,) the place of each, a permutation of 0 … n − 1 over all ranks
    counts: NDArray[np.int64]  # (workers,) rows of each
    shared: bool = False  # every worker samples from all rows; counts are the blocks of the objective


class Request(NamedTuple):
    """What a partition is made from."""

    comm: Intracomm
    part: Part
    workers: int
    seed: int
    folder: Path


class Options(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """Base of the options of partitions."""


class Contiguous(Options, frozen=True, tag="contiguous"):
    """Blocks of rows in the order of the file: with q, r = divmod(n, M) the first r workers hold q + 1 rows."""

    def plan(self, asked: Request) -> Plan:
        """Place = index."""
        position = np.arange(asked.part.first, asked.part.first + asked.part.rows.count)
        return Plan(position, blocks(asked.part.total, asked.workers))


class Shared(Options, frozen=True, tag="shared"):
    """Every worker samples from all rows, as in Stich (2019); the objective is summed over contiguous blocks."""

    def plan(self, asked: Request) -> Plan:
        """Place = index."""
        return Contiguous().plan(asked)._replace(shared=True)


class Iid(Options, frozen=True, tag="iid"):
    """A seeded permutation of all rows, then blocks."""

    def plan(self, asked: Request) -> Plan:
        """Place = permutation of the index."""
        from mpilocal.data.permute import permuted

        index = np.arange(asked.part.first, asked.part.first + asked.part.rows.count)
        total = asked.part.total
        return Plan(permuted(index, total, asked.seed), blocks(total, asked.workers))


def kinds() -> dict[str, type[Options]]:
    """Return the partitions by name."""
    from mpilocal.data import heterogeneous as h

    known = (Contiguous, Iid, Shared, h.Label, h.LabelShards, h.Dirichlet, h.User)
    return {str(kind.__struct_config__.tag): kind for kind in known}


def parse(partition: str | Mapping[str, Any]) -> Any:
    """Return the options of a partition, a name or a table with `kind`; ConfigError where it is not known."""
    table: Mapping[str, Any] = {"kind": partition} if isinstance(partition, str) else partition
    name, known = table.get("kind"), kinds()
    if not isinstance(name, str):
        raise ConfigError(f"data.partition.kind is missing: write one of: {', '.join(known)}")
    if name in known:
        return build(known[name], table, "data.partition")
    from mpilocal.data.own import GROUP, Own

    if plugins.is_file(name) or name in {point.name for point in entry_points(group=GROUP)}:
        return build(Own, {**table, "kind": "own", "name": name}, "data.partition")
    raise ConfigError(f"data.partition = {shown(name)} is not known; {suggest(name, known)}")


def plan(
    comm: Intracomm,
    part: Part,
    partition: str | Mapping[str, Any],
    workers: int,
    seed: int,
    folder: Path | None = None,
) -> Plan:
    """Collective: place every row in the order of workers; the same for any number of ranks.

    Args:
        comm: Of the ranks that hold the parts.
        part: This rank's rows.
        partition: A name, a table with `kind` and options, or "FILE.py:NAME", a function
            (labels, users, first, total, workers, seed, comm) → (my rows,) worker ids.
        workers: M.
        seed: Of every draw.
        folder: Where FILE.py is looked for first (the config's); then in the working directory.

    Raises:
        ConfigError: An unknown partition or option, data that it does not suit, or a worker without rows; on all
            ranks alike.
    """
    with agreed(comm):
        kind = parse(partition)
    out: Plan = kind.plan(Request(comm, part, workers, seed, folder or Path.cwd()))
    bare = np.flatnonzero(out.counts == 0)
    if bare.size and not out.shared:
        name = partition if isinstance(partition, str) else partition.get("kind")
        remedy = "use fewer workers"
        if part.total >= workers:
            remedy += " or another partition"
        raise ConfigError(
            f'worker {bare[0]} of {workers} has no rows with data.partition = "{name}" ({bare.size} such workers, '
            f"{part.total} rows): {remedy}"
        )
    return out


def blocks(total: int, parts: int) -> NDArray[np.int64]:
    """Return the sizes (parts,) of the block distribution."""
    share, rest = divmod(total, parts)
    sizes = np.full(parts, share, np.int64)
    sizes[:rest] += 1
    return sizes


def places(counts: NDArray[np.int64], ranks: int) -> NDArray[np.int64]:
    """Return (ranks + 1,) the first place of each rank's workers, which sit on ranks in contiguous blocks."""
    first = [block(len(counts), ranks, rank)[0] for rank in range(ranks)]
    begin: NDArray[np.int64] = offsets(counts)[np.array([*first, len(counts)])]
    return begin
