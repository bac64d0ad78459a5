"""Synthetic laws: row i depends on (seed, i) only, and the known answers hold."""

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from data_helpers import assert_same, read
from hypothesis import given
from hypothesis import strategies as st

from mpilocal.data.pieces import join
from mpilocal.data.synthetic import LAWS, Synthetic
from mpilocal.errors import ConfigError

SMALL = {
    "mixture": {"rows": 9000},
    "separable": {"rows": 500, "features": 6},
    "regression": {"rows": 300, "features": 40, "spectrum": "i^-1 log^-2"},
    "quadratic": {"rows": 400, "features": 8, "groups": 4, "zeta": 0.5, "sigma": 2.0, "L": 10.0, "mu": 0.1},
    "hard-instance": {"rows": 501, "mu": 0.2, "distance": 2.0},
    "classification": {"rows": 5000, "features": 300, "density": 0.02},
}


@pytest.mark.parametrize("name", LAWS)
def test_any_range_gives_the_same_rows(name):
    source = Synthetic(name, SMALL[name])
    whole = source.read(0, source.total)
    assert whole.count == source.total == SMALL[name]["rows"]
    cuts = np.unique(np.random.default_rng(0).integers(0, source.total, 7)).tolist()
    parts = [source.read(a, b) for a, b in zip([0, *cuts], [*cuts, source.total], strict=True)]
    assert_same(join(parts), whole)
    assert source.read(5, 5).count == 0
    if name == "hard-instance":  # nothing in it is drawn
        return
    other = Synthetic(name, SMALL[name] | {"seed": 1}).read(0, 10)
    assert not np.array_equal(other.dense if other.dense is not None else other.values, parts[0].dense)


@pytest.mark.parallel([1, 3])
def test_the_digest_does_not_depend_on_ranks():
    from mpi4py import MPI

    for name, options in SMALL.items():
        assert (
            read(f"synthetic:{name}", MPI.COMM_WORLD, **options).digest == read(f"synthetic:{name}", **options).digest
        )


def test_separable_has_the_max_margin_vector_that_it_claims():
    source = Synthetic("separable", SMALL["separable"])
    rows, known = source.read(0, 500), source.extra
    points = rows.labels[:, None] * rows.dense
    margins = points @ known["svm"]
    support = known["support_rows"].astype(int)
    np.testing.assert_allclose(margins[support], 1)
    assert np.delete(margins, support).min() >= 2.5
    # the conditions of optimality: w = Σ α_j a_j with α > 0, and unique since the a_j are independent
    assert (known["duals"] > 0).all()
    np.testing.assert_allclose(known["duals"] @ points[support], known["svm"], atol=1e-12)
    assert np.linalg.matrix_rank(points[support]) == 6
    assert support.tolist() == [0, 84, 168, 251, 334, 417]


