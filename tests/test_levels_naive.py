"""Hierarchies of every form against `naive_levels`, from outside: iterates of every worker, history, ledger, bits."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
import helpers
import naive
import naive_levels
import numpy as np
import pytest
from conftest import Launch
from helpers import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_levels import Cascade
from numpy.typing import NDArray
from test_golden import LAUNCHED, contents

import mpilocal
from mpilocal.tree.draw import shuffled

Array = NDArray[np.float64]
GD = {"rounds": 7, "local_steps": 2, "batch": "all", "step_size": 0.2}
WORLD = {"group": "world"}


def every(size: int, redraw: str = "every") -> Table:
    return {"random": size, "redraw": redraw}


def levels(*pairs: Any) -> list[Table]:
    return [{"group": group, "period": period} for group, period in pairs]


def case(
    problem: str, workers: int, *pairs: Any, method: str = "local-gd", weights: str = "samples", **own: Any
) -> Table:
    table = helpers.config(problem, method, workers={"count": workers, "weights": weights}, algorithm={**GD, **own})
    if table["data"]["source"].startswith("synthetic"):
        table["data"] = {**table["data"], "options": {**table["data"]["options"], "rows": max(40, workers + 30)}}
    return {**table, "levels": levels(*pairs)}


SGD: Table = {"batch": 2, "method": "local-sgd"}
CASES = {
    "two": case("dense-logistic", 12, (4, 1), ("world", 3)),
    "two-uniform": case("sparse-logistic", 10, (5, 1), ("world", 3), weights="uniform"),
    "three": case("sparse-logistic", 12, (2, 1), (6, 2), ("world", 4)),
    "three-uniform": case("dense-squared", 12, (3, 1), (6, 3), ("world", 6), weights="uniform"),
    "unequal": case("dense-squared", 10, ({"sizes": [1, 2, 4, 3]}, 1), ({"sizes": [3, 7]}, 2), ("world", 6)),
    "own": case("dense-logistic", 9, (3, [1, 2, 4]), ("world", 4), weights="uniform"),
    "own-nested": case(
        "sparse-squared", 9, ({"sizes": [2, 2, 3, 2]}, [1, 3, 2, 1]), ({"sizes": [4, 5]}, [3, 2]), ("world", 6)
    ),
    "narrow": case("dense-logistic", 8, ({"sizes": [5, 3]}, [1, 2])),
    "alone": case("dense-logistic", 6, (1, 1), (2, 2), ("world", 4)),
    "one": case("sparse-logistic", 1, (1, 1), ("world", 3)),
    "world-twice": case("sparse-logistic", 7, ("world", 2), ("world", 4)),
    "node": case("sparse-logistic", 7, ("node", 2), ("world", 6)),
    "random-once-in-parents": case(
        "dense-logistic", 12, (every(2, "once"), 1), ({"sizes": [4, 8]}, [2, 3]), ("world", 6)
    ),
    "random-whole": case("dense-logistic", 12, (every(6), 1), (6, 2), ("world", 4)),
    "random": case("dense-logistic", 12, (every(4), 1), ("world", 3)),
    "random-once": case("sparse-logistic", 12, (every(4, "once"), 1), ("world", 3)),
    "random-widest": case("dense-squared", 10, (every(5), 2), weights="uniform"),
    "random-atoms": case("sparse-squared", 12, (2, 1), (every(4), 2), ("world", 4)),
    "random-twice": case("dense-logistic", 12, (every(2), 1), (every(6), 2), ("world", 4)),
    "random-kept-in-drawn": case("dense-logistic", 12, (every(3, "once"), 1), (every(6), 1), ("world", 3)),
    "random-drawn-in-kept": case("sparse-logistic", 12, (every(2), 1), (every(4, "once"), 2), ("world", 4)),
    "random-parents": case("sparse-logistic", 12, (every(2), 1), ({"sizes": [4, 8]}, [2, 3]), ("world", 6)),
    "random-between": case("dense-logistic", 16, (every(2), 1), (4, 1), (every(8), 2), ("world", 4)),
    "random-atoms-below": case("sparse-logistic", 16, (2, 1), (every(4), 1), (every(8), 2), ("world", 4)),
    "sgd": case("dense-logistic", 12, (4, 1), ("world", 3), **SGD),
    "sgd-random": case("sparse-logistic", 12, (2, 1), (every(6), 2), ("world", 4), **SGD, sampling="reshuffle"),
    "softmax": case("dense-softmax", 9, (3, 1), ("world", 2), **SGD),
    "server": case("dense-logistic", 12, (4, 1), ("world", 3), method="server", server_step_size=1.4),
    "inner-outer": case("sparse-logistic", 12, (2, 1), (6, 2), ("world", 4), step_size=0.1, inner_step_size=0.03),
    "many": case("sparse-logistic", 140, (70, 1), ("world", 3), rounds=4),
    "many-random": case("dense-logistic", 140, (every(70), 1), ("world", 2), rounds=4),
}


def cascade(table: Table) -> Cascade:
    seed, count = table["run"]["seed"], table["workers"]["count"]

    def shuffle(atoms: int, level: int, parent: int, draw: int) -> list[int]:
        return [int(atom) for atom in shuffled(atoms, seed, level, parent, draw)]

    return Cascade(table["levels"], count, shuffle, hosts=[count])


def specify(table: Table) -> tuple[helpers.Spec, list[naive_levels.Rows]]:
    """What `naive_levels` makes of a config: the problem and what is known after every round."""
    flat = {**table, "algorithm": {**table["algorithm"], "rounds": 0}}
    spec, options = helpers.specify(flat), table["algorithm"]
    sampling = naive.Sampling(table["run"]["seed"], options.get("batch", 1), options.get("sampling") == "reshuffle")
    bounds = naive.bounds(options["local_steps"], options["rounds"])
    outer = options.get("server_step_size", 1.0)
    plan = naive.Plan(bounds, lambda t: float(options["step_size"]), outer, options.get("inner_step_size"))
    x0 = np.zeros_like(spec.rounds[0].x)
    made = naive_levels.hierarchical_sgd(spec.model, spec.workers, sampling, plan, x0, cascade(table))
    rounds = [one._replace(seen=one.seen._replace(visits=list(one.seen.visits))) for one in made]
    return spec._replace(averages=helpers.averages(options, bounds[-1])), rounds


def close(got: Any, want: Any, what: str) -> None:
    want = np.asarray(want)
    assert np.max(np.abs(got - want)) <= 1e-12 * max(1.0, np.max(np.abs(want))), what


def agrees(table: Table, result: mpilocal.api.Result) -> None:
    """The history, x̄ and the ledger are those of the specification."""
    (spec, rounds), history = specify(table), result.history
    seen = [one.seen for one in rounds]
    close(result.average, seen[-1].x.ravel(), "average")
    close(history["objective"], [spec.objective(one.x) for one in seen], "objective")
    close(history["gradient_norm"], [np.linalg.norm(spec.gradient(one.x)) for one in seen], "gradient_norm")
    close(history["consensus"], [one.consensus for one in seen], "consensus")
    for name, weight in spec.averages.items():
        points = [naive.average_of(one.visits, weight, one.x) for one in seen]
        close(history[f"objective_{name}"], [spec.objective(point) for point in points], name)
    counts = [naive_levels.ledger(cascade(table), r) for r in range(len(rounds))]
    for level in range(len(table["levels"])):
        vectors = [one[level].vectors for one in counts]
        assert history[f"level{level + 1}/averagings"].tolist() == [one[level].averagings for one in counts], level
        assert history[f"level{level + 1}/vectors"].tolist() == vectors, level
        assert history[f"level{level + 1}/bytes"].tolist() == [8 * result.average.size * v for v in vectors], level
    assert f"level{len(table['levels']) + 1}/vectors" not in history


def kept(table: Table) -> Table:
    return {**table, "output": {"checkpoint_every": 1, "keep": 100, "iterates": True}}


def rows_agree(table: Table, path: Path) -> None:
    """Every worker's iterate after every round is that of the specification."""
    _, rounds = specify(table)
    for r, one in enumerate(rounds):
        with h5py.File(path / "checkpoints" / f"round-{r:08}.h5", "r", locking=False) as file:
            got = np.atleast_2d(file["state/x"][:])
        want = np.array([x.ravel() for x in one.x])
        close(np.broadcast_to(got, want.shape), want, f"round {r}")


