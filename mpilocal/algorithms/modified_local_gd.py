"""Modified Local-GD (Zhu, Vardhan and Mazumdar, "Effectiveness of Local Steps on Heterogeneous Data").

    v ← v − η_t (∇f_m(v) + ρ (v − w))          H times on each worker m, from v = w
    w ← (1 − α_k) x0 + α_k Σ p_m v_m           1 − α_k = (k + 2)^−q in round k = 0, 1, …

With a server's step size η_g, w + η_g (Σ p_m v_m − w) takes the place of the mean.

The pull to the start x0 makes the direction of w that of the pooled max-margin separator also where local problems are
solved far, with a step size that need not know H. The schedule α_k is Halpern's (q = 1); its form in the paper is from
memory: any with α_k → 1 and Σ (1 − α_k) = ∞ has the same limit.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from mpilocal.algorithms import server
from mpilocal.algorithms.base import Algorithm, Phase, Setting, samples_of
from mpilocal.algorithms.local_sgd import iterate_averages
from mpilocal.errors import ConfigError
from mpilocal.tree import Tree

Array = NDArray[np.floating]


class State(NamedTuple):
    """The local iterates, the start, and what is kept with them."""

    x: Array  # (workers here, dim)
    start: Array  # (dim,) x0
    anchor: Array  # (dim,) w; (0,) where the server takes no step of its own
    sums: Array  # (workers here, averages, dim) float64 Σ_t w_t x_m


def modified_local_gd(
    setting: Setting,
    *,
    pull: Annotated[float, Meta(ge=0)] = 0.0,
    anchor_exponent: Annotated[float, Meta(gt=0, le=1)] = 1.0,
) -> Algorithm:
    """Return modified Local-GD for a setting.

    Args:
        setting: What a method is given.
        pull: ρ, of the local objective f_m(v) + (ρ/2)‖v − w‖², the intercept without it.
        anchor_exponent: q.
    """
    problem, schedule, tree = setting.problem, setting.schedule, setting.tree
    require_world(setting)
    keep, share = server.without_inner(setting), setting.options.server_step_size
    kept = len(schedule.averages)
    draws, work = setting.draws(setting.batch), problem.work(setting.batch, kept)
    l2 = problem.dtype.type(problem.l2 + pull)
    shift = np.zeros((tree.count if pull else 0, problem.dim), problem.dtype)
    pulled = np.where(problem.penalised, pull, 0.0).astype(problem.dtype)

    def init(x0: Array) -> State:
        x = np.tile(x0.astype(problem.dtype), (tree.count, 1))
        sums = np.zeros((tree.count, kept, problem.dim))
        return State(x, x[0].copy(), x[0].copy() if keep else np.empty(0, problem.dtype), sums)

    def local(state: State, round: int) -> None:
        first, eta, weights = schedule.begin(round)
        if pull:
            np.multiply(-pulled, state.x, out=shift)  # ρ (v − w) = ρ v − ρ w, w where the round began
        rule = (problem.shard, draws, int(problem.loss), problem.outputs, l2, eta, first)
        problem.threads.run(problem.kernels.sgd, tree.count, (state.x, shift, state.sums, weights, *rule), work)

    def average(state: State, tree: Tree, round: int) -> None:
        if tree.mean(state.x, round):
            if keep:
                server.carry(state.x, state.anchor, share)
            anchor(state.x, state.start, tree.levels.world_averagings(round), anchor_exponent)
            if keep:
                state.anchor[:] = state.x[0]

    return Algorithm(
        init=init,
        phases=(Phase(local, average),),
        steps=schedule.first,
        samples=samples_of(setting, setting.batch),
        common=frozenset({"start", "anchor"}),
        averages=lambda state, tree, rounds: iterate_averages(state, tree, setting, rounds),
    )


def require_world(setting: Setting) -> None:
    """Refuse a tree in which all workers never average."""
    if not setting.tree.levels.levels[-1].world:
        raise ConfigError(
            f'algorithm.name = "{setting.options.name}" acts where all workers average: add a level of group = "world"'
        )


def anchor(x: Array, start: Array, k: int, exponent: float) -> None:
    """X ← (1 − α) x0 + α x on every row, 1 − α = (k + 2)^−exponent, k averagings of all workers before this one."""
    alpha = x.dtype.type(1 - (k + 2.0) ** -exponent)
    x[:] = (1 - alpha) * start + alpha * x[0]
