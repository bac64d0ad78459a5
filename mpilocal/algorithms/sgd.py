"""SGD on one machine: rounds · local_steps steps of one worker on all rows, without communication.

x ← x − η_t (1/b Σ_{i ≤ b} ∇ℓ_i(x) + λ x)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpilocal.algorithms.base import Algorithm, Phase, Setting, samples_of
from mpilocal.algorithms.local_sgd import iterate_averages
from mpilocal.errors import ConfigError
from mpilocal.tree import Tree

Array = NDArray[np.floating]


class State(NamedTuple):
    """The iterate and its weighted sums."""

    x: Array  # (1, dim)
    sums: Array  # (1, averages, dim) float64


def sgd(setting: Setting) -> Algorithm:
    """Return SGD for a setting of one worker."""
    problem, schedule, tree = setting.problem, setting.schedule, setting.tree
    if tree.workers != 1:
        raise ConfigError(
            f'algorithm.name = "sgd" is one worker on all rows, not {tree.workers}: set workers.count = 1'
        )
    kept = len(schedule.averages)
    draws = setting.draws(setting.batch)
    (work,) = problem.work(setting.batch, kept)[:1]
    none = np.empty((0, problem.dim), problem.dtype)
    l2 = problem.dtype.type(problem.l2)

    def init(x0: Array) -> State:
        return State(x0.astype(problem.dtype).reshape(1, -1), np.zeros((1, kept, problem.dim)))

    def local(state: State, round: int) -> None:
        first, eta, weights = schedule.begin(round)
        target = (state.x, none, state.sums, weights)
        rule = (problem.shard, draws, int(problem.loss), problem.outputs, l2, eta, first)
        problem.kernels.sgd(*target, *rule, *work, 0, 1)

    def average(state: State, tree: Tree, round: int) -> None:
        tree.mean(state.x, round)

    return Algorithm(
        init=init,
        phases=(Phase(local, average),),
        steps=schedule.first,
        samples=samples_of(setting, setting.batch),
        averages=lambda state, tree, rounds: iterate_averages(state, tree, setting, rounds),
    )
