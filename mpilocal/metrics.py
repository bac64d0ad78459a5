"""What is measured at a recorded round: objective, gradient, consensus, suboptimality, held-out loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpilocal.algorithms.base import Algorithm
from mpilocal.exact import SMALL, SmallSum, StreamSum
from mpilocal.kernels.cpu import vector
from mpilocal.problem import Problem
from mpilocal.tree import Tree

Array = NDArray[np.floating]


class Mean:
    """Σ p_m v_m over all workers, exactly added."""

    def __init__(self, tree: Tree) -> None:
        """Make the buffers."""
        self._tree = tree
        self._total = np.empty(1)
        self._sum: SmallSum | StreamSum
        kind = SmallSum if tree.workers <= SMALL else StreamSum
        self._sum = kind(1, tree.workers, tree.threads)

    def __call__(self, values: Array) -> float:
        """Return it for the numbers of the workers here (workers here,); collective."""
        tree, rows = self._tree, values.reshape(-1, 1)
        if isinstance(self._sum, SmallSum):
            self._sum.reduce(tree.comm, rows, tree.weights, 1.0, self._total)
        else:
            self._sum.add(rows, tree.weights)
            self._sum.reduce(tree.comm, 1.0, self._total)
        return float(self._total[0])


class Spread:
    """Σ p_m ‖x_m − c_m‖² over all workers, exactly added."""

    def __init__(self, tree: Tree) -> None:
        """Make the buffers."""
        self._tree = tree
        self._out = np.empty(tree.count)
        self._mean = Mean(tree)

    def __call__(self, x: Array, center: Array) -> float:
        """Return it for the rows x (workers here, dim); `center` is one for all (dim,), or one each; collective."""
        tree = self._tree
        kernel = vector.distances if center.ndim == 1 else vector.distances_each
        tree.threads.run(kernel, tree.count, (x, center, self._out))
        return self._mean(self._out)


class Consensus:
    """Σ p_m ‖x_m − x̄‖² over all workers."""

    def __init__(self, tree: Tree) -> None:
        """Make the buffers."""
        self._spread = Spread(tree)

    def __call__(self, tree: Tree, x: Array) -> float:
        """Return the consensus of the rows x (workers here, dim); collective."""
        if tree.workers == 1:
            return 0.0
        if tree.stream is not None and x is tree.stream.x:
            tree.finish_stream(tree.stream)
            return tree.stream.consensus()
        if tree.equal(x):
            return 0.0
        return self._spread(x, tree.average(x))


def row(
    algorithm: Algorithm,
    problem: Problem,
    tree: Tree,
    state: Any,
    rounds: int,
    optimum: float,
    consensus: float,
    noise: bool = False,
    risk: Callable[[Array], float] | None = None,
) -> tuple[dict[str, float | int], Array]:
    """Return the history's row after `rounds` rounds, and x̄; collective. With `noise` and `risk` these are in it."""
    average = tree.center(state.x)
    value = problem.evaluate(average)
    found: dict[str, float | int] = {
        "round": rounds,
        "step": algorithm.steps(rounds),
        "samples": algorithm.samples(rounds),
        "objective": value.objective,
        "gradient_norm": value.gradient_norm,
        "consensus": consensus,
    }
    if noise:
        found["gradient_noise"] = problem.gradient_noise(average, value)
    if risk is not None:
        found["risk"] = risk(average)
    if not math.isnan(value.accuracy):
        found["accuracy"] = value.accuracy
    if not math.isnan(optimum):
        found["suboptimality"] = value.objective - optimum
    if problem.test is not None:
        loss, accuracy = problem.evaluate_test(average)
        found["test_loss"] = loss
        if not math.isnan(accuracy):
            found["test_accuracy"] = accuracy
    for name, point in algorithm.averages(state, tree, rounds).items():
        objective = problem.objective(point)
        found[f"objective_{name}"] = objective
        if not math.isnan(optimum):
            found[f"suboptimality_{name}"] = objective - optimum
        if risk is not None:
            found[f"risk_{name}"] = risk(point)
    for number, counts in enumerate(tree.totals(), 1):
        for name, count in zip(("averagings", "vectors", "bytes"), counts, strict=True):
            found[f"level{number}/{name}"] = int(count)
    return found, average
