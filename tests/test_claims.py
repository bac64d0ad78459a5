"""Claims of studies, on made-up results with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from study_helpers import AXES, FINAL, NAMES, H, K, results, run

from mpilocal.errors import ConfigError
from mpilocal.study import claims
from mpilocal.study.results import Results


def row(found=None, quantity=FINAL, **table):
    table = {"claim": "c", "quantity": quantity, **table}
    claims.check([table], AXES, names=NAMES)
    return claims.evaluate([table], results() if found is None else found, NAMES)[0]


@pytest.mark.parametrize(
    ("table", "holds"),
    [
        ({"at_most": 0.1}, True),
        ({"at_most": 0.0999}, False),  # K = H = 1 has 0.1
        ({"at_least": 1 / 160}, True),
        ({"at_least": 0.007}, False),  # K = H = 4 has 1/160
        ({"at_most": "1 / (K * step)"}, True),
        ({"at_most": "0.99 / (K * step)"}, False),
        ({"equals": "1 / (10 * K * H)", "tolerance": 1e-12}, True),
        ({"equals": 0.1, "select": {K: 1, H: 1}}, True),
        ({"equals": 0.1, "select": {K: [1, 2], H: 1}}, False),
        ({"within": 16.0001}, True),
        ({"within": 15.9999}, False),
        ({"within": 1.0001, "quantity": {"kind": "final", "times": "step * K"}}, True),
        ({"within": 4.0001, "where": "H <= 1"}, True),
        ({"within": 3.9999, "where": "H <= 1"}, False),
        ({"within": 1, "where": "H > sqrt(step * K)"}, False),  # no cell: nothing was shown
        ({"at_most": 0.05, "select": {K: ">= 2"}}, True),
        ({"at_most": 0.025, "select": {K: "largest"}}, True),
        ({"at_most": 0.025, "select": {K: "smallest"}}, False),
    ],
)
def test_bound(table, holds):
    assert row(**{"kind": "bound", **table}).holds is holds


def test_only_positive_numbers_are_within_a_factor():
    for value in (0.0, -0.1, np.inf, np.nan):
        odd = [run(1, 1, seed, suboptimality=np.full(10, value)) for seed in (1, 2, 3)]
        assert row(results(*odd), kind="bound", within=1e9).holds is False


def test_bound_of_the_whole_interval():
    found = results(noise=0.1, seeds=range(10))
    mean = 0.1 * (1 + 0.1 * 4.5)
    table = {"kind": "bound", "select": {K: 1, H: 1}, "at_most": mean * 1.05}
    assert row(found, **table).holds is True
    assert row(found, interval=True, **table).holds is False
    assert row(interval=True, **(table | {"at_most": 1.0})).holds is True
    assert row(results(seeds=[1]), interval=True, **(table | {"at_most": 1.0})).holds is False  # one seed, none


@pytest.mark.parametrize(
    ("table", "holds"),
    [
        ({"equals": 4, "tolerance": 1e-9}, True),
        ({"equals": 3.9, "tolerance": 0.05}, False),
        ({"equals": 2, "tolerance": 1e-9, "other": {K: 2}}, True),
        ({"at_least": 4.1}, False),
        ({"at_most": "K * 4 + 1e-9"}, True),
    ],
)
def test_ratio(table, holds):
    assert row(**{"kind": "ratio", "one": {K: 1}, "other": {K: 4}, **table}).holds is holds


def test_ratio_pairs_seeds():
    """The noise is common to both cells, so that the interval of their ratio has no width."""
    said = row(results(noise=0.3), kind="ratio", one={K: 1, H: 1}, other={K: 4, H: 1}, equals=4, tolerance=1e-9)
    assert said.measured == "4 [4, 4]"


@pytest.mark.parametrize(
    ("table", "holds"),
    [
        ({"direction": "decreasing", "along": K}, True),
        ({"direction": "increasing", "along": K}, False),
        ({"direction": "decreasing", "along": H, "select": {K: 2}}, True),
        ({"direction": "increasing", "selections": [{K: 4}, {K: 2}, {K: 1}]}, True),
        ({"direction": "increasing", "selections": [{K: 4}, {K: 1}, {K: 2}]}, False),
        ({"direction": "decreasing", "along": K, "quantity": {"kind": "final", "of": "step"}}, False),
        ({"direction": "decreasing", "along": K, "quantity": {"kind": "final", "of": "step"}, "strict": False}, True),
    ],
)
def test_ordering(table, holds):
    assert row(**{"kind": "ordering", **table}).holds is holds


def test_one_cell_out_of_order_is_enough():
    worse = run(4, 4, 1, suboptimality=np.ones(10))
    assert row(results(worse), kind="ordering", along=K, direction="decreasing", select={H: 1}).holds is True
    assert row(results(worse), kind="ordering", along=K, direction="decreasing").holds is False
    assert row(results(worse), kind="ordering", along=K, direction="decreasing", aggregate="median").holds is True


@pytest.mark.parametrize(
    ("table", "holds"),
    [
        ({"along": K, "equals": -1, "tolerance": 1e-9}, True),
        ({"along": K, "equals": -0.9, "tolerance": 0.05}, False),
        ({"along": H, "at_most": -0.999}, True),
        ({"along": "step", "equals": -1, "tolerance": 1e-9}, True),
        ({"along": "step", "equals": -2, "tolerance": 0.5}, False),
        ({"along": "step", "equals": 1, "tolerance": 1e-9, "quantity": {"kind": "final", "of": "bytes"}}, True),
        ({"along": K, "equals": -1, "tolerance": 1e-9, "range": [2, 4]}, True),
        ({"along": K, "equals": -1, "tolerance": 1e-9, "range": [3, 4]}, False),  # one point has no slope
    ],
)
def test_slope(table, holds):
    assert row(**{"kind": "slope", **table}).holds is holds


def test_slope_uses_its_range_alone():
    steps = np.arange(1, 11)
    bent = [run(k, h, s, suboptimality=np.where(steps < 5, 1, 1 / steps**2)) for k in AXES[K] for h in [1] for s in [1]]
    table = {"kind": "slope", "along": "round", "select": {K: 1, H: 1}, "equals": -2, "tolerance": 1e-9}
    found = results(*bent, seeds=[1])
    assert row(found, range=[5, 10], **table).holds is True
    assert row(found, **table).holds is False


@pytest.mark.parametrize(
    ("table", "holds"),
    [
        ({"relation": "<", "against": {H: 1}, "select": {H: 4}}, True),
        ({"relation": "<", "against": {H: 1}, "select": {H: 4}, "factor": 0.24}, False),
        ({"relation": "<=", "against": {K: 4}}, False),
        ({"relation": "<", "against_quantity": {"kind": "final", "of": "suboptimality_uniform"}}, True),
        (
            {"relation": ">=", "against_quantity": {"kind": "final", "of": "suboptimality_uniform"}, "factor": 0.6},
            False,
        ),
    ],
)
def test_every(table, holds):
    assert row(**{"kind": "every", **table}).holds is holds


def test_variants_with_axes_of_their_own():
    """Cells that lack an axis are compared with all values of it."""
    axes = {"variant": ["growing", "constant"], H: [1, 4]}
    made = [run(1, 1, 1)._replace(cell={"variant": "growing"})]
    made += [run(1, h, 1, rounds=40)._replace(cell={"variant": "constant", H: h}) for h in (1, 4)]
    table = {"claim": "c", "kind": "every", "quantity": {"kind": "rounds-to", "target": 0.1}, "relation": "<="}
    table |= {"select": {"variant": "growing"}, "against": {"variant": "constant"}}
    cells = [one.cell for one in made]
    claims.check([table], axes, cells)
    found = claims.evaluate([table], Results("t", axes, made))[0]
    assert found.holds is False
    assert found.measured == "against local_steps = 1: 10 and 10; against local_steps = 4: 10 and 3"
    table["against"][H] = 1
    assert claims.evaluate([table], Results("t", axes, made))[0].holds is True
    table["against"] = {"variant": "growing"}
    with pytest.raises(ConfigError, match="compares no two cells"):
        claims.check([table], axes, cells)


def test_divergence_is_shown_and_never_holds():
    gone = [run(4, h, s, status="diverged") for h in (1, 4) for s in (1, 2, 3)]
    for table in (
        {"kind": "bound", "at_most": 1e9, "select": {K: 4}},
        {"kind": "bound", "within": 1e9, "select": {K: 4}},
        {"kind": "ratio", "one": {K: 4}, "other": {K: 1}, "at_most": 1e9},
        {"kind": "ordering", "along": K, "direction": "decreasing"},
        {"kind": "slope", "along": K, "at_most": 9},
        {"kind": "every", "select": {K: 4}, "against": {K: 1}, "relation": "<="},
    ):
        said = row(results(*gone), **table)
        assert said.holds is False, said
        assert "diverged" in said.measured, said
    one = row(results(gone[0]), kind="bound", at_most=1, aggregate="median", select={K: 4, H: 1})
    assert one.holds is True
    assert "(1 of 3 diverged)" in one.measured
    never = row(quantity={"kind": "rounds-to", "target": 1e-9}, kind="bound", at_most=9, select={K: 1, H: 1})
    assert (never.measured, never.holds) == ("never", False)


def test_a_lost_cell_is_not_hidden_by_a_condition():
    gone = [run(1, 4, s, status="diverged") for s in (1, 2, 3)]
    table = {"kind": "bound", "at_most": 1, "select": {K: 1}, "where": "step <= 10"}
    assert row(**table).holds is True
    assert row(results(*gone), **table).holds is False


def test_rows():
    said = row(kind="bound", at_most=0.1, formula="1 / (K * step)", rests="derivation")
    assert said.predicted == "≤ 0.1; 1 / (K * step) = 0.00625 … 0.1"
    assert said.rests == "derivation"
    assert row(kind="bound", at_most=0.1, predicted="small").predicted == "small"
    assert row(kind="bound", observe=True).holds is None
    said = row(kind="bound", at_most=0.03)
    assert said.measured.startswith("6 cells, from 0.00625") and "not in 2: K = 1, H = 1: 0.1" in said.measured
    said = row(kind="ordering", along=K, direction="decreasing")
    assert said.measured == "H = 1: 0.1, 0.05, 0.025; H = 4: 0.025, 0.0125, 0.00625"
    assert said.predicted == "strictly decreasing along workers.count"


def test_a_cell_is_not_named_as_its_own_opponent():
    twice = {"kind": "final", "of": "suboptimality_uniform"}
    said = row(results(seeds=[1]), kind="every", relation="<", against_quantity=twice, select={H: 4, K: [1, 2]})
    assert said.measured == "K = 1: 0.025 and 0.05; K = 2: 0.0125 and 0.025"


def test_table():
    rows = [row(kind="bound", at_most=0.03, claim="word " * 30), row(kind="bound", observe=True, claim="b")]
    text = claims.table(rows)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 120
    assert lines[0].split() == ["claim", "predicted", "measured", "holds", "rests", "on"]
    assert text.count("word") == 30
    at = lines[0].index("holds")
    assert lines[2][at:].startswith("NO")
    assert [line[at] for line in lines if line.startswith("b ")] == ["-"]
    assert claims.table([])


BOUND = {"claim": "c", "kind": "bound", "quantity": FINAL, "at_most": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "bounds"}, 'claims.0.kind = "bounds" is not known; did you mean "bound"?'),
        ({"kind": None}, "claims.0.kind is missing"),
        ({"at_mots": 1}, '"at_mots" is not a known key of [claims.0]; did you mean "at_most"?'),
        ({"quantity": None}, "claims.0.quantity is missing"),
        ({"quantity": {"kind": "finel"}}, 'did you mean "final"?'),
        ({"quantity": {"kind": "final", "of": "subotimality"}}, 'claims.0.quantity.of = "subotimality" is not a known'),
        ({"quantity": {"kind": "rounds-to"}}, "claims.0.quantity.target is missing"),
        ({"quantity": {"kind": "final", "target": 1.0}}, "claims.0.quantity.target means nothing"),
        ({"quantity": {"kind": "cost-to", "target": 1.0, "cost": "stepp"}}, '"stepp" is not a known name'),
        ({"select": {"workers": 1}}, '"workers" is not an axis of the grid; did you mean "workers.count"?'),
        ({"select": {K: 3}}, "claims.0.select.workers.count = 3 is no cell of the grid: this axis has 1, 2, 4"),
        ({"select": {K: "> 4"}}, "holds for no value of this axis"),
        ({"select": {K: []}}, "claims.0.select.workers.count = [] is no cell"),
        ({"at_most": None}, "claims.0 compares with nothing"),
        ({"at_most": "K +"}, "claims.0.at_most"),
        ({"within": 2.0}, "claims.0.within stands alone"),
        ({"tolerance": 0.1}, "claims.0.tolerance is that of equals"),
        ({"where": "K"}, "claims.0.where"),
        ({"where": "K <= Q"}, '"Q" is not a known name'),
        ({"aggregate": "avarage"}, "claims.0.aggregate"),
        ({"kind": "ratio", "one": {K: 1}, "other": {K: 1}}, "compares no two cells"),
        ({"kind": "ratio", "one": {K: 1}}, "claims.0.other is missing"),
        ({"kind": "slope", "along": "stap"}, '"stap" is not an axis of the grid'),
        ({"kind": "slope", "along": K, "select": {K: 1}}, "fewer than two selected cells differ"),
        ({"kind": "slope", "along": K, "range": [2.0, 1.0]}, "claims.0.range"),
        ({"kind": "slope", "along": "step", "quantity": {"kind": "best"}}, 'write quantity.kind = "final"'),
        ({"kind": "ordering", "direction": "up", "along": K, "at_most": None}, "claims.0.direction"),
        ({"kind": "ordering", "direction": "increasing", "at_most": None}, "either along"),
        ({"kind": "every", "relation": "=", "against": {K: 1}, "at_most": None}, "claims.0.relation"),
        ({"kind": "every", "relation": "<", "at_most": None}, "claims.0 compares with nothing"),
    ],
)
def test_bad_claims(change, said):
    table = {key: value for key, value in {**BOUND, **change}.items() if value is not None}
    with pytest.raises(ConfigError) as error:
        claims.check([table], AXES, names=NAMES)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cell_that_no_grid_has():
    axes = {"variant": ["a", "b"], H: [1, 4]}
    table = {**BOUND, "select": {"variant": "a", H: 4}}
    claims.check([table], axes)
    with pytest.raises(ConfigError, match=r"claims\.0\.select = .* selects no cell"):
        claims.check([table], axes, [{"variant": "a", H: 1}, {"variant": "b", H: 4}])


def test_a_series_that_was_not_recorded():
    table = {**BOUND, "quantity": {"kind": "final", "of": "consensus"}}
    claims.check([table], AXES)
    with pytest.raises(ConfigError, match=r'claims\.0\.quantity\.of: no "consensus" was recorded'):
        claims.evaluate([table], results())
