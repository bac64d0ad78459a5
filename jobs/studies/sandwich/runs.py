"""Which runs the study makes: `sandwich.toml` with a few keys changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bounds import Scheme, limit, softmax_smoothness

LOCAL_STEPS, LOCAL, GLOBAL = 5, 5, 50  # I and G in steps
WORKERS, MANY = 10, 20
FAR = 10  # G/I
GROUPS = (2, 5)


class Size(NamedTuple):
    """How much is run."""

    rounds: int
    groupings: int  # random groupings of each kind
    seeds: int  # of everything else
    draws: int  # groupings whose divergence is measured at one point
    theorem: int  # rounds of the runs beside the bounds


QUICK = Size(50, 20, 2, 100, 40)
NORMAL = Size(100, 20, 3, 100, 100)
FULL = Size(400, 40, 10, 400, 400)


class Case(NamedTuple):
    """One run."""

    part: str  # the comparison that it belongs to
    scheme: str  # what is compared
    seed: int
    overrides: list[str]


def source(data: str, full: bool) -> list[str]:
    """Return the overrides of `--data`; FileNotFoundError where the files are not known."""
    if data == "digits":
        return []
    root = os.environ.get("MPILOCAL_DATA", "")
    if not root:
        raise FileNotFoundError(f"--data {data} needs MPILOCAL_DATA, the folder that holds mnist/ and femnist_leaf/")
    if data == "mnist":
        folder = Path(root, "mnist").resolve()
        images = [folder / f"{name}-images-idx3-ubyte.gz" for name in ("train", "t10k")]
        # the smaller file has a sixth of the rows, of the same kind: the loss is evaluated over all of them
        options = [f"data.source={images[0]}", f"data.test={images[1]}"] if full else [f"data.source={images[1]}"]
        return [*options, "data.options={}", "algorithm.step_size=0.03"]
    folder = Path(root, "femnist_leaf").resolve()
    options = [f"data.source={folder / 'femnist105-train-images-idx3-ubyte.gz'}", "data.partition=user"]
    return [*options, f'data.options={{users = "{folder / "femnist105-users.csv"}"}}', "algorithm.step_size=0.03"]


def levels(*pairs: tuple[str, int]) -> str:
    """Return the override of the levels: (group, period in rounds), the smallest first."""
    return "levels=[" + ", ".join(f"{{group = {group}, period = {period}}}" for group, period in pairs) + "]"


def drawn(size: int, redraw: str = "once") -> str:
    """Return random groups of so many workers."""
    return f'{{random = {size}, redraw = "{redraw}"}}'


WORLD = '"world"'
FLAT = {"P = I": levels((WORLD, 1)), "P = G": levels((WORLD, FAR))}


def cases(data: str, size: Size, full: bool) -> Iterator[Case]:
    """Yield all runs, each part after the other."""
    base = [*source(data, full), f"algorithm.rounds={size.rounds}"]
    two = {f"N = {groups}": levels((drawn(WORKERS // groups), 1), (WORLD, FAR)) for groups in GROUPS}
    for scheme, tree in {**FLAT, **two}.items():
        for seed in range(1, 1 + (size.groupings if scheme in two else size.seeds)):
            yield Case("groupings", scheme, seed, [*base, tree, f"output.divergence={str(seed == 1).lower()}"])
    others = {
        "I = 10": levels((drawn(5), 2), (WORLD, FAR)),
        "G = 25": levels((drawn(5), 1), (WORLD, FAR // 2)),
    }
    for scheme, tree in others.items():
        for seed in range(1, 1 + size.seeds):
            yield Case("periods", scheme, seed, [*base, tree])
    fixed = levels((str(WORKERS // 2), 1), (WORLD, FAR))
    grouped = {"P = I": FLAT["P = I"], "group-IID": fixed, "group-non-IID": fixed, "P = G": FLAT["P = G"]}
    for scheme, tree in grouped.items():
        name = "apart_2" if scheme == "group-non-IID" else "alike_2"
        for seed in range(1, 1 + size.seeds):
            yield Case("alike", scheme, seed, [*base, tree, f"data.partition=partition.py:{name}", DIVERGENCE])
    three = {
        "P = I": FLAT["P = I"],
        "3 levels": levels((drawn(5), 1), (drawn(10), FAR // 2), (WORLD, FAR)),
        "P = G": FLAT["P = G"],
    }
    for scheme, tree in three.items():
        for seed in range(1, 1 + size.seeds):
            yield Case("three", scheme, seed, [*base, f"workers.count={MANY}", tree, DIVERGENCE])
    yield from exact(base)
    for groups in GROUPS:
        tree = levels((drawn(WORKERS // groups, "every"), 1), (WORLD, 1))
        # steps so small that all groupings are measured at one point, after one step each
        still = ["algorithm.local_steps=1", "algorithm.batch=1", "algorithm.step_size=1e-30", "output.record_every=1"]
        yield Case("draws", f"N = {groups}", 1, [*base, *still, f"algorithm.rounds={size.draws}", tree, DIVERGENCE])
    for scheme, tree in {**FLAT, **two}.items():
        yield Case("theorem", scheme, 1, [*theorem(size), tree, DIVERGENCE])


DIVERGENCE = "output.divergence=true"


def exact(base: list[str]) -> Iterator[Case]:
    """Yield the hierarchies that are flat: one group of all, and every worker a group."""
    short = [*base, f"algorithm.rounds={2 * FAR}"]
    yield Case("equal", "N = 1", 1, [*short, levels((WORLD, 1), (WORLD, FAR))])
    yield Case("equal", "P = I", 1, [*short, FLAT["P = I"]])
    yield Case("equal", "N = n", 1, [*short, levels(("1", 1), (WORLD, FAR))])
    yield Case("equal", "P = G", 1, [*short, FLAT["P = G"]])


def theorem(size: Size) -> list[str]:
    """Return the overrides of the runs that the theorem covers: digits, exact gradients, the largest γ it allows."""
    gamma = limit(digits_smoothness(), GLOBAL)
    steps = ["algorithm.batch=all", f"algorithm.step_size={gamma!r}", "output.record_every=1"]
    return [f"algorithm.rounds={size.theorem}", *steps]


def digits_smoothness() -> float:
    """Return L of the digits as the base config has them."""
    from mpilocal.data.bundled import bundled

    rows = bundled("digits", {"standardize": True}).rows
    assert rows.dense is not None
    return softmax_smoothness(rows.dense, rows.labels, WORKERS)


def scheme_of(name: str) -> Scheme:
    """Return the nodes and periods behind a name among WORKERS workers."""
    if name in FLAT:
        return Scheme((WORKERS,), (LOCAL if name == "P = I" else GLOBAL,))
    return Scheme((int(name.removeprefix("N = ")), WORKERS), (GLOBAL, LOCAL))
