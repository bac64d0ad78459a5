"""A method, a loss and a partition of one's own, named in a config as FILE.py:NAME; see docs/own.md."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mpilocal.algorithms.base import Algorithm, Phase, Setting
from mpilocal.algorithms.local_sgd import local_sgd


# --- A method: Local SGD whose server keeps a momentum (FedAvgM; Hsu, Qi and Brown 2019) -------------------------
class State(NamedTuple):
    """The local iterates, and the server's two vectors, which are equal on all ranks."""

    x: np.ndarray  # (workers here, dim)
    sums: np.ndarray  # (workers here, averages, dim)
    anchor: np.ndarray  # (dim,)
    momentum: np.ndarray  # (dim,)


def server_momentum(setting: Setting, *, beta: float = 0.9) -> Algorithm:
    """V ← β v + (x̄ − Σ p_m x_m);  x̄ ← x̄ − v;  `beta` is an option of [algorithm.options]."""
    base = local_sgd(setting)

    def init(x0: np.ndarray) -> State:
        start = base.init(x0)
        return State(start.x, start.sums, start.x[0].copy(), np.zeros_like(start.x[0]))

    def average(state: State, tree: Any, round: int) -> None:
        if not tree.mean(state.x, round):
            return
        state.momentum[:] = beta * state.momentum + (state.anchor - state.x[0])
        state.anchor[:] -= state.momentum
        state.x[:] = state.anchor

    phase = Phase(base.phases[0].local, average)
    return base._replace(init=init, phases=(phase,), common=frozenset({"anchor", "momentum"}))


# --- A loss: pseudo-Huber, √(1 + (z − y)²) − 1; Numba compiles the three functions into the kernels --------------
def value(z, y, one):  # type: ignore[no-untyped-def]
    """ℓ(z; y); `one` is 1 in the run's precision."""
    return math.sqrt(one + (z - y) * (z - y)) - one


def slope(z, y, one):  # type: ignore[no-untyped-def]
    """dℓ/dz."""
    return (z - y) / math.sqrt(one + (z - y) * (z - y))


def curvature(z, y, one):  # type: ignore[no-untyped-def]
    """d²ℓ/dz², for `optimum = "auto"`."""
    root = math.sqrt(one + (z - y) * (z - y))
    return one / (root * root * root)


class Loss(NamedTuple):
    """What `problem.loss` must name."""

    value: Any
    slope: Any
    curvature: Any


pseudo_huber = Loss(value, slope, curvature)


# --- A partition: rows dealt out in turn --------------------------------------------------------------------------
def round_robin(labels, users, first, total, workers, seed, comm):  # type: ignore[no-untyped-def]
    """Return the worker of each of this rank's rows, which are first, first + 1, …"""
    return (first + np.arange(len(labels))) % workers
