"""F*, given or solved for once, and what is certified of it.

For l2 > 0 and a convex loss the solved point x̂ also gives a lower bound. With rows weighted c_i,
F(x) = Σ c_i ℓ_i(⟨a_i, x⟩) + (l2/2)‖x‖² has the Fenchel dual

    D(u) = −Σ c_i ℓ_i*(u_i) − ‖Σ c_i u_i a_i‖²/(2 l2) ≤ F*.

At u_i = ℓ_i'(ẑ_i), ẑ_i = ⟨a_i, x̂⟩, Fenchel-Young is an equality, ℓ_i*(u_i) = u_i ẑ_i − ℓ_i(ẑ_i), and with
s = Σ c_i u_i a_i = ∇F(x̂) − l2 x̂, Σ c_i u_i ẑ_i = ⟨s, x̂⟩:

    D̂ = Σ c_i ℓ_i(ẑ_i) − ⟨s, x̂⟩ − ‖s‖²/(2 l2) = F(x̂) − ‖s + l2 x̂‖²/(2 l2) = F̂ − ‖∇F(x̂)‖²/(2 l2).

So F − F̂ ≤ F − F* ≤ F − D̂, up to the rounding of F. A softmax row has a vector of scores, and the same holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpilocal.errors import DataError, agreed
from mpilocal.kernels.scalar import Loss
from mpilocal.optimum import cache
from mpilocal.optimum import solve as optimum_solve
from mpilocal.optimum.cache import Entry
from mpilocal.optimum.search import in_double
from mpilocal.optimum.solve import TARGET
from mpilocal.prepare import Prepared
from mpilocal.problem import Problem

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

SAME = 1e-12  # relative difference of F̂ between two orders of summation, at most


class Optimum(NamedTuple):
    """What is known of the least value of F."""

    value: float = math.nan  # F̂ ≥ F*, or F* as it was given; nan: not known
    dual: float = math.nan  # D̂ ≤ F*; nan: not known
    gradient_norm: float = math.nan  # ‖∇F(x̂)‖; nan where F* was given
    attained: bool = True  # False: the infimum lies at infinity
    note: str = ""

    def facts(self) -> dict[str, Any]:
        """Return what config.toml keeps."""
        if math.isnan(self.value):
            return {}
        found: dict[str, Any] = {"optimum": self.value}
        if not math.isnan(self.dual):
            found["optimum_dual"] = self.dual
        if not math.isnan(self.gradient_norm):
            found["optimum_gradient_norm"] = self.gradient_norm
            found["optimum_attained"] = self.attained
        if self.note:
            found["optimum_note"] = self.note
        return found


def of_run(recorded: Mapping[str, Any]) -> Optimum | None:
    """Return what a run's config.toml keeps of its optimum, or None: a resumed run goes on with the same."""
    if "optimum" not in recorded:
        return None
    return Optimum(
        float(recorded["optimum"]),
        float(recorded.get("optimum_dual", math.nan)),
        float(recorded.get("optimum_gradient_norm", math.nan)),
        bool(recorded.get("optimum_attained", True)),
        str(recorded.get("optimum_note", "")),
    )


def find(
    made: Prepared, comm: Intracomm, warn: Callable[[str], None], stopping: Callable[[], bool] = lambda: False
) -> tuple[Optimum, NDArray[np.float64] | None]:
    """Return F* of a run: none, the given number, or the kept or newly solved one; collective, the same on all ranks.

    With it comes x̂ (dim,) where it was solved for, else None; where F* is not attained, the last point on the way.

    `stopping` tells root that the job is to stop: then StoppedError.
    A float32 run is solved in float64, on its data as rounded to float32.
    """
    wanted = made.config.problem.optimum
    if wanted != "auto":
        return (Optimum() if wanted is None else Optimum(float(wanted))), None
    problem = made.problem if made.problem.dtype == np.float64 else in_double(made.problem)
    of = cache.key(made, comm)
    entry, point = _kept(problem, of, comm) or _solved(problem, of, comm, warn, stopping)
    dual = math.nan if entry.dual is None else entry.dual
    value = entry.value if math.isfinite(entry.value) else math.nan
    found = Optimum(value, dual, entry.gradient_norm, entry.attained, entry.note)
    doubtful = not found.attained or not found.gradient_norm <= TARGET or math.isnan(value)
    if comm.rank == 0 and doubtful:
        warn(f'problem.optimum = "auto": {found.note}')
    return found, point


