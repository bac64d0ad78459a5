"""The recursions of accelerated methods, each as six coefficients a step; see `Pair` for what they mean.

AC-SA (Ghadimi and Lan 2012, 2013) and FedAc (Yuan and Ma 2020) differ in nothing else.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mpilocal.errors import ConfigError

Floats = NDArray[np.float64]


class Pair(Protocol):
    """A recursion of two sequences x, v with one gradient g a step, taken at y.

    With (p, r, u, s, q, w) = coefficients[k]:

        y = p v + (1 − p) x
        v ← r v + (1 − r) y − u g     x ← s v + q x + (1 − s − q) y − w g, with the new v
    """

    def __call__(self, first: int, last: int) -> Floats:
        """Return the coefficients (last − first, 6) of the steps first ≤ t < last, counted from 0."""
        ...


class Stage(NamedTuple):
    """Consecutive steps of AC-SA, which begins anew with each stage from the x of the one before."""

    begin: int
    c: float  # c_t = 4 c/(t (t + 1))


class AcSa:
    """AC-SA with α_t = 2/(t + 1) and c_t = 4c/(t (t + 1)), t = 1, 2, … within a stage; Ghadimi and Lan (2012, 2013).

    x^md = ((1 − α)(µ + c_t) x^ag + α ((1 − α) µ + c_t) x)/(c_t + (1 − α²) µ)
    x ← (α µ x^md + ((1 − α) µ + c_t) x − α g)/(µ + c_t)         x^ag ← α x + (1 − α) x^ag
    """

    def __init__(self, mu: float, stages: list[Stage]) -> None:
        """Keep µ and the stages, which ascend from step 0."""
        self._mu = mu
        self._begins = np.array([stage.begin for stage in stages], np.int64)
        self._c = np.array([stage.c for stage in stages])

    def __call__(self, first: int, last: int) -> Floats:
        """Return the coefficients of the steps first ≤ t < last; see `Pair`."""
        steps = np.arange(first, last)
        stage = np.searchsorted(self._begins, steps, side="right") - 1
        t = (steps - self._begins[stage] + 1).astype(np.float64)
        mu, c = self._mu, 4 * self._c[stage] / (t * (t + 1))
        a = 2 / (t + 1)
        out = np.zeros((len(steps), 6))
        # The first step of a stage starts at x^ag alone.
        out[:, 0] = np.where(t > 1, a * ((1 - a) * mu + c) / (c + (1 - a * a) * mu), 0.0)
        out[:, 1] = np.where(t > 1, ((1 - a) * mu + c) / (mu + c), 0.0)
        out[:, 2] = a / (mu + c)
        out[:, 3] = a
        out[:, 4] = 1 - a
        return out


class FedAc:
    """FedAc, Yuan and Ma (2020), Algorithm 1, with constant coefficients.

    w_md = w/β + (1 − 1/β) w_ag        w_ag ← w_md − η g        w ← (1 − 1/α) w + w_md/α − γ g
    """

    def __init__(self, eta: float, gamma: float, alpha: float, beta: float) -> None:
        """Keep the coefficients."""
        self._row = np.array([1 / beta, 1 - 1 / alpha, gamma, 0.0, 0.0, eta])

    def __call__(self, first: int, last: int) -> Floats:
        """Return the coefficients of the steps first ≤ t < last; see `Pair`."""
        return np.tile(self._row, (last - first, 1))


def fedac(variant: str, eta: float, mu: float, local_steps: int) -> FedAc:
    """Return FedAc-I, FedAc-II or the naive form (γ without K), with the coefficients of the paper, section 3.

    γ = max{√(η/(µ K)), η}; I: α = 1/(γµ), β = α + 1; II: α = 3/(2γµ) − 1/2, β = (2α² − 1)/(α − 1); naive: as I with
    γ = √(η/µ).

    Raises:
        ConfigError: µ is not above 0, or too large for α > 1.
    """
    if mu <= 0:
        raise ConfigError("algorithm.options.mu must be above 0 for fedac: set it, or problem.l2")
    gamma = math.sqrt(eta / mu) if variant == "naive" else max(math.sqrt(eta / (mu * local_steps)), eta)
    alpha = 1 / (gamma * mu) if variant != "II" else 1.5 / (gamma * mu) - 0.5
    if alpha <= 1:
        raise ConfigError(
            f"algorithm.step_size = {eta:g} gives fedac α = {alpha:g}, which must be above 1: take a step size below "
            f"{local_steps if variant != 'naive' else 1}/µ = {(local_steps if variant != 'naive' else 1) / mu:g}, "
            f"and below 1/µ = {1 / mu:g}"
        )
    beta = alpha + 1 if variant != "II" else (2 * alpha**2 - 1) / (alpha - 1)
    return FedAc(eta, gamma, alpha, beta)


def halving(eta: float, mu: float, variance: float, gap: float, steps: int) -> list[Stage]:
    """Return the stages of multi-stage AC-SA, each of which halves the bound on F(x^ag) − F* (Ghadimi and Lan 2013).

    Stage k = 1, 2, … has N_k = ⌈max{4 √(2L/µ), 64 σ²/(3 µ V 2^−(k+1))}⌉ steps and
    c = max{2L, √(µ σ² N (N + 1) (N + 2)/(3 V 2^−(k−1)))}, with V ≥ F(x0) − F* and 2L = 1/η.

    Args:
        eta: η = 1/(2L).
        mu: µ > 0.
        variance: σ² of the gradient that the average takes a step with.
        gap: V.
        steps: How many are to be covered.
    """
    stages, begin, bound = [], 0, gap
    while begin < steps:
        count = math.ceil(max(4 * math.sqrt(1 / (eta * mu)), 256 * variance / (3 * mu * bound)))
        cubed = count * (count + 1.0) * (count + 2.0)
        stages.append(Stage(begin, max(1 / eta, math.sqrt(mu * variance * cubed / (3 * bound)))))
        begin, bound = begin + count, bound / 2
    return stages
