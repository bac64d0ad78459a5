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


def gradient_rounds(
    setting: Setting, factor: Callable[[int], int], clock: Schedule, per_round: int | None = None
) -> Algorithm:
    """Return rounds of one step x ← x − factor(H) η ∇ with the gradient of `per_round` samples of each worker.

    `clock` is the schedule by which steps and weights count; per_round None is H·b.
    """
    problem, schedule, tree = setting.problem, setting.schedule, setting.tree
    if not tree.levels.flat:
        raise ConfigError(
            f'algorithm.name = "{setting.options.name}" averages gradients in every round: '
            "remove [[levels]], set the world's period to 1, or take local-sgd, which with local_steps = 1 is "
            "minibatch SGD inside each group"
        )
    batch = setting.batch
    draws = setting.draws(batch)
    kernels = problem.kernels
    slopes = [(np.empty(max(8, problem.outputs), problem.dtype),) for _ in range(problem.threads.count)]
    penalty = np.where(problem.penalised, problem.l2, 0.0).astype(problem.dtype)
    ridge = getattr(problem.shard, "ridge", np.empty(0))
    if len(ridge):
        penalty = penalty + ridge
    gradient = np.zeros((tree.count, problem.dim), problem.dtype)  # of the round, from local to average
    values = np.empty((tree.count, 2))
    rows = (problem.shard.end - problem.shard.begin).astype(problem.dtype)[:, None]

    def init(x0: Array) -> State:
        return State(x0.astype(problem.dtype).reshape(1, -1), np.zeros((len(clock.averages), problem.dim)))

    def count_of(round: int) -> tuple[int, int, int]:
        """Return (first draw, draws, local steps) of a round."""
        first, last = schedule.first(round), schedule.first(round + 1)
        if per_round is not None:
            return round * per_round, per_round, last - first
        return first * batch, (last - first) * batch, last - first

    def local(state: State, round: int) -> None:
        counter, count, _ = count_of(round)
        common = (problem.shard, int(problem.loss), problem.outputs)
        if batch == 0:
            problem.threads.run(kernels.evaluate, tree.count, (gradient, values, state.x, *common), slopes)
            gradient[:] /= rows
        else:
            args = (gradient, state.x, problem.shard, draws, *common[1:], counter, count)
            problem.threads.run(kernels.sample_gradient, tree.count, args, slopes)

    def average(state: State, tree: Tree, round: int) -> None:
        _, eta, weights = clock.begin(round)
        x = state.x[0]
        for q in range(weights.shape[1]):
            state.total[q] += weights[:, q].sum() * x
        tree.mean(gradient, round)
        step = eta[0] * problem.dtype.type(factor(count_of(round)[2]))
        state.x[:] = x - step * (gradient[0] + penalty * x)

    def averages(state: State, tree: Tree, rounds: int) -> dict[str, Array]:
        steps = clock.first(rounds)
        sums = {w.name: (state.total[q], w.total(steps)) for q, w in enumerate(clock.averages)}
        return {
            name: np.asarray(total / weight if weight else state.x[0], np.float64)
            for name, (total, weight) in sums.items()
        }

    drawn = samples_of(setting, batch)
    # Of all rows a round takes the gradient once, whatever H; `per_round` samples else, or H·b.
    each = problem.sampled_rows if batch == 0 else None if per_round is None else per_round * tree.workers
    return Algorithm(
        init=init,
        phases=(Phase(local, average),),
        steps=clock.first,
        samples=drawn if each is None else lambda rounds: rounds * each,
        common=frozenset({"x", "total"}),
        averages=averages,
    )