def loose_bound(gradient_norm: float, l2: float) -> float:
    """Return ‖∇F(x)‖²/(2 l2) ≥ F(x) − F*: true for convex losses without an intercept, infinite for l2 = 0.

    It is loose, about 100 times on w8a with l2 = 1/n: only where F is flattest does it hold with equality.
    """
    return gradient_norm**2 / (2 * l2) if l2 > 0 else math.inf


def convexity(problem: Problem) -> float:
    """Return a µ for which F is known to be µ-strongly convex, 0 if there is none."""
    if problem.intercept or problem.loss == Loss.CUSTOM:
        return 0.0
    return problem.convexity


def _kept(problem: Problem, of: dict[str, Any], comm: Intracomm) -> tuple[Entry, NDArray[np.float64] | None] | None:
    """Return the optimum and its point from the disk if one evaluation confirms it; collective."""
    held, point = None, np.empty(problem.dim)
    with agreed(comm):
        if comm.rank == 0:
            held = cache.read(of)
    entry: Entry | None = comm.bcast(held[0] if held is not None else None)
    if entry is not None and entry.point:
        if held is not None and held[1] is not None:
            point = held[1]
        comm.Bcast(point)
        value = problem.evaluate(point)
        # F at the kept point of separable data is tiny, or 0, where the entry says 0.
        near = abs(value.objective - entry.value) <= SAME * max(1.0, abs(entry.value))
        if not near or not value.gradient_norm <= 2 * entry.gradient_norm + TARGET:
            return None
    return None if entry is None else (entry, point if entry.point else None)


def _solved(
    problem: Problem, of: dict[str, Any], comm: Intracomm, warn: Callable[[str], None], stopping: Callable[[], bool]
) -> tuple[Entry, NDArray[np.float64] | None]:
    """Solve, certify and keep; collective."""
    solution = optimum_solve.solve(problem, comm, stopping)
    entry: Entry | None = None
    if solution is not None:
        dual, note = _certified(problem, solution)
        entry = Entry(
            of=of,
            value=solution.value,
            dual=dual,
            gradient_norm=solution.gradient_norm,
            attained=solution.attained,
            note="; ".join(part for part in (solution.note, note) if part),
            gradients=solution.gradients,
            products=solution.products,
            point="",
        )
        if math.isfinite(solution.value):
            try:
                cache.write(entry, solution.x)
            except DataError as error:
                warn(f"the optimum is not kept for later runs: {error}")
    entry, point = comm.bcast((entry, None if solution is None or not np.isfinite(solution.x).all() else solution.x))
    assert entry is not None
    return entry, point


def _certified(problem: Problem, solution: optimum_solve.Solution) -> tuple[float | None, str]:
    """Return (D̂ or None, what is to be said of it)."""
    if solution.separated:
        return 0.0, ""
    if not math.isfinite(solution.value):
        return None, ""
    mu = convexity(problem)
    if mu > 0:
        return solution.value - solution.gradient_norm**2 / (2 * mu), ""
    if problem.loss == Loss.CUSTOM:
        return None, "only an upper bound of F* is known, and that a minimum only if the loss is convex"
    if problem.intercept and problem.l2 > 0:
        return None, "only an upper bound of F* is known: the intercept is not regularised"
    return None, "only an upper bound of F* is known: l2 = 0"
