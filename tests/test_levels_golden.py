"""What Wang et al. (2022) say of H-SGD, on heterogeneous quadratics; and levels that must be equal, bit for bit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import helpers
import naive_levels
import numpy as np
import pytest
from levels_helpers import (
    GLOBAL,
    LOCAL,
    ONE,
    SINGLE,
    Array,
    Groups,
    N,
    Quadratics,
    after,
    quadratics,
    run,
    same_bits,
    two_levels,
    vectors,
    world,
)
from naive_levels import Cascade

import mpilocal
from mpilocal.tree.draw import shuffled


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
