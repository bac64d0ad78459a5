"""What accelerated methods share: local steps of two sequences that are both averaged, and rounds of one such step."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from mpilocal.algorithms import server
from mpilocal.algorithms.base import Algorithm, Phase, Setting, refuse_outer_steps, samples_of
from mpilocal.algorithms.minibatch_sgd import Gradients
from mpilocal.algorithms.recursions import AcSa, Pair, Stage, halving
from mpilocal.config.kinds import Constant, parse_step_size
from mpilocal.config.typed import shown
from mpilocal.errors import ConfigError
from mpilocal.tree import Tree

Array = NDArray[np.floating]


AtLeastZero = Annotated[float, Meta(ge=0)]
Stages = list[Annotated[int, Meta(ge=1)]] | Literal["halving"] | None


class State(NamedTuple):
    """The two sequences of each worker, or one pair of all."""

    x: Array  # (workers here, dim) the one that is judged: x^ag, w_ag
    v: Array  # (workers here, dim) the one that moves further
    anchors: Array  # (2, dim) both where all workers averaged last; (0, dim) where the server takes no step of its own


def constant_step(setting: Setting) -> float:
    """Return the step size; refuse what these methods do not take."""
    options = setting.options
    kind = parse_step_size(options.step_size)
    if not isinstance(kind, Constant) or kind.warmup:
        raise ConfigError(f'algorithm.step_size = {shown(options.step_size)}: "{options.name}" takes a number')
    if setting.schedule.averages:
        raise ConfigError(
            f'algorithm.iterate_average = {shown(options.iterate_average)}: "{options.name}" has its average in its '
            "recursion: remove the key"
        )
    return kind.value


def ac_sa(setting: Setting, steps: int, mu: float | None, stages: Stages, sigma: float, gap: float) -> AcSa:
    """Return the recursion of AC-SA for `steps` steps; see `local_ac_sa` for the options."""
    eta = constant_step(setting)
    mu = setting.problem.l2 if mu is None else mu
    if stages != "halving":
        begins = np.concatenate([[0], np.cumsum(np.array(stages or [0], np.int64)[:-1])])
        return AcSa(mu, [Stage(int(begin), 1 / eta) for begin in begins])
    if mu == 0 or gap == 0:
        raise ConfigError(
            f'algorithm.options.stages = "halving" needs mu and gap above 0, and has mu = {mu:g}, gap = {gap:g}: '
            "gap is F(x0) − F*, or more"
        )
    weights = setting.tree.all_weights
    variance = sigma**2 * float(np.sum(np.square(weights / weights.sum())))
    # Each stage is AC-SA for convex functions: that is what the lengths are worked out for.
    return AcSa(0.0, halving(eta, mu, variance, gap, steps))


def local_steps(setting: Setting, recursion: Pair) -> Algorithm:
    """Return local steps of a recursion; where workers average they average both sequences."""
    problem, schedule, tree = setting.problem, setting.schedule, setting.tree
    keep, share = server.without_inner(setting), setting.options.server_step_size
    draws, l2 = setting.draws(setting.batch), problem.dtype.type(problem.l2)
    work = [(*own[:2], np.empty((2, problem.dim), problem.dtype)) for own in problem.work(setting.batch, 0)]

    def init(x0: Array) -> State:
        x = np.tile(x0.astype(problem.dtype), (tree.count, 1))
        return State(x, x.copy(), np.tile(x[0], (2 if keep else 0, 1)))

    def local(state: State, round: int) -> None:
        first, last = schedule.first(round), schedule.first(round + 1)
        target = (state.x, state.v, recursion(first, last).astype(problem.dtype))
        rule = (problem.shard, draws, int(problem.loss), problem.outputs, l2, first)
        problem.threads.run(problem.kernels.accelerated, tree.count, (*target, *rule), work)

    def average(state: State, tree: Tree, round: int) -> None:
        for sequence, rows in enumerate((state.x, state.v)):
            if tree.mean(rows, round) and keep:
                server.carry(rows, state.anchors[sequence], share)

    def warm() -> None:
        x = np.zeros((1, problem.dim), problem.dtype)
        rule = (problem.shard, draws, int(problem.loss), problem.outputs, l2, 0)
        problem.kernels.accelerated(x, x, np.zeros((0, 6), problem.dtype), *rule, *work[0], 0, 0)

    return Algorithm(
        init=init,
        phases=(Phase(local, average),),
        steps=schedule.first,
        samples=samples_of(setting, setting.batch),
        common=frozenset({"anchors"}),
        vectors=2,
        warm=warm,
    )


def rounds_of_one_step(setting: Setting, recursion: Pair) -> Algorithm:
    """Return rounds of one step of a recursion, with the gradient of local_steps · batch samples of each worker."""
    refuse_outer_steps(setting)
    gradients = Gradients(setting)
    dtype = setting.problem.dtype

    def init(x0: Array) -> State:
        x = x0.astype(dtype).reshape(1, -1)
        return State(x, x.copy(), np.empty((0, setting.problem.dim), dtype))

    def between(state: Any, row: Array) -> Array:
        return np.asarray(row[0] * state.v + (1 - row[0]) * state.x, dtype)

    def local(state: State, round: int) -> None:
        gradients.local(between(state, recursion(round, round + 1)[0]), round)

    def average(state: State, tree: Tree, round: int) -> None:
        row = recursion(round, round + 1)[0]
        _, r, u, s, q, w = row.astype(dtype)
        y = between(state, row)
        g = gradients.mean(tree, round, y)
        state.v[:] = r * state.v + (1 - r) * y - u * g
        state.x[:] = s * state.v + q * state.x + (1 - s - q) * y - w * g

    return Algorithm(
        init=init,
        phases=(Phase(local, average),),
        steps=lambda rounds: rounds,
        samples=gradients.samples,
        common=frozenset({"x", "v", "anchors"}),
    )
