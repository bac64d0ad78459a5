"""Minibatch SGD (Woodworth et al. 2020, section 2): one step a round, all gradients taken at the same point.

    x ← x − η_t (Σ p_m 1/(H b) Σ_{i ≤ H b} ∇ℓ_mi(x) + λ x)

The fair baseline of Local SGD: in a round each worker draws the same H·b samples, local_steps · batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpilocal.algorithms.base import Algorithm, Phase, Setting, samples_of
from mpilocal.errors import ConfigError
from mpilocal.schedules import Schedule
from mpilocal.tree import Tree

Array = NDArray[np.floating]


class State(NamedTuple):
    """The common iterate."""

    x: Array  # (1, dim)
    total: Array  # (averages, dim) float64 Σ_t w_t x̄_t


def minibatch_sgd(setting: Setting) -> Algorithm:
    """Return minibatch SGD for a setting."""
    return gradient_rounds(setting, lambda count: 1, setting.schedule.one_step())


class Gradients:
    """The mean gradient of a round at one point: of `per_round` samples of each worker, or of H·b."""

    def __init__(self, setting: Setting, per_round: int | None = None) -> None:
        """Make the buffers.

        Raises:
            ConfigError: not all workers average in every round.
        """
        problem, tree = setting.problem, setting.tree
        if not tree.levels.flat:
            raise ConfigError(
                f'algorithm.name = "{setting.options.name}" averages gradients in every round: '
                "remove [[levels]], set the world's period to 1, or take local-sgd, which with local_steps = 1 is "
                "minibatch SGD inside each group"
            )
        self._problem, self._schedule, self._tree = problem, setting.schedule, tree
        self._batch, self._per_round = setting.batch, per_round
        self._draws = setting.draws(setting.batch)
        self._slopes = [(np.empty(max(8, problem.outputs), problem.dtype),) for _ in range(problem.threads.count)]
        self._rows = np.zeros((tree.count, problem.dim), problem.dtype)  # of the round, from local to mean
        self._values = np.empty((tree.count, 2))
        self._counts = (problem.shard.end - problem.shard.begin).astype(problem.dtype)[:, None]
        # Of all rows a round takes the gradient once, whatever H; `per_round` samples else, or H·b.
        drawn = samples_of(setting, setting.batch)
        each = problem.sampled_rows if self._batch == 0 else None if per_round is None else per_round * tree.workers
        self.samples: Callable[[int], int] = drawn if each is None else lambda rounds: rounds * each

    def local(self, point: Array, round: int) -> None:
        """Take each worker's gradient at `point` (1, dim), without l2."""
        problem, kernels = self._problem, self._problem.kernels
        loss, outputs = int(problem.loss), problem.outputs
        if self._batch == 0:
            args = (self._rows, self._values, point, problem.shard, loss, outputs)
            problem.threads.run(kernels.evaluate, self._tree.count, args, self._slopes)
            self._rows[:] /= self._counts
            return
        first, last = self._schedule.first(round), self._schedule.first(round + 1)
        counter, count = first * self._batch, (last - first) * self._batch
        if self._per_round is not None:
            counter, count = round * self._per_round, self._per_round
        drawing = (self._rows, point, problem.shard, self._draws, loss, outputs, counter, count)
        problem.threads.run(kernels.sample_gradient, self._tree.count, drawing, self._slopes)

    def mean(self, tree: Tree, round: int, point: Array) -> Array:
        """Return Σ p_m ∇f_m + λ x at the `point` (1, dim) of `local`, (1, dim); collective."""
        tree.mean(self._rows, round)
        pull = self._problem.pull(np.asarray(point[0], np.float64))
        return np.asarray(self._rows[0] + pull, self._rows.dtype).reshape(1, -1)


def gradient_rounds(
    setting: Setting, factor: Callable[[int], int], clock: Schedule, per_round: int | None = None
) -> Algorithm:
    """Return rounds of one step x ← x − factor(H) η ∇ with the gradient of `per_round` samples of each worker.

    `clock` is the schedule by which steps and weights count; per_round None is H·b.
    """
    problem, schedule = setting.problem, setting.schedule
    gradients = Gradients(setting, per_round)

    def init(x0: Array) -> State:
        return State(x0.astype(problem.dtype).reshape(1, -1), np.zeros((len(clock.averages), problem.dim)))

    def local(state: State, round: int) -> None:
        gradients.local(state.x, round)

    def average(state: State, tree: Tree, round: int) -> None:
        _, eta, weights = clock.begin(round)
        for q in range(weights.shape[1]):
            state.total[q] += weights[:, q].sum() * state.x[0]
        step = eta[0] * problem.dtype.type(factor(schedule.first(round + 1) - schedule.first(round)))
        state.x[:] -= step * gradients.mean(tree, round, state.x)

    def averages(state: State, tree: Tree, rounds: int) -> dict[str, Array]:
        steps = clock.first(rounds)
        sums = {w.name: (state.total[q], w.total(steps)) for q, w in enumerate(clock.averages)}
        return {
            name: np.asarray(total / weight if weight else state.x[0], np.float64)
            for name, (total, weight) in sums.items()
        }

    return Algorithm(
        init=init,
        phases=(Phase(local, average),),
        steps=clock.first,
        samples=gradients.samples,
        common=frozenset({"x", "total"}),
        averages=averages,
    )
