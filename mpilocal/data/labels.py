"""Labels as the losses want them: ±1, or class numbers; the mapping is shown to the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpilocal.data.groups import distinct
from mpilocal.errors import DataError

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

MOST_CLASSES = 1 << 16


def binary(comm: Intracomm, labels: NDArray[np.float64]) -> tuple[NDArray[np.float64], dict[float, int]]:
    """Collective: map two label values to ±1, the larger to +1.

    Returns:
        The labels (my rows,) of ±1, and the mapping {smaller: -1, larger: 1}.

    Raises:
        DataError: There are not exactly two values; on all ranks alike.
    """
    found = distinct(comm, labels)
    if found is None or len(found) != 2:
        count = "very many" if found is None else str(len(found))
        remedy = 'use loss = "softmax" for classes, "squared" for real targets, or data with two classes'
        if found is not None and len(found) < 2:
            remedy = "a loss on margins needs two classes"
        raise DataError(f"the labels have {count} different values{_some(found)}, not two: {remedy}")
    low, high = float(found[0]), float(found[1])
    return np.where(labels == high, 1.0, -1.0), {low: -1, high: 1}


def classes(comm: Intracomm, labels: NDArray[np.float64]) -> tuple[NDArray[np.float64], dict[float, int]]:
    """Collective: map the C distinct label values, ascending, to 0 … C − 1.

    Returns:
        The class numbers (my rows,) as float64, and the mapping {value: number}, ascending.

    Raises:
        DataError: There are fewer than two values or more than 65536; on all ranks alike.
    """
    found = distinct(comm, labels, MOST_CLASSES)
    if found is None:
        raise DataError(
            f'the labels have more than {MOST_CLASSES} different values, too many for classes: use loss = "squared"'
        )
    if len(found) < 2:
        raise DataError(f"the labels have 1 value{_some(found)}: classes need at least two")
    return np.searchsorted(found, labels).astype(np.float64), {float(value): k for k, value in enumerate(found)}


def _some(found: NDArray[np.float64] | None) -> str:
    if found is None:
        return ""
    return f" ({', '.join(f'{one:g}' for one in found[:10])}{', …' if len(found) > 10 else ''})"
