"""The server's step: how far an averaging of all workers carries x̄.

    x̄ ← x̄ + η_g (Σ p_m x_m − x̄)

With local steps of size η this is inner and outer step sizes (Woodworth et al. 2020), η_in = η and η_out = η_g η.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpilocal.algorithms.base import Setting
from mpilocal.errors import ConfigError

Array = NDArray[np.floating]


def steps(setting: Setting) -> bool:
    """Return whether the server takes steps of its own (ConfigError where all workers never average)."""
    options = setting.options
    own = options.server_step_size != 1 or options.inner_step_size is not None
    if own and not setting.tree.levels.levels[-1].world:
        raise ConfigError(
            "algorithm.server_step_size and inner_step_size act where all workers average: add a level of group = "
            '"world", or remove them'
        )
    return own


def without_inner(setting: Setting) -> bool:
    """Return the same, and refuse inner_step_size for a method whose step_size is that of the local steps."""
    options = setting.options
    if options.inner_step_size is not None:
        raise ConfigError(
            f'algorithm.inner_step_size does not act in "{options.name}", whose step_size is the inner one: give the '
            "outer one over it as server_step_size"
        )
    return steps(setting)


def carry(x: Array, anchor: Array, share: float) -> None:
    """Move every row, all at the mean, to x̄ + share (mean − x̄), x̄ = `anchor` (dim,), which moves along."""
    anchor += x.dtype.type(share) * (x[0] - anchor)
    x[:] = anchor
