"""The specification, slow and obvious: plain Python and NumPy, dense, one row at a time, no code of the package.

Rows are a (n, d) matrix a and labels y (n,). An iterate is a matrix x (outputs, d) or, with an intercept,
(outputs, d + 1): one row of weights per class of softmax, else a single one. t counts local steps from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from naive_draws import draw as draw
from naive_schedules import blocks as blocks
from naive_schedules import bounds as bounds
from naive_schedules import step_size as step_size
from naive_schedules import weight as weight
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Model(NamedTuple):
    """F(x) = Σ_i w_i ℓ(z_i; y_i) + ½ Σ_j (λ + r_j) x_j², z_i = A_i x (+ intercept, which is not regularised)."""

    loss: str
    l2: float = 0.0  # λ
    intercept: bool = False
    outputs: int = 1
    ridge: Array | None = None  # r (d,) of a quadratic, or (2, d): below 0 and above


def exp(v: float) -> float:
    return math.inf if v > 709.78 else math.exp(v)


# Losses: ℓ, dℓ/dz and d²ℓ/dz² of a prediction z (a number, or the scores of the classes) and a label y.


def value(loss: str, z: Any, y: float) -> float:
    if loss == "softmax":
        top = max(z)
        return math.log(math.fsum(exp(s - top) for s in z)) + (top - z[int(y)])
    m = y * z
    if loss == "logistic":
        return max(-m, 0.0) + math.log1p(exp(-abs(m)))
    if loss == "squared":
        return 0.5 * (z - y) ** 2
    if loss == "squared-hinge":
        return max(0.0, 1 - m) ** 2
    if loss == "smooth-hinge":
        return 0.5 - m if m <= 0 else 0.5 * max(0.0, 1 - m) ** 2
    if loss == "exponential":
        return exp(-m)
    assert loss == "quadratic"
    return -z


def slope(loss: str, z: Any, y: float) -> Any:
    if loss == "softmax":
        slopes = probabilities(z)
        slopes[int(y)] -= 1
        return slopes
    m = y * z
    if loss == "logistic":
        return -y / (1 + exp(m))
    if loss == "squared":
        return z - y
    if loss == "squared-hinge":
        return -2 * y * max(0.0, 1 - m)
    if loss == "smooth-hinge":
        return -y if m <= 0 else -y * max(0.0, 1 - m)
    if loss == "exponential":
        return -y * exp(-m)
    assert loss == "quadratic"
    return -1.0


def curvature(loss: str, z: Any, y: float) -> Any:
    if loss == "softmax":
        p = probabilities(z)
        return np.diag(p) - np.outer(p, p)
    m = y * z
    if loss == "logistic":
        return 1 / (2 + exp(abs(m)) + exp(-abs(m)))
    if loss == "squared":
        return 1.0
    if loss == "squared-hinge":
        return 2.0 if m < 1 else 0.0
    if loss == "smooth-hinge":
        return 1.0 if 0 < m < 1 else 0.0
    if loss == "exponential":
        return exp(-m)
    assert loss == "quadratic"
    return 0.0


def right(loss: str, z: Any, y: float) -> bool:
    """Whether a row is predicted right; a tie is not."""
    if loss == "softmax":
        return all(z[int(y)] > s for c, s in enumerate(z) if c != y)
    return bool(y * z > 0)


def probabilities(z: Array) -> Array:
    e = np.array([exp(s - max(z)) for s in z])
    return e / e.sum()


# One row, then the objective.


def augmented(model: Model, row: Array) -> Array:
    """The row, with a one for the intercept."""
    return np.append(row, 1.0) if model.intercept else row


def scores(model: Model, row: Array, x: Array) -> Any:
    z = x @ augmented(model, row)
    return z if model.loss == "softmax" else float(z[0])


def row_value(model: Model, row: Array, y: float, x: Array) -> float:
    return value(model.loss, scores(model, row, x), y)


def row_gradient(model: Model, row: Array, y: float, x: Array) -> Array:
    """∇ℓ_i(x) = ℓ'(z_i) a_iᵀ, the shape of x, without l2."""
    return np.outer(np.atleast_1d(slope(model.loss, scores(model, row, x), y)), augmented(model, row))


def row_hessian(model: Model, row: Array, y: float, x: Array, v: Array) -> Array:
    """∇²ℓ_i(x) v = ℓ''(z_i) ⟨a_i, v⟩ a_iᵀ, the shape of x, without l2."""
    a = augmented(model, row)
    return np.outer(np.atleast_2d(curvature(model.loss, scores(model, row, x), y)) @ (v @ a), a)


def penalty(model: Model, x: Array) -> Array:
    """λ + r_j of each coordinate, the shape of x."""
    out = np.full(x.shape, model.l2)
    if model.ridge is not None:
        below, above = model.ridge if model.ridge.ndim == 2 else (model.ridge, model.ridge)
        out[:, : len(below)] += np.where(x[:, : len(below)] > 0, above, below)
    if model.intercept:
        out[:, -1] = 0.0
    return out


def objective(model: Model, a: Array, y: Array, weights: Array, x: Array) -> float:
    """F(x) for the weights (n,) of the rows."""
    losses = [w * row_value(model, row, label, x) for row, label, w in zip(a, y, weights, strict=True)]
    return math.fsum(losses) + 0.5 * float(np.sum(penalty(model, x) * x * x))


def gradient(model: Model, a: Array, y: Array, weights: Array, x: Array) -> Array:
    terms = [w * row_gradient(model, row, label, x) for row, label, w in zip(a, y, weights, strict=True)]
    return np.sum(terms, axis=0) + penalty(model, x) * x


