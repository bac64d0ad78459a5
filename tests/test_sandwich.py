"""The sandwich study: its partitions and bounds, a quick run of it, and a table that can say no."""

from __future__ import annotations

import importlib
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

HERE = Path(__file__).resolve().parents[1] / "jobs" / "studies" / "sandwich"
STUDY = HERE / "study.py"
MODULES = ("bounds", "runs", "results", "claims", "partition", "figures")
EXACT, BOUND, OBSERVED = 9, 4, 10

pytestmark = pytest.mark.skipif(
    not HERE.is_dir(), reason="the study is not installed: these are tests of a source tree"
)


@pytest.fixture(scope="module")
def study():
    """The study's modules, which import each other by their bare names."""
    sys.path.insert(0, str(HERE))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.remove(str(HERE))
        for name in MODULES:
            sys.modules.pop(name, None)


def dealt(labels, workers, groups, alike):
    """The same partition, a row at a time: deal the sorted rows to piles, cut each pile."""
    order = sorted(range(len(labels)), key=lambda row: (labels[row], row))
    worker = [0] * len(labels)
    for pile in range(groups):
        rows = order[pile::groups]
        for shard, part in enumerate(np.array_split(rows, workers // groups)):
            for row in part:
                worker[row] = pile * (workers // groups) + shard if alike else shard * groups + pile
    return worker


@pytest.mark.parallel([1, 2, 3])
def test_partition(study):
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    for groups, workers, total in ((2, 10, 403), (5, 10, 101), (5, 20, 97), (2, 2, 7)):
        labels = np.random.default_rng(total).integers(0, 10, total).astype(float)
        first, last = total * comm.rank // comm.size, total * (comm.rank + 1) // comm.size
        found = {}
        for alike in (True, False):
            deal = getattr(study.partition, f"{'alike' if alike else 'apart'}_{groups}")
            mine = deal(labels[first:last], None, first, total, workers, 1, comm)
            found[alike] = np.concatenate(comm.allgather(mine))
            assert found[alike].tolist() == dealt(labels.tolist(), workers, groups, alike)
        shards = [{frozenset(np.flatnonzero(found[alike] == m)) for m in range(workers)} for alike in (True, False)]
        assert shards[0] == shards[1]  # the same workers under other numbers
        if total > 100:
            near, far = (
                [len(np.unique(labels[found[alike] // (workers // groups) == g])) for g in range(groups)]
                for alike in (True, False)
            )
            assert min(near) == 10 and sum(far) <= 7 * groups


def test_partition_refuses_unequal_groups(study):
    from mpi4py import MPI

    with pytest.raises(ValueError, match="7 workers do not make 2 equal groups"):
        study.partition.alike_2(np.arange(20.0) % 3, None, 0, 20, 7, 1, MPI.COMM_SELF)


@given(st.lists(st.integers(2, 4), min_size=1, max_size=4), st.lists(st.integers(1, 5), min_size=4, max_size=4))
def test_bounds_lie_between_those_of_the_ends(study, children, ratios):
    nodes = tuple(itertools.accumulate(children, lambda a, b: a * b))
    periods = tuple(itertools.accumulate(ratios[: len(nodes)], lambda a, b: a * b))[::-1]
    scheme = study.bounds.Scheme(nodes, periods)
    assert sum(scheme.shares) == pytest.approx(1)
    narrow, wide = (study.bounds.Scheme(nodes[-1:], (period,)) for period in (periods[-1], periods[0]))
    assert wide.drift == periods[0] ** 2 and wide.noise == pytest.approx(periods[0] * (1 - 1 / nodes[-1]))
    values = [study.bounds.bound(one, 0.01, 2.0, 1.0, 100, 3.0, 0.5) for one in (narrow, scheme, wide)]
    assert values[0] <= values[1] * (1 + 1e-12) and values[1] <= values[2] * (1 + 1e-12)


def test_shares_are_the_mean_over_all_groupings(study):
    rng = np.random.default_rng(1)
    for groups, size in ((2, 3), (3, 2)):
        g = rng.standard_normal((groups * size, 4))
        g -= g.mean(axis=0)
        means = [
            (g[list(order)].reshape(groups, size, 4).mean(axis=1) ** 2).sum(axis=1).mean()
            for order in itertools.permutations(range(len(g)))
        ]
        upward, downward = study.bounds.Scheme((groups, groups * size), (10, 1)).shares
        assert np.mean(means) / (g**2).sum(axis=1).mean() == pytest.approx(upward)
        assert downward == pytest.approx(1 - upward)


def test_smoothness_bounds_the_curvature(study):
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((30, 3)), np.repeat([0.0, 1.0, 2.0], 10)
    most = study.bounds.softmax_smoothness(x, y, 3)
    for part in range(3):
        rows = x[10 * part : 10 * part + 10]
        for w in rng.standard_normal((20, 3, 3)) * 0.3:
            p = np.exp(rows @ w.T)
            p /= p.sum(axis=1, keepdims=True)
            inner = [np.diag(one) - np.outer(one, one) for one in p]
            hessian = sum(np.kron(a, np.outer(row, row)) for a, row in zip(inner, rows, strict=True)) / len(rows)
            assert np.linalg.eigvalsh(hessian)[-1] <= most * (1 + 1e-12)
    assert study.bounds.limit(2.0, 50) == pytest.approx(1 / (2 * 6**0.5 * 50 * 2))


def test_data_that_are_not_there():
    env = {name: value for name, value in os.environ.items() if name != "MPILOCAL_DATA"}
    done = subprocess.run(
        [sys.executable, STUDY, "--data", "mnist"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4 and "MPILOCAL_DATA" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_quick(study, mpiexec, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    done = mpiexec(2, STUDY, "--quick", "-o", out, timeout=900, module="mpi4py")
    assert done.returncode == 0, done.stderr
    files = {
        "results.h5",
        "claims.txt",
        *(f"{name}.{kind}" for name in ("curves", "sandwich") for kind in ("png", "svg")),
    }
    assert {file.name for file in out.iterdir()} == files
    found = study.results.read(out / "results.h5")
    table = study.claims.table(found)
    kinds = [claim.kind for claim in table]
    assert [kinds.count(kind) for kind in ("exact", "bound", "observed")] == [EXACT, BOUND, OBSERVED]
    assert [claim.claim for claim in table if claim.kind == "exact" and not claim.holds] == []
    assert len(found.of("groupings", "N = 2")) >= 20 and len(found.of("groupings", "N = 5")) >= 20
    said = (out / "claims.txt").read_text(encoding="utf-8")
    assert said in done.stdout and all(claim.claim in said and claim.measured in said for claim in table)

    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(out / "results.h5", again)
    drawn = subprocess.run([sys.executable, STUDY, "--draw", again], capture_output=True, text=True, check=False)
    assert drawn.returncode == 0, drawn.stderr
    for name in files:
        assert (again / name).read_bytes() == (out / name).read_bytes(), name
    text = (again / "sandwich.svg").read_text(encoding="utf-8")
    assert "from memory" in text and "observed" in text
    refuted(study, found)


def refuted(study, found):
    """What the table says of results that are wrong."""

    def wrong(part, scheme, **changes):
        rows = [
            row._replace(curves={**row.curves, **{k: f(row.curves[k]) for k, f in changes.items()}})
            if (row.part, row.scheme) == (part, scheme)
            else row
            for row in found.rows
        ]
        return {claim.claim for claim in study.claims.table(found._replace(rows=rows)) if not claim.holds}

    known = wrong("", "")
    assert wrong("draws", "N = 2", level1=lambda d: d * (1 + 1e-11)) - known == {"divergence = sum of D_l over levels"}
    assert wrong("equal", "N = 1", objective=lambda f: np.nextafter(f, 9)) - known == {"N = 1 is P = I"}
    swapped = wrong("draws", "N = 5", level1=lambda d: 0.9 * d, level2=lambda d: 1.1 * d)
    assert {"mean upward share, N = 5", "mean downward share, N = 5"} <= swapped
    assert "mean final loss, N = 2" in wrong("groupings", "N = 2", objective=lambda f: 0 * f)
    assert "mean ‖∇f‖² below the bound, P = G" in wrong("theorem", "P = G", gradient_norm=lambda g: 100 * g)
