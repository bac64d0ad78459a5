"""Minimising F: SciPy on root drives, all ranks compute each gradient and Hessian product together.

First a trust region (Steihaug's CG; Nocedal and Wright, Numerical Optimization, 2nd ed., section 7.1), then Newton
steps that lower ‖∇F‖ until 1e-10.

All in float64, also for a float32 run: F* is then that of the data rounded to float32.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mpilocal.errors import agree
from mpilocal.kernels.scalar import Loss
from mpilocal.optimum.search import FLAT, VANISHING, Search, Separated, Spent, Vector, length_of
from mpilocal.problem import Problem, Value

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

TARGET = 1e-10  # ‖∇F‖
LONG = 10_000  # coordinates from which BLAS may share a dot product among threads


class Solution(NamedTuple):
    """Where the solver ended."""

    x: Vector  # (dim,)
    value: float  # F(x), or the infimum 0 of separable data; −inf: unbounded below
    gradient_norm: float
    attained: bool  # no sign that the infimum is reached only at infinity
    note: str
    gradients: int  # evaluations of F and ∇F
    products: int  # Hessian products
    separated: bool = False  # F* = 0 is known from separable data


def solve(problem: Problem, comm: Intracomm, stopping: Callable[[], bool] = lambda: False) -> Solution | None:
    """Minimise F of a float64 problem; collective. Returns the solution on root, None elsewhere.

    Raises:
        StoppedError: `stopping()` became true on root; raised on all ranks.
    """
    search = Search(problem, comm, stopping)
    found: Solution | None = None
    failure: Exception | None = None
    if comm.rank > 0:
        search.serve()
    else:
        try:
            with np.errstate(all="ignore"), _one_thread(problem.dim):
                found = _minimise(search)
        except Exception as error:
            failure = error
        finally:
            search.end()
    agree(comm, failure)
    return found


def _minimise(search: Search) -> Solution:
    problem = search.problem
    x = np.zeros(problem.dim)
    note, attained = "", True
    try:
        value = search.evaluate(x)
        if problem.loss == Loss.LINEAR:
            x, value = _quadratic(search, value)
        else:
            if problem.loss == Loss.CUSTOM and _curveless(search, x, value.gradient):
                search.differences = True
                note = "the loss has no curvature(z, y, one): differences of its slope took the place; "
            if problem.l2 == 0 and problem.loss in FLAT:
                _separate(search, x)
            # The second turn is for where Newton's method alone does not get on.
            norm = length_of(search.scale * value.gradient)
            for goal in (1e-5 * norm, 1e-12 * norm):
                x, value = _polish(search, *_descend(search, x, value, goal))
                if value.gradient_norm <= TARGET:
                    break
        if problem.l2 == 0 and problem.loss in VANISHING and (bound := _recession(search, x, value)) > 0:
            attained = False
            note = (
                "some rows can be separated from the rest, so the minimum is not attained: inf F lies below the value "
                f"by about {bound:.1e}; "
            )
    except Separated as found:
        attained = problem.loss not in VANISHING
        note = "the data are separable: " + ("F = 0 is attained" if attained else "inf F = 0 is not attained")
        norm = found.value.gradient_norm
        return Solution(found.x, 0.0, norm, attained, note, search.gradients, search.products, separated=True)
    except Spent:
        note += f"the solver stopped after {search.products} Hessian products; "
        x, value = search.best if search.best is not None else (x, search.evaluate(x))
    if value.objective == -math.inf:
        note = "F is unbounded below; "
    elif not value.gradient_norm <= TARGET:
        note += f"‖∇F‖ = {value.gradient_norm:.1e} was reached instead of {TARGET:.0e}; "
    return Solution(
        x, value.objective, value.gradient_norm, attained, note.removesuffix("; "), search.gradients, search.products
    )


def _separate(search: Search, x: Vector) -> None:
    """Find out with the logistic loss whether the rows are separable: it tells sooner, being curved everywhere."""
    loss = search.problem.loss
    search.change(Loss.LOGISTIC)
    value = search.evaluate(x)
    with suppress(Spent):
        _descend(search, x, value, 1e-5 * length_of(search.scale * value.gradient))
    search.change(loss)


def _descend(search: Search, x: Vector, value: Value, goal: float) -> tuple[Vector, Value]:
    """Lower F in a trust region, with x = s∘u, until ‖s∘∇F‖ ≤ goal or F stands still."""
    from scipy.optimize import minimize

    u, gradient = x / search.scale, search.scale * value.gradient
    norm = length_of(gradient)
    if norm <= goal:
        return x, value
    # The first radius is the way to the minimum along −∇F: ‖g‖³ / gᵀHg.
    curve = float(np.sum(gradient * search.scaled_product(u, gradient)))
    radius = norm**3 / curve if curve > 0 else 1.0
    least, still = value.objective, 0

    def halt(intermediate_result: Any) -> None:
        nonlocal least, still
        still = 0 if intermediate_result.fun < least - 1e-14 * abs(least) else still + 1
        least = min(least, intermediate_result.fun)
        if still > 15:
            raise StopIteration

    options = {
        "gtol": goal,
        "maxiter": 500,
        "initial_trust_radius": min(max(radius, 1e-100), 1e100),
        "max_trust_radius": math.inf,
    }
    found = minimize(
        search.scaled, u, jac=True, hessp=search.scaled_product, method="trust-ncg", callback=halt, options=options
    )
    return (x := search.scale * found.x), search.evaluate(x)


def _polish(search: Search, x: Vector, value: Value) -> tuple[Vector, Value]:
    """Take Newton steps, each as long as it lowers ‖∇F‖, until the target and a narrow certificate, or no decrease."""
    first = value.gradient_norm
    # F̂ − D̂ = ‖∇F‖²/(2 l2) below the rounding of F̂, where it comes cheaply.
    goal = TARGET
    if search.problem.l2 > 0:
        goal = max(1e-13, min(TARGET, math.sqrt(2e-16 * search.problem.l2 * abs(value.objective))))
    still = 0
    while value.gradient_norm > goal and still < 3:
        norm = value.gradient_norm
        step = search.newton(x, value.gradient, max(0.1 * goal / norm, min(0.1, math.sqrt(norm / first))))
        length = 1.0
        while length > 1e-4:
            there = search.evaluate(x + length * step)
            if there.gradient_norm < norm:
                x, value = x + length * step, there
                break
            length /= 2
        else:
            break
        still = still + 1 if value.gradient_norm > 0.9 * norm else 0
    return x, value


def _recession(search: Search, x: Vector, value: Value) -> float:
    """Return about F(x) − inf F where the infimum lies at infinity, else 0.

    Where rows with Σ c_i ℓ_i = S can be separated for ever further, ℓ ≈ e^−m there: a Newton step raises their margins
    by one, which shrinks ∇F by e, and gᵀH⁻¹g = S. At a minimum that is attained the steps converge instead.
    """
    rest = 0.0
    for _ in range(2):
        if value.gradient_norm == 0:
            return 0.0
        step = search.newton(x, value.gradient, 1e-3)
        there = search.evaluate(x + step)
        if not 0.2 < there.gradient_norm / value.gradient_norm < 0.6:
            return 0.0
        rest = max(rest, -float(np.sum(step * value.gradient)))
        x, value = x + step, there
    return rest


def _quadratic(search: Search, value: Value) -> tuple[Vector, Value]:
    """Return the minimum of ½ Σ h_j x_j² − ⟨b, x⟩: ∇²F is diagonal, so h = ∇²F·1 and x = b/h, of the sign of b."""
    curve = search.product(-value.gradient, np.ones(search.problem.dim))
    flat = curve == 0
    if value.gradient[flat].any():
        return np.zeros_like(curve), value._replace(objective=-math.inf)
    x = -value.gradient / np.where(flat, 1.0, curve)
    return x, search.evaluate(x)


def _curveless(search: Search, x: Vector, gradient: Vector) -> bool:
    """Return whether the rows add nothing to ∇²F: a user's loss without `curvature`."""
    ridge = np.where(search.problem.penalised, search.problem.l2, 0.0)
    return bool(np.array_equal(search.product(x, gradient), ridge * gradient))


def _one_thread(dim: int) -> AbstractContextManager[Any]:
    """Keep BLAS, where it may share long dot products, to one thread: their bits depend on the threads."""
    if dim < LONG:
        return nullcontext()
    try:
        limits: AbstractContextManager[Any] = importlib.import_module("threadpoolctl").threadpool_limits(1, "blas")
    except ImportError:
        return nullcontext()
    return limits
