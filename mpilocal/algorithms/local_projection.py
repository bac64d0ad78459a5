"""Local problems solved to optimality: projections on each worker's own hard-margin set, then an aggregation.

    C_m = {w : y_i ⟨a_i, w⟩ ≥ 1 for the rows i of worker m}          P_m the projection on it

    mean       w ← Σ p_m P_m(w)                                       some point of ∩ C_m
    halpern    w ← (1 − α_k) x0 + α_k Σ p_m P_m(w), α_k = 1 − 1/(k + 2)   the point of ∩ C_m that is nearest to x0
    dykstra    z_m = P_m(w + q_m), q_m ← q_m + w − z_m, w ← Σ p_m z_m     the same, at a linear rate

With x0 = 0 the nearest point is the pooled max-margin vector. It is the limit, as ρ → 0, of the regularised local
problems min Σ exp(−margin) + (ρ/2)‖w − w^k‖², divided by ln(1/ρ) (Evron et al. 2023; Zhu et al., section 4).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpilocal.algorithms.base import Algorithm, Phase, Setting
from mpilocal.algorithms.modified_local_gd import anchor, require_world
from mpilocal.errors import ConfigError
from mpilocal.problem import MARGIN
from mpilocal.projection import margin_rows, nearest
from mpilocal.tree import Tree

Array = NDArray[np.floating]


class State(NamedTuple):
    """The local iterates, the start, and Dykstra's corrections."""

    x: Array  # (workers here, dim)
    start: Array  # (dim,) x0
    correction: Array  # (workers here, dim) q_m, or no rows


def local_projection(setting: Setting, *, aggregation: Literal["mean", "halpern", "dykstra"] = "halpern") -> Algorithm:
    """Return projections on the workers' hard-margin sets for a setting; step sizes, steps and batch do not act.

    Args:
        setting: What a method is given.
        aggregation: What is made of the projections.
    """
    problem, tree = setting.problem, setting.tree
    require_world(setting)
    if problem.loss not in MARGIN:
        raise ConfigError(
            f'problem.loss = "{problem.name}" has no margin, which "local-projection" needs: take "logistic"'
        )
    ranges = zip(problem.shard.begin.tolist(), problem.shard.end.tolist(), strict=True)
    own = [margin_rows(problem.shard, np.arange(first, last), problem.intercept) for first, last in ranges]

    def init(x0: Array) -> State:
        x = np.tile(x0.astype(problem.dtype), (tree.count, 1))
        return State(x, x[0].copy(), np.zeros_like(x) if aggregation == "dykstra" else x[:0].copy())

    def local(state: State, round: int) -> None:
        for m, rows in enumerate(own):
            at = state.x[m] + state.correction[m] if aggregation == "dykstra" else state.x[m]
            found = nearest(rows, at)
            if found is None:
                raise ConfigError(
                    f"the rows of worker {tree.first + m} cannot be separated through the origin, so it has no hard "
                    "margin: set problem.intercept = true, or take another partition"
                )
            if aggregation == "dykstra":
                state.correction[m] = at - found
            state.x[m] = found

    def average(state: State, tree: Tree, round: int) -> None:
        if tree.mean(state.x, round) and aggregation == "halpern":
            anchor(state.x, state.start, tree.levels.world_averagings(round), 1.0)

    return Algorithm(
        init=init,
        phases=(Phase(local, average),),
        steps=lambda rounds: rounds,
        samples=lambda rounds: rounds * problem.sampled_rows,
        common=frozenset({"start"}),
    )
