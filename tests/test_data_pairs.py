"""Tasks of pairs of digits, and principal components."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from mpi4py import MPI

import mpilocal
from mpilocal.config.structs import Data
from mpilocal.data.convert import convert
from mpilocal.data.read import read_part
from mpilocal.data.sources import open_source
from mpilocal.errors import ConfigError, DataError, MpilocalError

HERE = Path.cwd()


def pairs(similarity: float, **more: Any) -> Any:
    return open_source(Data(source="sklearn:digits", pairs={"similarity": similarity, **more}), HERE)


@pytest.mark.parametrize("similarity", [0.0, 0.4, 1.0])
def test_each_machine_has_its_digits(similarity: float) -> None:
    plain = open_source(Data(source="sklearn:digits"), HERE)
    rows = plain.read(0, plain.total)
    assert rows.dense is not None
    of = {row.tobytes(): int(label) for row, label in zip(rows.dense, rows.labels, strict=True)}
    found = pairs(similarity)
    assert found.each == 2 * int(np.bincount(rows.labels.astype(int)).min()) and found.total == 25 * found.each
    made = found.read(0, found.total)
    digits = np.array([of[row.tobytes()] for row in made.dense])
    assert (made.labels == (digits % 2 == 0)).all()
    assert (np.bincount(made.users) == found.each).all()
    own = round((1 - similarity) * found.each)
    for machine in range(25):
        mine = digits[made.users == machine]
        even, odd = divmod(machine, 5)
        assert set(mine[:own].tolist()) <= {2 * even, 2 * odd + 1}
        others = mine[own:]
        assert len(others) == 0 or set(others.tolist()) == set(range(10))
    if similarity == 0.4:  # in pieces, as ranks read it, and with other draws
        parts = np.concatenate([found.read(at, min(at + 777, found.total)).dense for at in range(0, found.total, 777)])
        assert (parts == made.dense).all()
        assert (pairs(0.4, seed=1).read(0, 50).dense != made.dense[:50]).any()
        assert pairs(0.4, rows=10).total == 250


@pytest.mark.parallel([1, 3])
def test_a_run_on_pairs() -> None:
    table = {
        "data": {"source": "sklearn:digits", "partition": "user", "pairs": {"similarity": 0.0, "rows": 40}},
        "problem": {"loss": "logistic", "l2": 0.01},
        "workers": {"count": 25},
        "algorithm": {"rounds": 3, "local_steps": 4, "step_size": 0.001},
        "run": {"threads": 1},
    }
    found, alone = mpilocal.run(table, comm=MPI.COMM_WORLD), mpilocal.run(table, comm=MPI.COMM_SELF)
    assert found.average.tobytes() == alone.average.tobytes() and found.average.any()


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        ({"source": "sklearn:iris", "pairs": {"similarity": 0.5}}, DataError, r"digits 0 to 9 .* has 3 other"),
        ({"source": "sklearn:digits", "pairs": {}}, ConfigError, r"data.pairs.similarity is missing"),
        ({"source": "sklearn:digits", "pairs": {"similarity": 1.5}}, ConfigError, r"data.pairs.similarity"),
        (
            {"source": "synthetic:classification", "options": {"density": 0.1}, "pairs": {"similarity": 1}},
            DataError,
            r"is for dense rows",
        ),
    ],
)  # fmt: skip
def test_refusals(data: Any, error: type[MpilocalError], said: str) -> None:
    with pytest.raises(error, match=said):
        read_part(MPI.COMM_SELF, Data(**data), HERE)


def test_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1 1:2\n0 1:3\n")
    with pytest.raises(ConfigError, match="is text: convert it first"):
        read_part(MPI.COMM_SELF, Data(source=str(tmp_path / "a.txt"), pairs={"similarity": 0.0}), HERE)


@pytest.mark.parallel([1, 3])
def test_components_are_those_of_scikit_learn(tmp_path: Path) -> None:
    from sklearn.decomposition import PCA

    comm = MPI.COMM_WORLD
    convert(comm, "sklearn:digits", tmp_path / "digits.h5", components=7)
    comm.Barrier()
    with h5py.File(tmp_path / "digits.h5") as file:
        x, labels, variances = file["x"][:], file["labels"][:], file["extra/variances"][:]
    plain = open_source(Data(source="sklearn:digits"), HERE)
    rows = plain.read(0, plain.total)
    assert rows.dense is not None
    known = PCA(7, svd_solver="full").fit(rows.dense)
    wanted = known.transform(rows.dense)
    signs = np.sign(np.sum(wanted * x, axis=0))
    np.testing.assert_allclose(x * signs, wanted, rtol=1e-8, atol=1e-8)
    assert (labels == rows.labels).all()
    np.testing.assert_allclose(variances * 1797 / 1796, known.explained_variance_, rtol=1e-9)
    facts = convert(MPI.COMM_SELF, "sklearn:digits", tmp_path / f"alone-{comm.rank}.h5", components=7)
    assert facts["digest"] == read_part(comm, Data(source=str(tmp_path / "digits.h5")), HERE).digest


def test_components_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--components 65 exceeds the 64 features"):
        convert(MPI.COMM_SELF, "sklearn:digits", tmp_path / "a.h5", components=65)
    with pytest.raises(ConfigError, match="are sparse: leave --components out"):
        options = {"density": 0.1}
        convert(MPI.COMM_SELF, "synthetic:classification", tmp_path / "a.h5", options=options, components=2)