def test_quadratic_has_its_constants():
    source = Synthetic("quadratic", SMALL["quadratic"] | {"rows": 40000})
    b, known = source.read(0, 40000).dense, source.extra
    np.testing.assert_allclose(known["curvature"], np.geomspace(0.1, 10, 8))
    np.testing.assert_allclose(known["shift"].sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose((known["shift"] ** 2).sum() / 4, 0.5**2)
    groups = b.reshape(4, 10000, 8)
    noise = groups - groups.mean(axis=1, keepdims=True)
    assert abs((noise**2).sum(axis=2).mean() - 4) < 0.05
    np.testing.assert_allclose(b.mean(axis=0), known["curvature"] * known["optimum"], atol=0.03)
    np.testing.assert_allclose(np.linalg.norm(known["optimum"]), 1)


def test_regression_has_its_spectrum_and_optimum():
    i = np.arange(1, 41)
    for spectrum, values in [
        ("i^-1 log^-2", i**-1.0 * np.log(i + 1) ** -2.0),
        ("i^-2", i**-2.0),
        ({"kind": "power", "exponent": 1.5}, i**-1.5),
        ({"kind": "exponential", "rate": 0.5}, np.exp(-0.5 * i)),
        ((1.0 / i).tolist(), 1.0 / i),
    ]:
        source = Synthetic("regression", {"rows": 20000, "features": 40, "spectrum": spectrum, "noise": 0.1})
        np.testing.assert_allclose(source.extra["spectrum"], values)
        rows = source.read(0, 20000)
        np.testing.assert_allclose(rows.dense.var(axis=0), values, rtol=0.06)
        assert abs(np.std(rows.labels - rows.dense @ source.extra["optimum"]) - 0.1) < 0.005


def test_mixture_follows_its_law():
    source = Synthetic("mixture", {"rows": 50000})
    rows, known = source.read(0, 50000), source.extra
    np.testing.assert_allclose(rows.dense.var(axis=0), 10 / np.arange(1, 26) ** 2, rtol=0.05)
    z = np.minimum(rows.dense @ known["w1"] + known["b"][0], rows.dense @ known["w2"] + known["b"][1])
    for low, high in ((-3, -1), (-1, 0), (0, 1), (1, 3)):
        here = (z > low) & (z < high)
        assert abs((rows.labels[here] > 0).mean() - (1 / (1 + np.exp(-z[here]))).mean()) < 0.03


@given(st.integers(1, 200), st.floats(0.01, 0.9))
def test_sparse_rows_have_the_density(features, density):
    source = Synthetic("classification", {"rows": 40, "features": features, "density": density})
    rows = source.read(0, 40)
    assert (np.diff(rows.indptr) == max(1, round(density * features))).all()
    assert rows.indices.min() >= 0 and rows.indices.max() < features


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mixtures", {}, 'did you mean "mixture"'),
        ("mixture", {"row": 3}, 'did you mean "rows"'),
        ("mixture", {"rows": 0}, "data.options.rows = 0 is not accepted"),
        ("mixture", {"rows": "many"}, "data.options.rows"),
        ("regression", {"spectrum": "steep"}, 'data.options.spectrum = "steep" is not known'),
        ("regression", {"spectrum": [1.0, 2.0]}, "has 2 entries for 100 features"),
        ("regression", {"spectrum": {"kind": "linear"}}, 'spectrum.kind = "linear" is not known'),
        ("regression", {"spectrum": {"kind": "power", "exponnt": 1.0}}, 'did you mean "exponent"'),
        ("quadratic", {"zeta": 1.0}, "zeta = 1 needs groups of at least 2"),
        ("quadratic", {"mu": 2.0}, "mu = 2 exceeds L = 1"),
        ("quadratic", {"rows": 2, "groups": 3}, "groups = 3 exceeds rows = 2"),
        ("separable", {"rows": 4}, "rows = 4 cannot hold 10 support vectors"),
        ("separable", {"features": 5, "overlap": 4}, "overlap = 4 leaves 1 of 5 features"),
        ("separable", {"support": 11}, "support = 11 exceeds the 10 features"),
    ],
)
def test_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        Synthetic(name, options)


def test_the_documentation_names_every_option():
    page = Path(__file__).parents[1] / "docs" / "format.md"
    if not page.exists():
        pytest.skip(f"{page} is not there: the tests run outside the tree")
    text = page.read_text(encoding="utf-8")
    for name, law in LAWS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        options = set(re.findall(r"`(\w+)`", row.split("|")[-3]))
        assert options == {field.name for field in msgspec.structs.fields(law)} - {"rows", "features", "seed"}
        assert set(re.findall(r"`(\w+)`", row.split("|")[-2])) == set(Synthetic(name, {}).extra)


def test_overlapping_rows_cannot_be_separated():
    """In the last coordinates: half of the rows are 0 in the others, and their labels do not depend on them."""
    source = Synthetic("separable", {"rows": 400, "features": 6, "overlap": 2})
    rows, known = source.read(0, 400), source.extra
    folded = rows.dense * rows.labels[:, None]
    assert known["separable"].tolist() == [1, 1, 1, 1, 0, 0]
    apart = (folded[:, :4] != 0).any(axis=1)
    assert 150 < apart.sum() < 250 and (folded[apart, 0] >= 1 - 1e-12).all()
    assert (folded[:, 4:] != 0).all()
    others = folded[~apart, 4:]
    assert ((others > 0).all(axis=1)).any() and ((others < 0).all(axis=1)).any()
    where = known["support_rows"].astype(int)
    np.testing.assert_array_equal(folded[where, :4], known["support_vectors"][:, :4])
    assert len(where) == 4