@pytest.mark.parametrize("name", CASES)
def test_as_specified(name: str, tmp_path: Path) -> None:
    table = CASES[name]
    agrees(table, mpilocal.run(kept(table), output=tmp_path / "run"))
    rows_agree(table, tmp_path / "run")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run of a case on one rank, made once."""
    folder = tmp_path_factory.mktemp("alone")

    def run(name: str) -> Path:
        if not (folder / name).exists():
            mpilocal.run(kept(CASES[name]), output=folder / name)
        return folder / name

    return run


def same_on_ranks(names: Iterable[str], count: int, there: Path, mpiexec: Launch, alone: Callable[[str], Path]) -> None:
    """All that a run leaves is bit for bit what one rank leaves."""
    tables = {name: kept(CASES[name]) for name in names}
    done = mpiexec(count, "-c", LAUNCHED, str(there), json.dumps(tables), module=None, timeout=300)
    assert done.returncode == 0, done.stderr
    for name, table in tables.items():
        left = alone(name)
        files = sorted(str(path.relative_to(left)) for path in left.rglob("*.h5"))
        assert len(files) == 2 + 1 + table["algorithm"]["rounds"], name
        for file in files:
            assert contents(there / name / file) == contents(left / file), (name, file)


def test_the_same_bits_on_ranks(tmp_path: Path, mpiexec: Launch, alone: Callable[[str], Path]) -> None:
    same_on_ranks(("own-nested", "random-parents", "random-whole"), 3, tmp_path, mpiexec, alone)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_the_same_bits_of_every_form(ranks: int, tmp_path: Path, mpiexec: Launch, alone: Callable[[str], Path]) -> None:
    """Groups straddle the ranks, and some ranks have no part in a message."""
    same_on_ranks([name for name in CASES if name != "one"], ranks, tmp_path, mpiexec, alone)


@pytest.mark.parallel(3)
def test_as_specified_on_ranks(tmp_path: Path) -> None:
    from mpi4py import MPI

    table = CASES["unequal"]
    result = mpilocal.run(kept(table), comm=MPI.COMM_WORLD, output=tmp_path / "run")
    agrees(table, result)
    rows_agree(table, tmp_path / "run")


@st.composite
def cascades(draw: st.DrawFn) -> tuple[int, list[Table]]:
    """Workers and levels of any depth, built from the widest: groups of equal sizes, fixed or random."""
    workers = draw(st.sampled_from([4, 6, 8, 12]))
    size, outer = workers, [draw(st.sampled_from([1, 2, 4, 6]))]  # the periods of the groups above
    out = [{"group": "world", "period": outer[0]}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1 - len(out), 3))):
        before, size = size, draw(divisor(size))
        count, form = workers // size, draw(st.sampled_from(["fixed", "own", "every", "once"]))
        if form == "own":
            inner = [draw(divisor(outer[g * size // before])) for g in range(count)]
            out.append({"group": size, "period": inner})
        else:
            inner = [draw(divisor(math.gcd(*outer)))] * count
            out.append({"group": size if form == "fixed" else every(size, form), "period": inner[0]})
        outer = inner
    return workers, out[::-1]


def divisor(n: int) -> st.SearchStrategy[int]:
    return st.sampled_from([k for k in range(1, n + 1) if n % k == 0])


@given(cascades())
@settings(max_examples=60)
def test_any_nesting(drawn: tuple[int, list[Table]]) -> None:
    workers, tables = drawn
    table = {**case("dense-logistic", workers, rounds=6, local_steps=1), "levels": tables}
    agrees(table, mpilocal.run(table))


@given(cascades(), st.integers(0, 30))
def test_the_closed_form_is_the_count(drawn: tuple[int, list[Table]], rounds: int) -> None:
    """Σ_g (⌊R/I_g⌋ − ⌊R/P_parent⌋), of the specification itself."""
    workers, tables = drawn
    one = Cascade(tables, workers)
    assert naive_levels.closed_form(one, rounds) == naive_levels.ledger(one, rounds)


def test_the_closed_form_of_unequal_groups() -> None:
    for table in (CASES["unequal"], CASES["own"], CASES["own-nested"], CASES["random-parents"], CASES["node"]):
        for rounds in (0, 1, 5, 6, 7, 40):
            one = cascade(table)
            assert naive_levels.closed_form(one, rounds) == naive_levels.ledger(one, rounds)


def test_draws_are_uniform_and_their_own() -> None:
    """Each pair of workers meets with probability (k − 1)/(n − 1); other seeds, levels, parents, draws differ."""
    n, k, draws = 12, 4, 4000
    together = np.zeros((n, n))
    for draw in range(draws):
        for group in shuffled(n, 5, 0, 0, draw).reshape(-1, k):
            together[np.ix_(group, group)] += 1
    chance = (k - 1) / (n - 1)
    found = together[np.triu_indices(n, 1)] / draws
    assert np.max(np.abs(found - chance)) < 5 * np.sqrt(chance * (1 - chance) / draws)
    orders = [tuple(shuffled(30, *key)) for key in itertools.product((1, 2), repeat=4)]
    assert len(set(orders)) == 16 and all(sorted(order) == list(range(30)) for order in orders)
    assert orders[0] == tuple(shuffled(30, 1, 1, 1, 1))
