"""Rows as the kernels read them: those of this rank's workers, and those that are held out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mpilocal import quadratic
from mpilocal.config import Config
from mpilocal.data.deal import deal
from mpilocal.data.partition import plan
from mpilocal.data.read import read_part
from mpilocal.data.rows import Part, Rows
from mpilocal.errors import DataError, MpilocalError, agreed
from mpilocal.kernels.scalar import Loss
from mpilocal.kernels.shard import Dense, Sparse
from mpilocal.problem import Blocks, Shard

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


def shard_of(
    rows: Rows, begin: NDArray[np.int64], end: NDArray[np.int64], part: Part, loss: Loss, dtype: np.dtype[Any]
) -> Shard:
    """Return what kernels read of this rank's rows; worker m's are begin[m] ≤ i < end[m]."""
    y = np.ascontiguousarray(rows.labels, dtype)
    begin, end = np.ascontiguousarray(begin, np.int64), np.ascontiguousarray(end, np.int64)
    if rows.dense is not None:
        ridge = quadratic.curvatures(part, y, begin, end) if loss == Loss.LINEAR else np.zeros((0, 2, 0))
        return Dense(np.ascontiguousarray(rows.dense, dtype), y, begin, end, ridge.astype(dtype))
    if loss == Loss.LINEAR:
        raise DataError(quadratic.NEEDS)
    assert rows.values is not None and rows.indices is not None and rows.indptr is not None
    return Sparse(
        np.ascontiguousarray(rows.values, dtype),
        np.ascontiguousarray(rows.indices, np.int32),
        np.ascontiguousarray(rows.indptr, np.int64),
        y,
        begin,
        end,
        rows.features,
    )


def read_test(
    comm: Intracomm, config: Config, folder: Path, part: Part, mapping: dict[float, int], loss: Loss
) -> Blocks | None:
    """Return the held-out rows, dealt out in blocks for evaluation, or None; collective."""
    if config.data.test is None:
        return None
    same = config.data.test == config.data.source
    options = {} if ":" in config.data.test and not same else config.data.options
    if same and options.get("part") == "train":
        options = {**options, "part": "test"}
    data = msgspec.structs.replace(config.data, source=config.data.test, features=part.rows.features, options=options)
    try:
        held = read_part(comm, data, folder, np.dtype(config.run.dtype))
    except MpilocalError as error:  # all ranks have it alike
        said = str(error).replace("data.source", "data.test")
        if said.startswith("data.features ="):
            wanted = part.rows.features
            said = f"data.test = {config.data.test} has not the {wanted} features of the training rows: they must agree"
        raise type(error)(said) from error
    with agreed(comm):
        if held.rows.features != part.rows.features:
            raise DataError(
                f"data.test = {config.data.test} has {held.rows.features} features and the training rows "
                f"{part.rows.features}: they must agree (data.features sets it)"
            )
        targets = mapped(held.rows.labels, mapping, config.data.test)
    held = held._replace(rows=held.rows._replace(labels=targets))
    count = config.workers.count
    assert isinstance(count, int)
    rows, offsets, _ = deal(comm, held, plan(comm, held, "shared", count, 0, folder), count)
    with agreed(comm):
        shard = shard_of(rows, offsets[:-1], offsets[1:], part, loss, np.dtype(config.run.dtype))
    weights = np.full(len(offsets) - 1, 1.0 / held.total)
    return Blocks(shard, weights, comm if comm.size > 1 else None)


def mapped(labels: NDArray[np.float64], mapping: dict[float, int], source: str) -> NDArray[np.float64]:
    """Return held-out labels mapped as the training rows' were."""
    if not mapping:
        return labels
    known = np.array(sorted(mapping))
    place = np.minimum(np.searchsorted(known, labels), len(known) - 1)
    wrong = known[place] != labels
    if wrong.any():
        raise DataError(f"data.test = {source} holds the label {labels[wrong][0]:g}, which no training row has")
    return np.array([mapping[label] for label in known], np.float64)[place]
