"""Heterogeneous quadratics for hierarchies: worker j has F_j(w) = ½ wᵀA_j w − b_jᵀw, d rows of the squared loss.

Between averagings a group's map is affine, and its powers are the run in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import naive_levels
import numpy as np
from helpers import Table
from naive_levels import Cascade
from numpy.typing import NDArray

import mpilocal
from mpilocal.tree.draw import shuffled

Array = NDArray[np.float64]
Groups = Sequence[Sequence[int]]
N, LOCAL, GLOBAL = 10, 5, 50  # workers, I, G


class Quadratics(NamedTuple):
    a: Array  # A_j (workers, d, d)
    b: Array  # b_j (workers, d)

    @property
    def smoothness(self) -> float:
        """The largest curvature of any F_j."""
        return float(max(np.linalg.eigvalsh(a)[-1] for a in self.a))

    def gradients(self, w: NDArray[Any]) -> Array:
        """∇F_j(w) (workers, d)."""
        return self.a @ w - self.b

    def gap(self) -> float:
        """f(0) − f*."""
        b = self.b.mean(axis=0)
        return 0.5 * float(b @ np.linalg.solve(self.a.mean(axis=0), b))

    def save(self, path: Path) -> str:
        """Write d rows a worker: √d Lᵀ with A = L Lᵀ, and labels √d L⁻¹ b."""
        lower = np.linalg.cholesky(self.a)
        d = self.b.shape[1]
        x = np.sqrt(d) * np.concatenate(np.swapaxes(lower, 1, 2))
        y = np.sqrt(d) * np.concatenate([np.linalg.solve(one, b) for one, b in zip(lower, self.b, strict=True)])
        np.savez(path, x=np.ascontiguousarray(x), y=y)
        return str(path)


def quadratics(seed: int = 1, least: float = 1.0, dim: int = 10) -> Quadratics:
    """A_j = Qᵀ Q/d + `least` with Q and b_j standard normal."""
    rng = np.random.default_rng(seed)
    q = rng.standard_normal((N, dim, dim))
    return Quadratics(np.swapaxes(q, 1, 2) @ q / dim + least * np.eye(dim), rng.standard_normal((N, dim)))


def run(
    source: str,
    step: float,
    rounds: int,
    levels: list[Table],
    seed: int = 1,
    local_steps: int = LOCAL,
    output: Path | None = None,
) -> mpilocal.api.Result:
    options = {"rounds": rounds, "local_steps": local_steps, "batch": "all", "step_size": step}
    table = {"data": {"source": source}, "problem": {"loss": "squared"}, "workers": {"count": N}, "levels": levels}
    out = {"iterates": output is not None}
    return mpilocal.run(
        {**table, "algorithm": options, "run": {"seed": seed, "threads": 1}, "output": out}, output=output
    )


def two_levels(group: Any, local: int = 1, globe: int = GLOBAL // LOCAL) -> list[Table]:
    return [{"group": group, "period": local}, {"group": "world", "period": globe}]


def world(period: int) -> list[Table]:
    return [{"group": "world", "period": period}]


def drawn(size: int, seed: int) -> Groups:
    """The groups of { random = size, redraw = "once" } under this seed."""

    def shuffle(atoms: int, level: int, parent: int, draw: int) -> list[int]:
        return [int(atom) for atom in shuffled(atoms, seed, level, parent, draw)]

    tables = two_levels({"random": size, "redraw": "once"})
    return [group.members for group in naive_levels.groups_at(Cascade(tables, N, shuffle), 0)[0]]


def cycle(law: Quadratics, step: float, groups: Groups) -> tuple[Array, Array]:
    """P, q of one global period: w̄ ← P w̄ + q, every group averaging each I steps."""
    d = law.b.shape[1]
    p, q = np.zeros((d, d)), np.zeros(d)
    for group in groups:
        mean = np.zeros((d + 1, d + 1))
        for j in group:
            one = np.eye(d + 1)
            one[:d, :d] -= step * law.a[j]
            one[:d, d] = step * law.b[j]
            mean += np.linalg.matrix_power(one, LOCAL) / len(group)
        whole = np.linalg.matrix_power(mean, GLOBAL // LOCAL) * len(group) / N
        p, q = p + whole[:d, :d], q + whole[:d, d]
    return p, q


def after(law: Quadratics, step: float, groups: Groups, cycles: int) -> Array:
    """w̄ after so many global periods from 0."""
    (p, q), w = cycle(law, step, groups), np.zeros(law.b.shape[1])
    for _ in range(cycles):
        w = p @ w + q
    return w


def stationary(law: Quadratics, step: float, groups: Groups) -> float:
    """‖∇f(w̄)‖² where w̄ no longer moves."""
    p, q = cycle(law, step, groups)
    return float(np.sum(law.gradients(np.linalg.solve(np.eye(len(q)) - p, q)).mean(axis=0) ** 2))


def same_bits(one: mpilocal.api.Result, other: mpilocal.api.Result) -> None:
    """x̄ and the history but for the seconds and what is counted per level."""
    assert one.average.tobytes() == other.average.tobytes()
    for name in (name for name in one.history if not name.startswith(("timings/", "level"))):
        assert one.history[name].tobytes() == other.history[name].tobytes(), name


def vectors(result: mpilocal.api.Result) -> list[int]:
    """Vectors sent after every round, over all levels."""
    columns = [column for name, column in result.history.items() if name.endswith("/vectors")]
    return [int(total) for total in np.sum(columns, axis=0)]


ONE, SINGLE = [list(range(N))], [[j] for j in range(N)]
