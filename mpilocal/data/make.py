"""Writing a synthetic data set to a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from mpilocal.data.convert import convert

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


def make(
    comm: Intracomm, name: str, options: Mapping[str, Any], output: Path, dtype: DTypeLike = np.float64
) -> dict[str, Any]:
    """Collective: write "synthetic:NAME" with its options as HDF5; the facts of `convert`.

    Raises:
        ConfigError: An unknown name or option.
        DataError: The file cannot be written.
    """
    return convert(comm, f"synthetic:{name}", output, dtype, None, options)
