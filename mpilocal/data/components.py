"""Principal components of a dense data set, as `mpilocal data convert --components` writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpilocal.data.rows import Part, Source
from mpilocal.errors import ConfigError, agreed

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

PIECE = 4096


def project(comm: Intracomm, part: Part, source: Source, components: int) -> Part:
    """Return the rows less their mean in the basis of their first principal components; collective.

    Root alone finds the basis, reading `source` in pieces, so that it does not depend on the ranks. Component j has the
    j-th largest variance, and its largest weight is positive. Known besides: mean (features,), components (features,
    components), variances (components,).

    Raises:
        ConfigError: the rows are sparse, or there are fewer features than components.
    """
    with agreed(comm):
        if part.rows.dense is None:
            raise ConfigError("principal components are for dense rows, and these are sparse: leave --components out")
        if components > part.rows.features:
            raise ConfigError(f"--components {components} exceeds the {part.rows.features} features")
    found = None
    with agreed(comm):
        if comm.rank == 0:
            found = basis(source, components)
    mean, vectors, variances = comm.bcast(found)
    x = np.empty((part.rows.count, components))
    assert part.rows.dense is not None
    for row, out in zip(part.rows.dense, x, strict=True):  # a row at a time: its bits do not depend on its neighbours
        np.dot(np.asarray(row, np.float64) - mean, vectors, out=out)
    extra = {"mean": mean, "components": vectors, "variances": variances}
    return part._replace(rows=part.rows._replace(dense=x, features=components), extra=extra)


def basis(source: Source, components: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean (features,), the components (features, components), and their variances (components,)."""
    total, second = np.zeros(source.features), np.zeros((source.features, source.features))
    for at in range(0, source.total, PIECE):
        rows = source.read(at, min(at + PIECE, source.total)).dense
        assert rows is not None
        wide = np.asarray(rows, np.float64)
        total += wide.sum(axis=0)
        second += wide.T @ wide
    mean = total / source.total
    values, vectors = np.linalg.eigh(second / source.total - np.outer(mean, mean))
    first = np.ascontiguousarray(vectors[:, ::-1][:, :components])
    largest = first[np.argmax(np.abs(first), axis=0), np.arange(components)]
    return mean, first * np.sign(largest), values[::-1][:components].copy()
