"""Solved optima on disk: one small JSON file each, and the minimiser beside it where it is not too long.

The name of a file is a digest of all that F depends on: the data, the loss (a user's own by its source), l2, the
intercept, the precision of the data, and how rows are weighted. Equal weights need no partition: worker counts and
partitions then share one optimum, though the order of their sums may differ in the last bit.
"""

from __future__ import annotations

import hashlib
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mpilocal import atomic
from mpilocal.data.digest import sums
from mpilocal.data.rows import Rows
from mpilocal.kernels.compile import user_cache
from mpilocal.kernels.scalar import Loss
from mpilocal.kernels.shard import Dense
from mpilocal.prepare import Prepared
from mpilocal.problem import Blocks

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Vector = NDArray[np.float64]

FORMAT = 1
LONGEST = 1_000_000  # coordinates of a minimiser that is kept


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a file holds."""

    of: dict[str, Any]  # what F is, see `key`
    value: float  # F̂
    dual: float | None  # D̂, where it is known
    gradient_norm: float
    attained: bool
    note: str
    gradients: int  # evaluations of F and ∇F that it took
    products: int  # Hessian products that it took
    point: str  # SHA-256 of the minimiser's file (.npy), or ""


def key(made: Prepared, comm: Intracomm) -> dict[str, Any]:
    """Return all that F depends on, the same on all ranks; collective."""
    problem = made.problem
    curvature = problem.curvature
    return {
        "format": FORMAT,
        "data": made.facts["digest"],
        # The kernels compiled with a user's loss are named after a digest of its source.
        "loss": problem.kernels.__name__ if problem.loss == Loss.CUSTOM else problem.name,
        "curvature": "" if curvature is None else hashlib.sha256(curvature.tobytes()).hexdigest()[:32],
        "l2": problem.l2,
        "intercept": problem.intercept,
        "dim": problem.dim,
        "dtype": problem.dtype.name,
        "weights": weighting(problem.blocks, comm),
    }


def weighting(blocks: Blocks, comm: Intracomm) -> str:
    """Return "equal", or a digest of which rows have which weight; collective."""
    scale = blocks.scale
    equal = bool((scale == 1.0).all())
    if all(comm.allgather(equal)):
        return "equal"
    # An order-free sum over blocks of hash(rows, weight): the same on any number of ranks.
    total = sum(_hash(blocks, number) for number in range(blocks.count))
    return f"{sum(comm.allgather(total)) % 2**128:032x}"


def _hash(blocks: Blocks, number: int) -> int:
    shard = blocks.shard
    first, last = int(shard.begin[number]), int(shard.end[number])
    labels = shard.y[first:last].astype(np.float64)
    if isinstance(shard, Dense):
        rows = Rows(labels, shard.a.shape[1], dense=shard.a[first:last])
    else:
        pointers = shard.indptr[first : last + 1]
        held = slice(pointers[0], pointers[-1])
        rows = Rows(
            labels,
            shard.features,
            values=shard.values[held],
            indices=shard.indices[held],
            indptr=pointers - pointers[0],
        )
    weighed = sums(rows, 0).tobytes() + np.float64(blocks.scale[number]).tobytes()
    return int.from_bytes(hashlib.sha256(weighed).digest()[:16], "little")


def path_of(of: dict[str, Any]) -> Path:
    """Return the file of an optimum."""
    digest = hashlib.sha256(msgspec.json.encode(of, order="deterministic")).hexdigest()
    return user_cache() / "optima" / f"{digest[:32]}.json"


def read(of: dict[str, Any]) -> tuple[Entry, Vector | None] | None:
    """Return what is kept of an optimum and its minimiser (dim,), or None: nothing, or something damaged."""
    path = path_of(of)
    try:
        entry = msgspec.json.decode(path.read_bytes(), type=Entry)
        kept = path.with_suffix(".npy").read_bytes() if entry.point else b""
    except (OSError, ValueError, msgspec.MsgspecError):
        return None
    if entry.of != of or not math.isfinite(entry.value):
        return None
    if not entry.point:
        return entry, None
    # Only what has the digest is parsed.
    if hashlib.sha256(kept).hexdigest() != entry.point:
        return None
    point = np.load(io.BytesIO(kept), allow_pickle=False)
    return (entry, point) if point.shape == (of["dim"],) and point.dtype == np.float64 else None


def write(entry: Entry, point: Vector) -> None:
    """Keep an optimum and, where it is not too long, its minimiser (dim,).

    Raises:
        DataError: the folder cannot be written.
    """
    path = path_of(entry.of)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise atomic.unwritable(path.parent, error) from error
    if len(point) <= LONGEST:
        memory = io.BytesIO()
        np.save(memory, np.asarray(point, np.float64))
        kept = memory.getvalue()
        atomic.write(path.with_suffix(".npy"), lambda name: name.write_bytes(kept))
        entry = msgspec.structs.replace(entry, point=hashlib.sha256(kept).hexdigest())
    # The minimiser first: a file that names it never comes before it.
    atomic.write(path, lambda name: name.write_bytes(msgspec.json.format(msgspec.json.encode(entry), indent=2) + b"\n"))
