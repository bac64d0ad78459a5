"""A method: Local SGD whose server keeps a momentum (FedAvgM; Hsu, Qi and Brown 2019); see docs/own.md."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mpilocal.algorithms.base import Algorithm, Phase, Setting
from mpilocal.algorithms.local_sgd import local_sgd
from mpilocal.tree import Tree


class State(NamedTuple):
    """The local iterates, and the server's two vectors, which are equal on all ranks."""

    x: np.ndarray  # (workers here, dim)
    sums: np.ndarray  # (workers here, averages, dim)
    anchor: np.ndarray  # (dim,)
    momentum: np.ndarray  # (dim,)


def server_momentum(setting: Setting, *, beta: float = 0.9) -> Algorithm:
    """Local steps as in Local SGD, then v ← β v + (x̄ − Σ p_m x_m), x̄ ← x̄ − v, x_m ← x̄.

    `beta` is an option of [algorithm.options].
    """
    base = local_sgd(setting)

    def init(x0: np.ndarray) -> State:
        start = base.init(x0)
        return State(start.x, start.sums, start.x[0].copy(), np.zeros_like(start.x[0]))

    def average(state: State, tree: Tree, round: int) -> None:
        if not tree.mean(state.x, round):
            return
        state.momentum[:] = beta * state.momentum + (state.anchor - state.x[0])
        state.anchor[:] -= state.momentum
        state.x[:] = state.anchor

    phase = Phase(base.phases[0].local, average)
    return base._replace(init=init, phases=(phase,), common=frozenset({"anchor", "momentum"}))
