"""A row of the history: objective, gradient, consensus, suboptimality, held-out loss at a recorded round."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpilocal.algorithms.base import Algorithm
from mpilocal.measures.risk import Risk
from mpilocal.problem import Problem
from mpilocal.tree import Tree

Array = NDArray[np.floating]


def row(
    algorithm: Algorithm,
    problem: Problem,
    tree: Tree,
    state: Any,
    rounds: int,
    optimum: float,
    consensus: float,
    noise: bool = False,
    risk: Risk | None = None,
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
        found |= risk.theory(algorithm.steps(rounds))
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
