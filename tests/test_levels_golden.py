"""What Wang et al. (2022) say of H-SGD, on heterogeneous quadratics; and hierarchies that must be equal, bit for bit.

Worker j has F_j(w) = ½ wᵀA_j w − b_jᵀw, d rows of the squared loss: between averagings a group's map is affine, and its
powers are the run in closed form.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import helpers
import naive_levels
import numpy as np
import pytest
from helpers import Table
from naive_levels import Cascade
from numpy.typing import NDArray

import mpilocal
from mpilocal.tree.draw import shuffled

Array = NDArray[np.float64]
Groups = Sequence[Sequence[int]]
N, D, LOCAL, GLOBAL = 10, 10, 5, 50  # workers, dimension, I, G


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
        x = np.sqrt(D) * np.concatenate(np.swapaxes(lower, 1, 2))
        y = np.sqrt(D) * np.concatenate([np.linalg.solve(one, b) for one, b in zip(lower, self.b, strict=True)])
        np.savez(path, x=np.ascontiguousarray(x), y=y)
        return str(path)


def quadratics(seed: int = 1, least: float = 1.0) -> Quadratics:
    """A_j = Qᵀ Q/d + `least` with Q and b_j standard normal."""
    rng = np.random.default_rng(seed)
    q = rng.standard_normal((N, D, D))
    return Quadratics(np.swapaxes(q, 1, 2) @ q / D + least * np.eye(D), rng.standard_normal((N, D)))


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
    p, q = np.zeros((D, D)), np.zeros(D)
    for group in groups:
        mean = np.zeros((D + 1, D + 1))
        for j in group:
            one = np.eye(D + 1)
            one[:D, :D] -= step * law.a[j]
            one[:D, D] = step * law.b[j]
            mean += np.linalg.matrix_power(one, LOCAL) / len(group)
        whole = np.linalg.matrix_power(mean, GLOBAL // LOCAL) * len(group) / N
        p, q = p + whole[:D, :D], q + whole[:D, D]
    return p, q


def after(law: Quadratics, step: float, groups: Groups, cycles: int) -> Array:
    """w̄ after so many global periods from 0."""
    (p, q), w = cycle(law, step, groups), np.zeros(D)
    for _ in range(cycles):
        w = p @ w + q
    return w


def stationary(law: Quadratics, step: float, groups: Groups) -> float:
    """‖∇f(w̄)‖² where w̄ no longer moves."""
    p, q = cycle(law, step, groups)
    return float(np.sum(law.gradients(np.linalg.solve(np.eye(D) - p, q)).mean(axis=0) ** 2))


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


def test_one_group_and_single_workers_are_local_sgd(tmp_path: Path) -> None:
    """N = 1 is P = I, N = n is P = G, bit for bit; every form of grouping is its affine map."""
    law = quadratics()
    source, step = law.save(tmp_path / "quadratics.npz"), 0.2 / (law.smoothness * GLOBAL)
    rounds = 40 * GLOBAL // LOCAL
    often, seldom = run(source, step, rounds, world(1)), run(source, step, rounds, world(10))
    for group in (N, {"random": N}, {"sizes": [N]}, "node", "world"):
        same_bits(run(source, step, rounds, two_levels(group)), often)
    for group in (1, {"random": 1}, {"sizes": [1] * N}):
        same_bits(run(source, step, rounds, two_levels(group)), seldom)
    for result, groups in ((often, ONE), (seldom, SINGLE)):
        np.testing.assert_allclose(result.average, after(law, step, groups, 40), rtol=0, atol=1e-12)
    assert often.average.tobytes() != seldom.average.tobytes()


def test_stationary_gradients_of_groupings(tmp_path: Path) -> None:
    """I = 5, G = 50, γ = 0.2/(L_max G): twenty groupings each, beside a simulation whose law is not told.

    This law has its numbers without groups. A grouping may be worse than none: only the bounds are in order.
    """
    law = quadratics(seed=3, least=0.1)
    source, step = law.save(tmp_path / "quadratics.npz"), 0.2 / (law.smoothness * GLOBAL)
    least, most = stationary(law, step, ONE), stationary(law, step, SINGLE)
    print(f"\nP = {LOCAL}: {least:.2e}")
    assert least == pytest.approx(2.6e-6, rel=0.05) and most == pytest.approx(3.85e-4, rel=0.05)
    for count, told in ((2, 6.3e-5), (5, 3.6e-4)):
        found = []
        for seed in range(1, 21):
            groups = drawn(N // count, seed)
            result = run(source, step, 100, two_levels({"random": N // count, "redraw": "once"}), seed)
            np.testing.assert_allclose(result.average, after(law, step, groups, 10), rtol=0, atol=1e-12)
            found.append(stationary(law, step, groups))
        print(f"N = {count}: mean {np.mean(found):.2e} ({min(found):.1e} to {max(found):.1e})")
        assert len(set(found)) > 10
        assert 0.6 * told < np.mean(found) < 1.4 * told and min(found) < told < max(found)
    print(f"P = {GLOBAL}: {most:.2e}")
    assert 140 < most / least < 155  # the bias of w̄ grows as P − 1: (49/4)² = 150, less what is of higher order in γ


def divergences(gradients: Array, levels: Sequence[Groups]) -> list[float]:
    """Of nested levels from the world down to single workers: (1/n) Σ_j ‖∇f_group − ∇f_parent‖² over j's groups."""
    means = []
    for groups in levels:
        rows = np.empty_like(gradients)
        for group in groups:
            rows[list(group)] = gradients[list(group)].mean(axis=0)
        means.append(rows)
    return [float(np.sum((inner - outer) ** 2)) / len(gradients) for outer, inner in itertools.pairwise(means)]


