"""Methods as their papers write them: AC-SA (Ghadimi and Lan), FedAc (Yuan and Ma), modified Local-GD (Zhu et al.)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from naive import Array, Model, Plan, Round, Sampling, Visit, Worker, local_steps, mean, penalty

# (gradient at a point, x_ag, x) → (x_ag, x)
Step = Callable[[Callable[[Array], Array], Array, Array], tuple[Array, Array]]


def ac_sa(t: int, c: float, mu: float) -> Step:
    """Step t = 1, 2, … of AC-SA with c_t = 4c/(t(t+1))."""
    a, ct = 2 / (t + 1), 4 * c / (t * (t + 1))

    def step(gradient: Callable[[Array], Array], ag: Array, x: Array) -> tuple[Array, Array]:
        md = ((1 - a) * (mu + ct) * ag + a * ((1 - a) * mu + ct) * x) / (ct + (1 - a**2) * mu)
        x = (a * mu * md + ((1 - a) * mu + ct) * x - a * gradient(md)) / (mu + ct)
        return a * x + (1 - a) * ag, x

    return step


def multi_stage(stages: Sequence[tuple[int, float]], mu: float) -> Callable[[int], Step]:
    """Step t = 0, 1, … of AC-SA that begins anew, from x_ag, with each stage of (steps, c)."""

    def at(t: int) -> Step:
        begin, number = 0, 0
        while number + 1 < len(stages) and t >= begin + stages[number][0]:
            begin, number = begin + stages[number][0], number + 1
        inner = ac_sa(t - begin + 1, stages[number][1], mu)
        return inner if t > begin else lambda gradient, ag, x: inner(gradient, ag, ag)

    return at


def halving(L: float, mu: float, variance: float, gap: float, stages: int) -> list[tuple[int, float]]:
    """(N_k, c_k) for k = 1, 2, …; c ≥ 2L."""
    out = []
    for k in range(1, stages + 1):
        n = math.ceil(max(4 * math.sqrt(2 * L / mu), 64 * variance / (3 * mu * gap * 2 ** -(k + 1))))
        noise = math.sqrt(mu * variance * n * (n + 1) * (n + 2) / (3 * gap * 2 ** -(k - 1)))
        out.append((n, max(2 * L, noise)))
    return out


def fedac(eta: float, gamma: float, alpha: float, beta: float) -> Step:
    """One step of FedAc."""

    def step(gradient: Callable[[Array], Array], ag: Array, w: Array) -> tuple[Array, Array]:
        md = w / beta + (1 - 1 / beta) * ag
        g = gradient(md)
        return md - eta * g, (1 - 1 / alpha) * w + md / alpha - gamma * g

    return step


def coefficients(variant: str, eta: float, mu: float, K: int) -> tuple[float, float, float]:
    """γ, α, β."""
    gamma = math.sqrt(eta / mu) if variant == "naive" else max(math.sqrt(eta / (mu * K)), eta)
    if variant == "II":
        alpha = 3 / (2 * gamma * mu) - 1 / 2
        return gamma, alpha, (2 * alpha**2 - 1) / (alpha - 1)
    return gamma, 1 / (gamma * mu), 1 / (gamma * mu) + 1


def step_of(options: dict[str, object], l2: float, weights: Sequence[float]) -> Callable[[int], Step]:
    """The step at t of a table [algorithm]."""
    own: dict[str, object] = dict(options.get("options", {}))  # type: ignore[call-overload]
    name, eta, mu = str(options["name"]), float(options["step_size"]), own.get("mu", l2)  # type: ignore[arg-type]
    assert isinstance(mu, float | int)
    if name.endswith("fedac"):
        K = 1 if name.startswith("minibatch") else int(options["local_steps"])  # type: ignore[call-overload]
        step = fedac(eta, *coefficients(str(own.get("variant", "I")), eta, mu, K))
        return lambda t: step
    stages = own.get("stages", [1])
    if stages == "halving":
        variance = float(own.get("sigma", 0.0)) ** 2 * sum(w * w for w in weights)  # type: ignore[arg-type]
        return multi_stage(halving(0.5 / eta, mu, variance, float(own["gap"]), 30), 0.0)  # type: ignore[arg-type]
    return multi_stage([(n, 1 / eta) for n in stages], mu)  # type: ignore[attr-defined]


def gradient(
    model: Model, sampling: Sampling, workers: Sequence[Worker], first: int, steps: int
) -> Callable[[Array], Array]:
    """Σ p_m ∇f_m + λ x at a point, from the samples of the steps first, …"""

    def at(x: Array) -> Array:
        rows = [m.weight * sampling.gradient(model, m, x, first, steps) for m in workers]
        return np.asarray(np.sum(rows, axis=0) + penalty(model, x) * x)

    return at


def local(
    model: Model, workers: Sequence[Worker], sampling: Sampling, bounds: Sequence[int], x0: Array,
    step_at: Callable[[int], Step], share: float = 1.0,
) -> Iterator[Round]:  # fmt: skip
    """Local steps of the recursion; both sequences are averaged, and move by a share of the way to the mean."""
    ag, x = x0, x0
    p = [m.weight for m in workers]
    yield Round(ag, 0.0, [])
    for first, last in itertools.pairwise(bounds):
        ends = []
        for m in workers:
            own = ag, x
            for t in range(first, last):
                own = step_at(t)(gradient(model, sampling, [m._replace(weight=1.0)], t, 1), *own)
            ends.append(own)
        ags = [end[0] for end in ends]
        drift = math.fsum(w * float(np.sum((one - mean(ags, p)) ** 2)) for w, one in zip(p, ags, strict=True))
        ag = (1 - share) * ag + share * mean(ags, p)
        x = (1 - share) * x + share * mean([end[1] for end in ends], p)
        yield Round(ag, drift, [])


def minibatch(
    model: Model, workers: Sequence[Worker], sampling: Sampling, bounds: Sequence[int], x0: Array,
    step_at: Callable[[int], Step],
) -> Iterator[Round]:  # fmt: skip
    """One step of the recursion a round, on all its samples."""
    ag, x = x0, x0
    yield Round(ag, 0.0, [])
    for r, (first, last) in enumerate(itertools.pairwise(bounds)):
        ag, x = step_at(r)(gradient(model, sampling, workers, first, last - first), ag, x)
        yield Round(ag, 0.0, [])


def modified_local_gd(
    model: Model, workers: Sequence[Worker], sampling: Sampling, plan: Plan, x0: Array, pull: float, exponent: float
) -> Iterator[Round]:
    """Local steps pulled to the iterate at which the round began; the mean pulled to the start."""
    x, visits = x0, list[Visit]()
    p = [m.weight for m in workers]
    strong = model._replace(l2=model.l2 + pull)
    yield Round(x, 0.0, [])
    for k, (first, last) in enumerate(itertools.pairwise(plan.bounds)):
        shift = (penalty(model, x) - penalty(strong, x)) * x
        etas = [plan.eta(t) for t in range(first, last)]
        ends = []
        for m in workers:

            def visit(t: int, at: Array, m: Worker = m) -> None:
                visits.append(Visit(t, m.weight * at))

            ends.append(local_steps(strong, m, sampling, x, etas, first, shift, visit)[0])
        drift = math.fsum(w * float(np.sum((end - mean(ends, p)) ** 2)) for w, end in zip(p, ends, strict=True))
        away = (k + 2) ** -exponent
        x = away * x0 + (1 - away) * ((1 - plan.server) * x + plan.server * mean(ends, p))
        yield Round(x, drift, visits)
