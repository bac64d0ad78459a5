"""Accelerated methods on a tree of groups: each averaging is of both sequences."""

from __future__ import annotations

import itertools
from typing import Any

import helpers
import naive
import naive_levels
import naive_methods
import numpy as np
import pytest
from naive_levels import Cascade
from numpy.typing import NDArray

import mpilocal

WORKERS = 6
LEVELS: dict[str, list[dict[str, Any]]] = {
    "two": [{"group": 2, "period": 1}, {"group": "world", "period": 4}],
    "unequal": [{"group": {"sizes": [1, 5]}, "period": [1, 2]}, {"group": "world", "period": 4}],
    "three": [{"group": 2, "period": 1}, {"group": {"sizes": [4, 2]}, "period": 2}, {"group": "world", "period": 6}],
    "no world": [{"group": 3, "period": 2}],
}


def by_hand(table: dict[str, Any], levels: list[dict[str, Any]]) -> NDArray[np.float64]:
    """x̄ after the last round, of the sequence that is judged."""
    spec, options = helpers.specify(table), table["algorithm"]
    sampling = naive.Sampling(table["run"]["seed"], options["batch"], options.get("sampling") == "reshuffle")
    bounds = naive.bounds(options["local_steps"], options["rounds"])
    p = [m.weight for m in spec.workers]
    step_at = naive_methods.step_of(options, spec.model.l2, p)
    shape = (spec.model.outputs, spec.a.shape[1] + spec.model.intercept)
    pairs = [(np.zeros(shape), np.zeros(shape)) for _ in spec.workers]
    for r, (first, last) in enumerate(itertools.pairwise(bounds)):
        for m in spec.workers:
            alone = [m._replace(weight=1.0)]
            for t in range(first, last):
                gradient = naive_methods.gradient(spec.model, sampling, alone, t, 1)
                pairs[m.number] = step_at(t)(gradient, *pairs[m.number])
        for _, group in naive_levels.averaging(Cascade(levels, WORKERS), r):
            members, weights = list(group.members), [p[m] for m in group.members]
            both = [naive.mean([pairs[m][place] for m in members], weights) for place in range(2)]
            for m in members:
                pairs[m] = (both[0], both[1])
    return naive.mean([pair[0] for pair in pairs], p).ravel()


@pytest.mark.parallel([1, 2, 3])
def test_as_specified_on_ranks() -> None:
    from mpi4py import MPI

    methods = itertools.cycle(("local-ac-sa", "fedac", "fedac-II", "local-ac-sa-convex", "fedac-II"))
    for (name, levels), problem in itertools.product(LEVELS.items(), ("dense-logistic", "sparse-logistic")):
        method = next(methods)
        table = helpers.config(problem, method, workers={"count": WORKERS}, algorithm={"rounds": 7, "local_steps": 2})
        table["algorithm"].pop("iterate_average", None)
        result = mpilocal.run({**table, "levels": levels}, comm=MPI.COMM_WORLD)
        wanted = by_hand(table, levels)
        scale = max(1.0, float(np.abs(wanted).max()))
        np.testing.assert_allclose(result.average, wanted, rtol=0, atol=1e-12 * scale, err_msg=f"{name}, {method}")
        alone = mpilocal.run({**table, "levels": levels}, comm=MPI.COMM_SELF)
        assert alone.average.tobytes() == result.average.tobytes()


@pytest.mark.parametrize("method", ["local-ac-sa", "fedac"])
def test_groups_of_all_or_of_one_are_the_world(method: str) -> None:
    """N = 1 has the bits of P = I, N = n those of P = G."""
    found = []
    for levels in (
        [{"group": WORKERS, "period": 1}, {"group": "world", "period": 2}],
        [{"group": "world", "period": 1}],
        [{"group": 1, "period": 1}, {"group": "world", "period": 2}],
        [{"group": "world", "period": 2}],
    ):
        table = helpers.config("dense-logistic", method, workers={"count": WORKERS}, algorithm={"rounds": 6})
        table["algorithm"].pop("iterate_average", None)
        found.append(mpilocal.run({**table, "levels": levels}).average.tobytes())
    assert found[0] == found[1] and found[2] == found[3] and found[0] != found[2]
