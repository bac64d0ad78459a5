"""Problems and methods as two lists, to be multiplied; and what `naive` says of a config."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import naive
import naive_methods
import numpy as np
from numpy.typing import NDArray

from mpilocal.data.bundled import bundled
from mpilocal.data.rows import Rows
from mpilocal.data.synthetic import Synthetic

Table = dict[str, Any]
Array = NDArray[np.float64]

DENSE: Table = {"source": "synthetic:classification", "options": {"rows": 23, "features": 6, "seed": 3}}
SPARSE: Table = {
    "source": "synthetic:classification",
    "options": {"rows": 25, "features": 14, "density": 0.3, "seed": 4},
}
REAL: Table = {"source": "synthetic:regression", "options": {"rows": 22, "features": 5, "seed": 5, "noise": 0.1}}
QUADRATIC: Table = {
    "source": "synthetic:quadratic",
    "options": {"rows": 24, "features": 5, "seed": 6, "sigma": 0.5, "zeta": 0.7, "groups": 3, "mu": 0.2},
}
CLASSES: Table = {"source": "sklearn:iris", "options": {"standardize": True}}

# name → ([data], [problem], [workers])
PROBLEMS: dict[str, tuple[Table, Table, Table]] = {
    "dense-logistic": (DENSE, {"loss": "logistic", "l2": 0.05, "intercept": True}, {"count": 3}),
    "dense-squared": (REAL, {"loss": "squared"}, {"count": 4}),
    "dense-squared-hinge": (DENSE, {"loss": "squared-hinge", "l2": "1/n"}, {"count": 3, "weights": "uniform"}),
    "dense-smooth-hinge": (DENSE, {"loss": "smooth-hinge", "l2": 0.02}, {"count": 2}),
    "dense-exponential": (DENSE, {"loss": "exponential", "l2": 0.02}, {"count": 3}),
    "dense-softmax": (CLASSES, {"loss": "softmax", "l2": 0.01, "intercept": True}, {"count": 4}),
    "dense-shared": ({**DENSE, "partition": "shared"}, {"loss": "logistic", "l2": 0.1}, {"count": 5}),
    "quadratic": (QUADRATIC, {"loss": "quadratic"}, {"count": 3}),
    "sparse-logistic": (SPARSE, {"loss": "logistic", "l2": 0.05}, {"count": 4}),
    "sparse-squared": (SPARSE, {"loss": "squared", "intercept": True}, {"count": 3}),
    "sparse-squared-hinge": (SPARSE, {"loss": "squared-hinge", "l2": 0.05}, {"count": 3}),
    "sparse-smooth-hinge": (SPARSE, {"loss": "smooth-hinge", "l2": 0.2}, {"count": 1}),
    "sparse-exponential": (SPARSE, {"loss": "exponential", "l2": 0.05}, {"count": 2, "weights": "uniform"}),
    "sparse-softmax": (SPARSE, {"loss": "softmax", "l2": 0.05, "intercept": True}, {"count": 3}),
    "sparse-shared": ({**SPARSE, "partition": "shared"}, {"loss": "logistic", "l2": "1/n"}, {"count": 2}),
}
AVERAGES = ["uniform", "linear", "quadratic", {"kind": "tail", "start": 0.4}]


def accelerated(name: str, rounds: int, local_steps: int, batch: int | str, step_size: float, **more: Any) -> Table:
    """The table [algorithm] of an accelerated method; `more` are its options, but for keys of the table itself."""
    own = {key: more.pop(key) for key in ("sampling", "start", "server_step_size") if key in more}
    table = {"name": name, "rounds": rounds, "local_steps": local_steps, "batch": batch, "step_size": step_size, **own}
    return {**table, "options": more, "iterate_average": "last"}


# name → [algorithm]
METHODS: dict[str, Table] = {
    "local-sgd": {"rounds": 4, "local_steps": 3, "batch": 2, "step_size": 0.1},
    "local-gd": {"rounds": 3, "local_steps": 3, "batch": "all", "step_size": 0.2},
    "one-shot": {"rounds": 1, "local_steps": 7, "batch": 1, "step_size": 0.05},
    "reshuffle": {"rounds": 4, "local_steps": 5, "batch": 3, "step_size": 0.1, "sampling": "reshuffle"},
    "start": {"rounds": 2, "local_steps": 2, "batch": 2, "step_size": 0.05, "start": "normal"},
    "post-local": {
        "rounds": 5,
        "local_steps": {"kind": "post-local", "until": 2, "steps": 4},
        "step_size": {"kind": "inverse-time", "scale": 2.0, "shift": 20.0},
    },
    "growing": {
        "rounds": 4,
        "local_steps": {"kind": "growing", "scale": 0.9},
        "step_size": {"kind": "inverse-sqrt", "scale": 0.2, "shift": 3.0},
    },
    "stich": {"rounds": 3, "local_steps": 2, "step_size": {"kind": "stich", "c": 0.01, "warmup": 3}},
    "piecewise": {
        "rounds": 3,
        "local_steps": 3,
        "step_size": {"kind": "piecewise", "values": [0.1, 0.02], "steps": [4]},
    },
    "server": {"rounds": 4, "local_steps": 3, "step_size": 0.1, "server_step_size": 1.4},
    "inner-outer": {"rounds": 4, "local_steps": 3, "batch": 2, "step_size": 0.08, "inner_step_size": 0.03},
    "inner-zero": {"rounds": 4, "local_steps": 3, "batch": 2, "step_size": 0.03, "inner_step_size": 0.0},
    "minibatch": {"name": "minibatch-sgd", "rounds": 5, "local_steps": 3, "batch": 2, "step_size": 0.2},
    "minibatch-gd": {"name": "minibatch-sgd", "rounds": 3, "local_steps": 2, "batch": "all", "step_size": 0.2},
    "minibatch-growing": {
        "name": "minibatch-sgd",
        "rounds": 4,
        "local_steps": {"kind": "growing", "scale": 0.9},
        "sampling": "reshuffle",
        "step_size": {"kind": "inverse-time", "scale": 2.0, "shift": 20.0},
    },
    "thumb-twiddling": {"name": "thumb-twiddling", "rounds": 5, "local_steps": 4, "batch": 3, "step_size": 0.1},
    "modified-local-gd": {
        "name": "modified-local-gd",
        "rounds": 4,
        "local_steps": 3,
        "batch": 2,
        "step_size": 0.1,
        "options": {"pull": 0.4, "anchor_exponent": 0.7},
        "start": "normal",
    },
    "modified-server": {
        "name": "modified-local-gd",
        "rounds": 4,
        "local_steps": 2,
        "batch": 3,
        "step_size": 0.1,
        "server_step_size": 1.3,
        "options": {"pull": 0.0, "anchor_exponent": 1.0},
    },
    "local-ac-sa": accelerated("local-ac-sa", 4, 3, 2, 0.1, mu=0.05),
    "local-ac-sa-server": accelerated("local-ac-sa", 4, 3, 2, 0.1, mu=0.05, server_step_size=0.8),
    "local-ac-sa-convex": accelerated("local-ac-sa", 3, 4, "all", 0.2, mu=0, stages=[5, 4, 1]),
    "local-ac-sa-halving": accelerated(
        "local-ac-sa", 5, 4, 3, 0.3, mu=0.8, stages="halving", gap=2.0, sigma=0.05, sampling="reshuffle"
    ),
    "minibatch-ac-sa": accelerated("minibatch-ac-sa", 6, 2, 3, 0.2, mu=0.1, stages=[3, 2]),
    "fedac": accelerated("fedac", 4, 3, 2, 0.1, mu=0.05),
    "fedac-II": accelerated("fedac", 3, 5, "all", 0.05, mu=0.1, variant="II"),
    "fedac-server": accelerated("fedac", 4, 3, 2, 0.1, mu=0.05, server_step_size=1.2),
    "fedac-naive": accelerated("fedac", 3, 3, 1, 0.05, mu=0.2, variant="naive", start="normal"),
    "minibatch-fedac": accelerated("minibatch-fedac", 5, 2, 2, 0.2, mu=0.05),
}
SEED = 21
ACCELERATED = ("local-ac-sa", "minibatch-ac-sa", "fedac", "minibatch-fedac")


def config(problem: str, method: str, /, **sections: Table) -> Table:
    """A whole config; `sections` are laid over it."""
    data, objective, workers = PROBLEMS[problem]
    out: Table = {
        "data": data,
        "problem": objective,
        "workers": workers,
        "algorithm": {"iterate_average": AVERAGES, **METHODS[method]},
        "run": {"seed": SEED, "threads": 1},
    }
    for name, table in sections.items():
        out[name] = {**out.get(name, {}), **table}
    return out


class Spec(NamedTuple):
    """A config as `naive` sees it."""

    model: naive.Model
    a: Array
    y: Array
    row_weights: Array  # (n,) of the objective
    workers: list[naive.Worker]
    rounds: list[naive.Round]
    averages: dict[str, Callable[[int], float]]

    def objective(self, x: Array) -> float:
        return naive.objective(self.model, self.a, self.y, self.row_weights, x)

    def gradient(self, x: Array) -> Array:
        return naive.gradient(self.model, self.a, self.y, self.row_weights, x)


def rows_of(data: Table) -> tuple[Array, Array, Rows, dict[str, Array]]:
    """Dense rows and labels as they are read, and what is known of the law."""
    kind, _, name = data["source"].partition(":")
    source: Any = Synthetic(name, data["options"]) if kind == "synthetic" else bundled(name, data["options"])
    rows = source.read(0, source.total)
    if rows.dense is not None:
        return np.array(rows.dense), rows.labels, rows, source.extra
    a = np.zeros((rows.count, rows.features))
    for i in range(rows.count):
        at = slice(rows.indptr[i], rows.indptr[i + 1])
        a[i, rows.indices[at]] = rows.values[at]
    return a, rows.labels, rows, source.extra


def specify(table: Table) -> Spec:
    """What `naive` makes of a config."""
    data, problem, options = table["data"], table["problem"], table["algorithm"]
    a, y, _, extra = rows_of(data)
    outputs = 1
    if problem["loss"] == "softmax":
        found = sorted(set(y.tolist()))
        y, outputs = np.array([float(found.index(label)) for label in y]), len(found)
    n = len(y)
    l2 = 1 / n if problem.get("l2") == "1/n" else problem.get("l2", 0.0)
    ridge = extra["curvature"] if problem["loss"] == "quadratic" else None
    model = naive.Model(problem["loss"], l2, problem.get("intercept", False), outputs, ridge)
    count = table["workers"]["count"]
    parts = naive.blocks(n, count)
    weights = np.full(n, 1 / n)
    if data.get("partition") == "shared":
        workers = [naive.Worker(m, a, y, 1 / count) for m in range(count)]
    else:
        even = table["workers"].get("weights") == "uniform"
        p = [1 / count if even else len(part) / n for part in parts]
        workers = [naive.Worker(m, a[part], y[part], p[m]) for m, part in enumerate(parts)]
        for part, share in zip(parts, p, strict=True):
            weights[part] = share / len(part)
    seed = table["run"]["seed"]
    dim = (outputs, a.shape[1] + model.intercept)
    x0 = np.zeros(dim)
    if options.get("start") == "normal":
        x0 = np.random.Generator(np.random.Philox(seed)).standard_normal(x0.size).reshape(dim)
    sampling = naive.Sampling(seed, options.get("batch", 1), options.get("sampling") == "reshuffle")
    bounds = naive.bounds(options.get("local_steps", 1), options["rounds"])
    plan = naive.Plan(
        bounds,
        lambda t: naive.step_size(options["step_size"], t, n),
        options.get("server_step_size", 1.0),
        options.get("inner_step_size"),
    )
    local = options.get("name", "local-sgd") in ("local-sgd", "sgd", "modified-local-gd")
    made: Iterator[naive.Round]
    if options.get("name", "local-sgd") in ACCELERATED:
        step_at = naive_methods.step_of(options, l2, [one.weight for one in workers])
        if options["name"].startswith("minibatch"):
            made = naive_methods.minibatch(model, workers, sampling, bounds, x0, step_at)
        else:
            made = naive_methods.local(model, workers, sampling, bounds, x0, step_at, plan.server)
    elif options.get("name") == "modified-local-gd":
        own = options["options"]
        made = naive_methods.modified_local_gd(model, workers, sampling, plan, x0, own["pull"], own["anchor_exponent"])
    elif local:
        made = naive.local_sgd(model, workers, sampling, plan, x0)
    else:
        made = naive.one_step_rounds(model, workers, sampling, plan, x0, options["name"] == "thumb-twiddling")
    rounds = [one._replace(visits=list(one.visits)) for one in made]
    return Spec(model, a, y, weights, workers, rounds, averages(options, bounds[-1] if local else options["rounds"]))


def averages(options: Table, horizon: int) -> dict[str, Callable[[int], float]]:
    """The weights of the averages that are asked for, by name."""
    step_size = options["step_size"]
    own = isinstance(step_size, dict) and step_size["kind"] in ("inverse-time", "inverse-sqrt")
    shift = step_size.get("shift", 1.0) if own else 1.0
    out: dict[str, Callable[[int], float]] = {}
    wanted = options.get("iterate_average", "last")
    for one in wanted if isinstance(wanted, list) else [wanted]:
        name = one if isinstance(one, str) else one["kind"]
        start = 0.5 if isinstance(one, str) else one["start"]
        begin = math.floor(start * horizon)
        if name != "last":
            out[name] = lambda t, name=name, begin=begin: naive.weight(name, t, shift, begin)  # type: ignore[misc]
    return out
