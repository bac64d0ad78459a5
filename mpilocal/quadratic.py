"""The own curvatures of quadratics f_i(x) = ½ Σ_j r_j x_j² − ⟨b_i, x⟩, r_j another below 0 than above it if need be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpilocal.data.rows import Part
from mpilocal.errors import ConfigError, DataError
from mpilocal.kernels.shard import Array, Dense, Indices, Sparse

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Floats = NDArray[np.float64]
NEEDS = (
    'problem.loss = "quadratic" needs dense rows with the array /extra/curvature: '
    'use data.source = "synthetic:quadratic", or a file that holds it'
)


def curvatures(part: Part, labels: Array, begin: Indices, end: Indices) -> Floats:
    """Return the curvatures below 0 and above, (·, 2, features): one pair for all workers, or that of each one here.

    /extra/curvature is (features,), (2, features), or (kinds, 2, features): then a row's label is its kind.

    Raises:
        ConfigError: a worker here has rows of several kinds.
        DataError: there is no such array, it has another shape, or a label is no kind.
    """
    found, features = part.extra.get("curvature"), part.rows.features
    if found is None:
        raise DataError(NEEDS)
    if found.shape == (features,):
        return np.array([[found, found]])
    if found.shape == (2, features):
        return np.array([found])
    if found.ndim != 3 or found.shape[1:] != (2, features):
        raise DataError(
            f"/extra/curvature has the shape {found.shape} and the rows {features} features: "
            f"it must be ({features},), (2, {features}) or (kinds, 2, {features})"
        )
    kinds = []
    for first, last in zip(begin.tolist(), end.tolist(), strict=True):
        own = np.unique(labels[first:last])
        if len(own) > 1:
            raise ConfigError(
                f"the quadratics are of {len(found)} kinds, and a worker would have rows of {len(own)} of them: "
                f'set workers.count = {len(found)} and data.partition = "label", so that each has one kind'
            )
        if not 0 <= own[0] < len(found) or own[0] != int(own[0]):
            raise DataError(f"the label {own[0]:g} is no kind: /extra/curvature has the kinds 0 to {len(found) - 1}")
        kinds.append(int(own[0]))
    return np.asarray(found[kinds])


def kinds(part: Part) -> int:
    """Return how many curvatures there are."""
    found = part.extra["curvature"]
    return len(found) if found.ndim == 3 else 1


def mean(comm: Intracomm, part: Part, shard: Dense | Sparse, weights: Floats) -> Floats:
    """Return the curvature of F, Σ p_m of the workers', (2, features); `weights` are p (workers,); collective."""
    assert isinstance(shard, Dense)
    own = np.asarray(shard.ridge, np.float64)
    if kinds(part) == 1:
        only: Floats = own[0]
        return only
    everywhere = np.concatenate(comm.allgather(own))
    mean: Floats = np.sum(everywhere * weights[:, None, None], axis=0)
    return mean