def hessian_product(model: Model, a: Array, y: Array, weights: Array, x: Array, v: Array) -> Array:
    terms = [w * row_hessian(model, row, label, x, v) for row, label, w in zip(a, y, weights, strict=True)]
    return np.sum(terms, axis=0) + penalty(model, x) * v


class Worker(NamedTuple):
    """A worker's rows and its weight p_m in the average."""

    number: int  # global id
    a: Array
    y: Array
    weight: float


class Sampling(NamedTuple):
    seed: int
    batch: int | str  # samples per step, or "all"
    reshuffle: bool = False

    def gradient(self, model: Model, worker: Worker, x: Array, step: int, steps: int = 1) -> Array:
        """The mean of ∇ℓ_i over the samples of `steps` steps from `step` on, without l2."""
        picks: Sequence[int] = range(len(worker.y))
        if self.batch != "all":
            batch = int(self.batch)
            numbers = range(step * batch, (step + steps) * batch)
            picks = [draw(self.seed, worker.number, k, len(worker.y), self.reshuffle) for k in numbers]
        return np.sum([row_gradient(model, worker.a[i], worker.y[i], x) for i in picks], axis=0) / len(picks)


def local_steps(
    model: Model,
    worker: Worker,
    sampling: Sampling,
    x: Array,
    etas: Sequence[float],
    first: int,
    shift: Array | float = 0.0,
    visit: Callable[[int, Array], None] = lambda t, x: None,
) -> tuple[Array, Array]:
    """x ← x − η_t g_t, g_t = ∇f(x; ξ_t) + λ x + s, for t = first, first + 1, …; return x and Σ_t g_t.

    `visit` sees the iterate before each step.
    """
    total = np.zeros_like(x)
    for t, eta in enumerate(etas, first):
        visit(t, x)
        g = sampling.gradient(model, worker, x, t) + penalty(model, x) * x + shift
        x, total = x - eta * g, total + g
    return x, total


# Methods: each yields what is known after every round, from round 0 on.


class Plan(NamedTuple):
    """A method's schedule: round r covers the steps bounds[r] ≤ t < bounds[r + 1]."""

    bounds: Sequence[int]
    eta: Callable[[int], float]
    server: float = 1.0
    inner: float | None = None


class Visit(NamedTuple):
    """Σ_m p_m x_m before step t."""

    t: int
    x: Array


class Round(NamedTuple):
    """What is known after a round."""

    x: Array  # x̄
    consensus: float  # Σ_m p_m ‖x_m − Σ p x‖² before the averaging
    visits: list[Visit]  # all so far


def average_of(visits: Sequence[Visit], weight: Callable[[int], float], last: Array) -> Array:
    """x̂ = (1/S) Σ_t w_t x̄_t over the steps so far; the last iterate where all weights are 0."""
    total = math.fsum(weight(t) for t in {t for t, _ in visits})
    return np.sum([weight(t) * x for t, x in visits], axis=0) / total if total else last


def local_sgd(model: Model, workers: Sequence[Worker], sampling: Sampling, plan: Plan, x0: Array) -> Iterator[Round]:
    """Stich (2019), Algorithm 1; with inner and outer step sizes Woodworth et al. (2020)."""
    x, visits = x0, list[Visit]()
    yield Round(x, 0.0, [])
    for first, last in zip(plan.bounds, plan.bounds[1:], strict=False):
        ends, sums = [], []
        for m in workers:

            def visit(t: int, at: Array, m: Worker = m) -> None:
                visits.append(Visit(t, m.weight * at))

            etas = [plan.eta(t) if plan.inner is None else plan.inner for t in range(first, last)]
            end, gradients = local_steps(model, m, sampling, x, etas, first, visit=visit)
            ends.append(end)
            sums.append(gradients)
        p = [m.weight for m in workers]
        drift = math.fsum(w * float(np.sum((end - mean(ends, p)) ** 2)) for w, end in zip(p, ends, strict=True))
        if plan.inner is not None:
            x = x - plan.eta(first) * mean(sums, p)
        elif plan.server != 1:
            x = x + plan.server * (mean(ends, p) - x)
        else:
            x = mean(ends, p)
        yield Round(x, drift, visits)


def one_step_rounds(
    model: Model, workers: Sequence[Worker], sampling: Sampling, plan: Plan, x0: Array, idle: bool
) -> Iterator[Round]:
    """x ← x − η_r (Σ p_m g_m + λ x), g_m the mean over H·b samples: minibatch SGD; over b: thumb-twiddling (`idle`)."""
    x, visits = x0, list[Visit]()
    yield Round(x, 0.0, [])
    for r, (first, last) in enumerate(zip(plan.bounds, plan.bounds[1:], strict=False)):
        visits.append(Visit(r, x))
        step, steps = (r, 1) if idle else (first, last - first)
        g = np.sum([m.weight * sampling.gradient(model, m, x, step, steps) for m in workers], axis=0)
        x = x - plan.eta(r) * (g + penalty(model, x) * x)
        yield Round(x, 0.0, visits)


def mean(rows: Sequence[Array], weights: Sequence[float]) -> Array:
    """Σ w_m x_m / Σ w, each coordinate summed without rounding."""
    stacked = np.array(rows, np.float64)
    flat = stacked.reshape(len(stacked), -1)
    sums = [math.fsum(w * v for w, v in zip(weights, column, strict=True)) for column in flat.T]
    return np.array(sums).reshape(stacked.shape[1:]) / math.fsum(weights)