def test_divergences_add_up() -> None:
    """Upward and downward divergence are the global one, for every nesting; so do the expectations over random ones.

    E D_l = (n_l − n_{l−1})/(n − 1) of the global divergence, n_l groups at level l, within five standard errors.
    """
    workers, draws = 12, 3000
    gradients = np.random.default_rng(3).standard_normal((workers, 7))
    whole = float(np.sum((gradients - gradients.mean(axis=0)) ** 2)) / workers
    tables = [{"group": {"random": 2}, "period": 1}, {"group": {"random": 6}, "period": 1}, *world(1)]

    def shuffle(atoms: int, level: int, parent: int, draw: int) -> list[int]:
        return [int(atom) for atom in shuffled(atoms, 11, level, parent, draw)]

    found = []
    for r in range(draws):
        levels = naive_levels.groups_at(Cascade(tables, workers, shuffle), r)
        groups = [[one.members for one in level] for level in levels]
        found.append(divergences(gradients, [*groups[::-1], [[m] for m in range(workers)]]))
        assert abs(sum(found[-1]) - whole) < 1e-13 * whole * workers
    counts = [1, 2, 6, 12]
    want = [(fine - coarse) / (workers - 1) * whole for coarse, fine in itertools.pairwise(counts)]
    error = np.std(found, axis=0) / np.sqrt(draws)
    assert np.all(np.abs(np.mean(found, axis=0) - want) < 5 * error)
    assert np.all(error < 0.02 * whole)


def bound(law: Quadratics, step: float, steps: int, terms: Sequence[tuple[float, int]]) -> float:
    """Theorem 1 without noise: 2 (f(0) − f*)/(γT) + 3Cγ² Σ P² ε², C = 40 L²/3."""
    drift = 40 * law.smoothness**2 * step**2 * sum(period**2 * divergence for divergence, period in terms)
    return 2 * law.gap() / (step * steps) + drift


