"""How far two runs ended from each other."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from mpilocal.errors import DataError


def apart(one: str | Path, other: str | Path) -> dict[str, Any]:
    """Return how far x̄ of two runs is apart, by the last recorded round or checkpoint of each; without MPI.

    Returns:
        direction_error: ‖x/‖x‖ − y/‖y‖‖, None where one is 0 (Zhu et al.: what tells Local-GD from centralised gradient
        descent on separable data); distance: ‖x − y‖; norms: ‖x‖ and ‖y‖; path: of the other run.

    Raises:
        DataError: there is no run, or one has no checkpoint, or they differ in dimension.
    """
    from mpilocal.api import load

    x, y = (np.asarray(load(path).average, np.float64) for path in (one, other))
    for path, found in ((one, x), (other, y)):
        if not len(found):
            raise DataError(f"{path} holds no checkpoint to compare: wait for one")
    if len(x) != len(y):
        raise DataError(f"{one} has {len(x)} coordinates and {other} has {len(y)}: compare runs of one problem")
    norms = [math.sqrt(float(np.sum(found**2))) for found in (x, y)]
    error = None if 0.0 in norms else math.sqrt(float(np.sum((x / norms[0] - y / norms[1]) ** 2)))
    distance = math.sqrt(float(np.sum((x - y) ** 2)))
    return {"direction_error": error, "distance": distance, "norms": norms, "path": str(other)}
