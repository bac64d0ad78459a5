"""How far the workers' gradients and iterates are apart, level by level (Wang et al. 2022, section 3).

    global = Σ p_m ‖∇f_m − ∇F‖²          D_l = Σ_g p_g ‖∇f_g − ∇f_parent(g)‖²          global = Σ_l D_l

at x̄, with g the groups of level l − 1 (workers, for l = 1) and parent(g) those of level l. With two levels D_1 is the
downward and D_2 the upward divergence.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpilocal.measures.means import Spread
from mpilocal.problem import Problem
from mpilocal.tree.tree import Tree

Array = NDArray[np.floating]


class Divergence:
    """Measures both at recorded rounds."""

    def __init__(self, problem: Problem, tree: Tree) -> None:
        """Make the buffers."""
        self._problem, self._tree = problem, tree
        self._spread = Spread(tree)

    def gradients(self, average: Array, rounds: int) -> dict[str, float]:
        """Return `divergence`, and `level1/divergence`, … at x̄ after `rounds` rounds; collective.

        Groups that change are those of the last round. Where the widest level is not the world, one more follows.
        """
        problem, tree = self._problem, self._tree
        levels = tree.levels.levels
        above = [] if levels[-1].world else [len(levels)]
        if tree.workers == 1 or problem.alike:
            return dict.fromkeys(
                ["divergence", *(f"level{n + 1}/divergence" for n in [*range(len(levels)), *above])], 0.0
            )
        gradients = problem.worker_gradients(average)
        mean = np.array(tree.average(gradients))
        found = {"divergence": self._spread(gradients, mean)}
        inner = gradients
        for number in range(len(levels)):
            outer = gradients.copy()
            tree.group_means(outer, number, max(rounds - 1, 0))
            found[f"level{number + 1}/divergence"] = self._spread(inner, outer)
            inner = outer
        for number in above:
            found[f"level{number + 1}/divergence"] = self._spread(inner, mean)
        return found

    def iterates(self, x: Array, rounds: int, consensus: float) -> dict[str, float]:
        """Return `level1/consensus`, …: Σ p_m ‖x_m − x̄_g‖² around the mean of the worker's group; collective.

        x (workers here, dim) are the iterates just before the averaging that ends round `rounds`, or one row for all;
        `consensus` is that around x̄.
        """
        found = {}
        for number, level in enumerate(self._tree.levels.levels):
            if level.world or consensus == 0.0:  # the same on all ranks; x may be one row for all
                found[f"level{number + 1}/consensus"] = consensus
                continue
            means = np.array(x, np.float64)
            self._tree.group_means(means, number, max(rounds - 1, 0))
            found[f"level{number + 1}/consensus"] = self._spread(x, means)
        return found