def test_the_bounds_are_in_order(tmp_path: Path) -> None:
    """(1/T) Σ ‖∇f(w̄^t)‖² is below its bound, and bound(P = I) ≤ bound(H-SGD) ≤ bound(P = G).

    γ ≤ 1/(2√6 G L); the divergences are the largest on the way.
    """
    law, steps = quadratics(), 600
    source, step = law.save(tmp_path / "quadratics.npz"), 0.2 / (law.smoothness * GLOBAL)
    assert step <= 1 / (2 * np.sqrt(6) * GLOBAL * law.smoothness)
    grouped = [[list(range(k, k + size)) for k in range(0, N, size)] for size in (5, 2)]
    forms = [
        (ONE, world(LOCAL)),
        *((g, two_levels(len(g[0]), LOCAL, GLOBAL)) for g in grouped),
        (SINGLE, world(GLOBAL)),
    ]
    measured, ways = [], []
    for place, (_, levels) in enumerate(forms):
        out = tmp_path / f"run-{place}"
        result = run(source, step, steps, levels, output=out, local_steps=1)
        with h5py.File(out / "iterates.h5", "r", locking=False) as file:
            way = file["x"][:-1]
        norms = [np.sum(law.gradients(w).mean(axis=0) ** 2) for w in way]
        np.testing.assert_allclose(result.history["gradient_norm"][:-1] ** 2, norms, rtol=1e-12)
        measured.append(float(np.mean(norms)))
        ways.append(way)
    bounds = []
    for groups, _ in forms:
        nested = [ONE, groups, SINGLE]
        upward, downward = np.max([divergences(law.gradients(w), nested) for way in ways for w in way], axis=0)
        bounds.append(bound(law, step, steps, [(upward, GLOBAL), (downward, LOCAL)]))
    assert min(bounds[1:]) > bounds[0] and max(bounds[:-1]) < bounds[-1]
    assert all(0.02 * most < least < most for least, most in zip(measured, bounds, strict=True))


# Levels that must be equal to others, bit for bit: (three or more levels, two or fewer).
EQUAL: dict[str, tuple[list[Any], list[Any]]] = {
    "N3-one": ([(2, 1), ("world", 2), ("world", 4)], [(2, 1), ("world", 2)]),
    "N2-one": ([(2, 1), (2, 2), ("world", 4)], [(2, 1), ("world", 4)]),
    "N1-all": ([(1, 1), (2, 2), ("world", 4)], [(2, 2), ("world", 4)]),
    "P2-P3": ([(2, 1), (6, 4), ("world", 4)], [(2, 1), ("world", 4)]),
    "P1-P2": ([(2, 2), (6, 2), ("world", 4)], [(6, 2), ("world", 4)]),
    "P1-P2-P3": ([(2, 2), (6, 2), ("world", 2)], [("world", 2)]),
    "sizes": ([({"sizes": [4, 4, 4]}, [2, 2, 2]), ("world", 4)], [(4, 2), ("world", 4)]),
    "random-whole": ([({"random": 6}, 1), (6, 2), ("world", 4)], [(6, 1), ("world", 4)]),
    "random-atoms": ([(4, 1), ({"random": 4}, 2), ("world", 4)], [(4, 1), ("world", 4)]),
    "random-P": ([({"random": 4}, 3), ("world", 3)], [("world", 3)]),
    "one-draw": ([({"random": 4}, 2), ("world", 8)], [({"random": 4, "redraw": "once"}, 2), ("world", 8)]),
}


@pytest.mark.parallel([1, 3])
def test_equal_levels_have_equal_bits() -> None:
    from mpi4py import MPI

    for place, (name, pair) in enumerate(EQUAL.items()):
        problem, method = (("dense-logistic", "local-gd"), ("sparse-logistic", "local-sgd"))[place % 2]
        results = []
        for pairs in pair:
            table = helpers.config(problem, method, workers={"count": 12}, algorithm={"rounds": 8})
            levels = [{"group": group, "period": period} for group, period in pairs]
            results.append(mpilocal.run({**table, "levels": levels}, comm=MPI.COMM_WORLD))
        same_bits(*results)
        assert vectors(results[0]) == vectors(results[1]), name


def test_groups_above_one_limb_have_the_bits_of_the_world() -> None:
    """More workers than one limb carries are averaged by another sum."""
    data = {"source": "synthetic:classification", "options": {"rows": 150, "features": 4, "density": 0.6}}
    for count in (64, 65, 70):
        results = []
        for tables in (two_levels(count, 1, 4), two_levels({"random": count}, 1, 4), world(1)):
            table = helpers.config("sparse-logistic", "local-sgd", data=data, workers={"count": count})
            results.append(mpilocal.run({**table, "levels": tables}))
        same_bits(results[0], results[1])
        assert results[0].average.tobytes() == results[2].average.tobytes()
