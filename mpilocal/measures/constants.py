"""What the theory of a method calls L, µ, ‖x0 − x*‖, σ*² and ζ*², found once and beside every row of the history."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mpilocal.errors import ConfigError
from mpilocal.kernels.cpu import vector
from mpilocal.measures.divergence import Divergence
from mpilocal.optimum import convexity
from mpilocal.problem import Problem
from mpilocal.tree import Tree

Floats = NDArray[np.float64]
NAMES = ("smoothness", "convexity", "distance", "optimum_noise", "optimum_divergence")


def constants(
    problem: Problem,
    tree: Tree,
    optimum: Floats | None,
    attained: bool,
    x0: NDArray[np.floating],
    earlier: dict[str, float | int],
) -> dict[str, float]:
    """Return them by name; collective. `optimum` is x* (dim,), `earlier` a row of the run that is resumed, or empty.

    Where the infimum of F is not `attained`, `optimum` is a point far on the way to it: σ*² and ζ*² are near their
    limits there, and the distance is infinite.

    `smoothness` L of F, an estimate; `convexity` µ of the l2 term and a quadratic's curvature; `distance` ‖x0 − x*‖;
    `optimum_noise` σ*² = Σ p_m/N_m Σ ‖∇f_i − ∇f_m‖² and `optimum_divergence` ζ*² = Σ p_m ‖∇f_m − ∇F‖², at x*.

    Raises:
        ConfigError: x* is not known.
    """
    if all(name in earlier for name in NAMES):
        return {name: float(earlier[name]) for name in NAMES}
    if optimum is None:
        raise ConfigError(
            'output.constants = true needs the minimiser: set problem.optimum = "auto", and take a problem that has one'
        )
    away = np.asarray(x0, np.float64) - optimum
    apart = Divergence(problem, tree).gradients(optimum, 0)["divergence"]
    noise = problem.gradient_noise(optimum, problem.evaluate(optimum))
    found = (
        problem.smoothness(),
        convexity(problem),
        math.sqrt(float(vector.dot(away, away))) if attained else math.inf,
        max(noise - apart, 0.0),
        apart,
    )
    return dict(zip(NAMES, found, strict=True))
