"""Local SGD (Stich 2019, Algorithm 1): local steps on every worker, then the average.

    x_m ← x_m − η_t (∇f_m(x_m; ξ) + λ x_m)          H times on each worker m
    x̄ ← x̄ + η_g (Σ p_m x_m − x̄)                    x_m ← x̄

With batch = "all" it is Local GD; with one round, one-shot averaging; with one local step, minibatch SGD; η_g
is the server's step size. Inner/outer step sizes (Woodworth et al. 2020; inner_step_size = η_in): the local
steps move by η_in and x̄ ← x̄ − η_t Σ p_m Σ_k g_mk.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpilocal.algorithms import server
from mpilocal.algorithms.base import Algorithm, Phase, Setting, samples_of
from mpilocal.algorithms.minibatch_sgd import gradient_rounds
from mpilocal.exact import SMALL
from mpilocal.stream import Streamed, streams
from mpilocal.tree import Tree

Array = NDArray[np.floating]


class State(NamedTuple):
    """The local iterates and what is kept with them."""

    x: Array  # (workers here, dim)
    anchor: Array  # (dim,) the average at which the round began; (0,) where it is not needed
    sums: Array  # (workers here, averages, dim) float64 Σ_t w_t x_m, t the step


def local_sgd(setting: Setting) -> Algorithm:
    """Return Local SGD for a setting."""
    options, problem, schedule, tree = setting.options, setting.problem, setting.schedule, setting.tree
    inner = options.inner_step_size
    if inner == 0:
        return gradient_rounds(setting, lambda count: count, schedule)
    keep = server.steps(setting)
    kept = len(schedule.averages)
    draws = setting.draws(setting.batch)
    work = problem.work(setting.batch, kept)
    none = np.empty((0, problem.dim), problem.dtype)
    l2 = problem.dtype.type(problem.l2)
    streamed = streams(tree.exact, tree.workers, SMALL, kept, tree.levels.flat and len(tree.levels.levels) == 1)
    fixed = None if inner is None else np.full(schedule.longest, inner, problem.dtype)

    def init(x0: Array) -> State:
        x = np.tile(x0.astype(problem.dtype), (1 if streamed else tree.count, 1))
        if streamed:
            tree.stream = Streamed(x, tree.workers, problem.threads)
        return State(
            x=x,
            anchor=x0.astype(problem.dtype) if keep else np.empty(0, problem.dtype),
            sums=np.zeros((len(x), kept, problem.dim)),
        )

    def local(state: State, round: int) -> None:
        first, eta, weights = schedule.begin(round)
        if fixed is not None:
            eta = fixed[: len(eta)]
        shared = (problem.shard, draws, int(problem.loss), problem.outputs, l2, eta, first)
        stream = tree.stream
        if stream is not None and state.x is stream.x:
            target = (state.x, none, state.sums, weights, *shared, tree.scale, stream.sums[0].width)
            scratch = [
                (*rows, *own, *sums)
                for rows, own, sums in zip(stream.scratch, work, stream.accumulators(), strict=True)
            ]
            problem.threads.run(problem.kernels.sgd_streamed, tree.count, target, scratch)
            return
        problem.threads.run(problem.kernels.sgd, tree.count, (state.x, none, state.sums, weights, *shared), work)

    def average(state: State, tree: Tree, round: int) -> None:
        # Between averagings of all workers groups only average: their weighted mean moves as the steps move it.
        if not tree.mean(state.x, round) or not keep:
            return
        outer = options.server_step_size
        if inner is not None:
            # Σ_k g_k = (x̄ − x_m)/η_in, so the outer step is η_t/η_in of the way to the mean.
            outer = schedule.eta(schedule.first(round)) / inner
        server.carry(state.x, state.anchor, outer)

    return Algorithm(
        init=init,
        phases=(Phase(local, average),),
        steps=schedule.first,
        samples=samples_of(setting, setting.batch),
        common=frozenset({"anchor"}),
        averages=lambda state, tree, rounds: iterate_averages(state, tree, setting, rounds),
    )


def iterate_averages(state: Any, tree: Tree, setting: Setting, rounds: int) -> dict[str, Array]:
    """Return (1/S) Σ_t w_t x̄_t by name, from the workers' own sums (linear, so averaged once); collective."""
    steps = setting.schedule.first(rounds)
    found = {}
    for q, average in enumerate(setting.schedule.averages):
        total = average.total(steps)
        rows = np.ascontiguousarray(state.sums[:, q]) if total else state.x
        found[average.name] = tree.average(rows) / (total or 1.0)
    return found
