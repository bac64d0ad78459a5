"""What theory says of the accelerated methods, on quadratics: AC-SA's rate, FedAc's potentials, averages and noise."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import mpilocal
from mpilocal.algorithms.recursions import AcSa, Pair, Stage, fedac, halving
from mpilocal.errors import ConfigError
from mpilocal.kernels.cpu import dense
from mpilocal.kernels.scalar import Loss
from mpilocal.kernels.shard import Dense, Draws

NOISY = {"rows": 120, "features": 5, "seed": 6, "sigma": 0.8, "zeta": 0.4, "groups": 4, "mu": 0.1}


class Quadratic(NamedTuple):
    """f(x) = ½ Σ λ_j x_j² − ⟨b, x⟩ without noise."""

    curvature: NDArray[np.float64]
    b: NDArray[np.float64]

    @property
    def optimum(self) -> NDArray[np.float64]:
        return self.b / self.curvature

    def gap(self, x: NDArray[np.float64]) -> float:
        return float(0.5 * np.sum(self.curvature * (x - self.optimum) ** 2))

    def steps(self, rule: Pair, count: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """(x, v) after each step from 0."""
        shard = Dense(self.b[None, :], np.zeros(1), np.array([0]), np.array([1]), np.array([[self.curvature] * 2]))
        x, v = np.zeros((1, len(self.b))), np.zeros((1, len(self.b)))
        found = [(x[0].copy(), v[0].copy())]
        for t in range(count):
            work = np.empty(8), np.empty(1, np.int64), np.empty((2, len(self.b)))
            kind = (Draws(np.uint64(0), 0, False, 0), int(Loss.LINEAR), 1, 0.0, t)
            dense.accelerated(x, v, rule(t, t + 1), shard, *kind, *work, 0, 1)
            found.append((x[0].copy(), v[0].copy()))
        return found


def quadratic(kappa: float, seed: int, dim: int = 12) -> Quadratic:
    draw = np.random.default_rng(seed)
    curvature = np.geomspace(1 / kappa, 1.0, dim)
    return Quadratic(curvature, curvature * draw.standard_normal(dim))


@given(st.sampled_from([0.0, 0.01, 0.1]), st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_ac_sa_is_as_fast_as_its_bound(mu: float, seed: int) -> None:
    """F(x^ag) − F* ≤ 2L ‖x0 − x*‖²/(t (t + 1)) without noise."""
    problem = quadratic(10.0 if mu == 0.1 else 100.0, seed)
    distance = float(np.sum(problem.optimum**2))
    for t, (x, _) in enumerate(problem.steps(AcSa(mu, [Stage(0, 1.0)]), 200)):
        assert t == 0 or problem.gap(x) <= 2 * distance / (t * (t + 1))


@pytest.mark.parametrize(("variant", "share", "weight"), [("I", 1.0, 0.5), ("II", 3.0, 1 / 6)])
def test_potentials_of_fedac_contract(variant: str, share: float, weight: float) -> None:
    """F(w_ag) − F* + weight · µ ‖w − w*‖² falls by 1 − γµ (I) or 1 − γµ/3 (II) in each step without noise."""
    worst = 0.0
    for kappa, K, seed in itertools.product((10.0, 1000.0), (1, 4, 64), range(3)):
        problem, mu, eta = quadratic(kappa, seed), 1 / kappa, 1.0
        rule = fedac(variant, eta, mu, K)
        gamma = max(math.sqrt(eta / (mu * K)), eta)
        found = [
            problem.gap(x) + weight * mu * float(np.sum((v - problem.optimum) ** 2)) for x, v in problem.steps(rule, 60)
        ]
        ratios = [after / before for before, after in itertools.pairwise(found) if before > 1e-20]
        worst = max(worst, max(ratios) / (1 - gamma * mu / share))
    assert 0.9 < worst <= 1 + 1e-12


def accelerated(name: str, local_steps: int, rounds: int, step_size: float, **options: Any) -> dict[str, Any]:
    return {
        "data": {"source": "synthetic:quadratic", "options": NOISY},
        "problem": {"loss": "quadratic"},
        "workers": {"count": 4},
        "algorithm": {
            "name": name,
            "rounds": rounds,
            "local_steps": local_steps,
            "step_size": step_size,
            "options": options,
        },
        "run": {"threads": 1},
    }


@pytest.mark.parametrize(
    ("name", "options"),
    [("local-ac-sa", {"mu": 0.1}), ("local-ac-sa", {"mu": 0.0, "stages": [7, 9, 20]}), ("local-sgd", {})],
)
def test_local_steps_of_a_linear_method_are_steps_with_averaged_noise(name: str, options: dict[str, Any]) -> None:
    """On quadratics with additive noise it does not matter how often workers average (Woodworth et al. 2020, Thm 1)."""
    often = mpilocal.run(accelerated(name, 1, 24, 0.4, **options))
    for local_steps in (2, 8, 24):
        seldom = mpilocal.run(accelerated(name, local_steps, 24 // local_steps, 0.4, **options))
        np.testing.assert_allclose(seldom.average, often.average, rtol=0, atol=1e-12)


def test_one_local_step_is_the_minibatch_method() -> None:
    """By two code paths: FedAc-I with K = 1 is MB-AC-SGD, and Local AC-SA accelerated minibatch SGD."""
    for local, minibatch in (("fedac", "minibatch-fedac"), ("local-ac-sa", "minibatch-ac-sa")):
        one = mpilocal.run(accelerated(local, 1, 20, 0.3, mu=0.1))
        other = mpilocal.run(accelerated(minibatch, 1, 20, 0.3, mu=0.1))
        np.testing.assert_allclose(one.average, other.average, rtol=0, atol=1e-13)


@pytest.mark.slow
def test_stages_halve_the_gap() -> None:
    """Multi-stage AC-SA with noise: after stage k the mean gap over seeds is at most V 2^−k."""
    sigma, gap, eta, mu, L = 0.8, 1.0, 0.5, 0.1, 1.0
    assert eta <= 1 / (2 * L)
    stages = halving(eta, mu, sigma**2, gap, 20000)
    ends = [stage.begin for stage in stages[1:5]]
    gaps = []
    for seed in range(6):
        table = accelerated("local-ac-sa", 1, ends[-1], eta, mu=mu, stages="halving", sigma=sigma, gap=gap)
        table["workers"] = {"count": 1}
        table["problem"]["optimum"] = "auto"
        table["data"]["options"] = {**NOISY, "rows": 4000, "zeta": 0.0, "distance": 2.0}
        table["output"] = {"record_every": 1, "checkpoint_every": 10**6}
        table["run"]["seed"] = seed
        history = mpilocal.run(table).history
        gaps.append(history["suboptimality"][[0, *ends]])
    mean = np.mean(gaps, axis=0)
    assert mean[0] <= gap
    assert (mean <= gap * 0.5 ** np.arange(len(mean))).all(), mean


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("fedac", {"options": {"mu": 0}}, "algorithm.options.mu must be above 0 for fedac: set it, or problem.l2"),
        ("fedac", {"options": {"mu": 5.0}}, "must be above 1"),
        ("fedac", {"options": {"mu": "high"}}, 'algorithm.options.mu = "high" is not accepted: write a number'),
        ("fedac", {"options": {"variant": "III"}}, 'variant = "III" is not accepted: write "I" or "II" or "naive"'),
        ("fedac", {"options": {"mu": 0.1}, "local_steps": {"kind": "growing", "scale": 1.0}}, "fedac takes a number"),
        ("fedac", {"step_size": {"kind": "inverse-sqrt", "scale": 1.0}}, '"fedac" takes a number'),
        ("local-ac-sa", {"inner_step_size": 0.1}, "whose step_size is the inner one: .* as server_step_size"),
        ("minibatch-ac-sa", {"server_step_size": 2.0}, "do not act in"),
        ("local-ac-sa", {"iterate_average": "uniform"}, "has its average in its recursion"),
        ("local-ac-sa", {"options": {"stages": [3, 0]}}, "algorithm.options.stages"),
        ("local-ac-sa", {"options": {"stages": "doubling"}}, "algorithm.options.stages"),
        ("local-ac-sa", {"options": {"mu": 0.1, "stages": "halving"}}, "gap is F"),
        ("local-ac-sa", {"options": {"variant": "I"}}, "variant is not an option"),
    ],
)
def test_bad_options(name: str, change: dict[str, Any], said: str) -> None:
    table = accelerated(name, 2, 2, 0.3)
    table["algorithm"] = {**table["algorithm"], **change}
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        mpilocal.run(table)


def test_accelerated_minibatches_average_in_every_round() -> None:
    table = accelerated("minibatch-ac-sa", 2, 2, 0.3)
    with pytest.raises(ConfigError, match="averages gradients in every round"):
        mpilocal.run({**table, "levels": [{"group": "world", "period": 2}]})
