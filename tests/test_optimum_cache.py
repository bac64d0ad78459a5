"""Kept optima: what their key says, when they are used, and what is done about damaged ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optimum_helpers import Find, find_fixture, made_of  # noqa: F401  (a fixture)

from mpilocal.optimum import cache as optimum_cache
from mpilocal.optimum import solve as optimum_solve


def test_a_kept_optimum_is_used(find: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find("sklearn:breast_cancer", l2=0.1)
    solve = optimum_solve.solve
    monkeypatch.setattr(optimum_solve, "solve", None)
    assert find("sklearn:breast_cancer", l2=0.1) == first
    assert find("sklearn:breast_cancer", l2=0.1, workers={"count": 4}) == first  # equal weights: no partition enters
    monkeypatch.setattr(optimum_solve, "solve", solve)
    narrow, uniform = {"run": {"dtype": "float32"}}, {"workers": {"weights": "uniform"}}
    for change in ({"l2": 0.2}, {"intercept": True}, narrow, uniform):
        find("sklearn:breast_cancer", **{"l2": 0.1, **change})
    find("sklearn:breast_cancer", "squared", l2=0.1)
    assert len(list((tmp_path / "optima").glob("*.json"))) == 6
    assert not list((tmp_path / "optima").glob(".*"))


def test_uniform_weights_know_their_partition() -> None:
    from mpi4py import MPI

    def weighting(**workers: Any) -> str:
        return optimum_cache.key(made_of("sklearn:breast_cancer", workers=workers), MPI.COMM_SELF)["weights"]

    assert weighting(weights="samples") == weighting(count=1, weights="uniform") == "equal"
    assert weighting(weights="uniform") != weighting(weights="uniform", count=5)
    assert weighting(weights="uniform") == weighting(weights="uniform")


@pytest.mark.parametrize("damage", ["cut", "noise", "value", "field", "point", "no point"])
def test_a_damaged_file_is_replaced(find: Find, tmp_path: Path, damage: str) -> None:
    first = find("sklearn:breast_cancer", l2=0.1)
    (file,) = (tmp_path / "optima").glob("*.json")
    whole, point = file.read_bytes(), file.with_suffix(".npy")
    text = whole.decode()
    if damage == "cut":
        file.write_bytes(whole[:100])
    elif damage == "noise":
        file.write_bytes(bytes(255 - byte for byte in whole))
    elif damage == "value":
        file.write_text(text.replace(repr(first.value), repr(first.value + 1e-6)))
    elif damage == "field":
        file.write_text(text.replace('"attained"', '"obtained"'))
    elif damage == "point":
        point.write_bytes(point.read_bytes()[:-400] + bytes(400))
    else:
        point.unlink()
    assert find("sklearn:breast_cancer", l2=0.1) == first
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_said(find: Find, tmp_path: Path) -> None:
    (tmp_path / "optima").write_text("not a folder")
    found = find("sklearn:breast_cancer", l2=0.1, says="not kept for later runs: cannot write")
    assert found.gradient_norm <= 1e-10
