"""The specification of hierarchical SGD: groups of workers at a round, iterates, ledger; no code of the package.

Workers and rounds are counted from 0, levels from the smallest groups. The permutations behind random groups are given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from naive import Array, Model, Plan, Round, Sampling, Visit, Worker, local_steps, mean

Shuffle = Callable[[int, int, int, int], Sequence[int]]  # atoms, level, parent, draw → the atom at each place


class Group(NamedTuple):
    """A group at a round."""

    members: tuple[int, ...]  # ascending
    period: int
    above: int  # period of the group of the next level that holds it; 0 at the widest level


class Cascade(NamedTuple):
    """The tables `[[levels]]`, smallest groups first."""

    levels: Sequence[Mapping[str, Any]]
    workers: int
    shuffle: Shuffle = lambda atoms, level, parent, draw: range(atoms)
    hosts: Sequence[int] = ()  # workers of each host, for "node"


def cut(order: Sequence[int], sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Consecutive runs of the given sizes, the members of each ascending."""
    assert sum(sizes) == len(order)
    ends = [sum(sizes[: g + 1]) for g in range(len(sizes))]
    return [tuple(sorted(order[end - size : end])) for end, size in zip(ends, sizes, strict=True)]


def is_random(group: Any) -> bool:
    return isinstance(group, Mapping) and "random" in group


def blocks_of(cascade: Cascade, level: int) -> list[tuple[int, ...]]:
    """The groups of a level that is not random: blocks of consecutive workers."""
    group, workers = cascade.levels[level]["group"], cascade.workers
    if group == "world":
        sizes = [workers]
    elif group == "node":
        sizes = list(cascade.hosts)
    elif isinstance(group, int):
        sizes = [group] * (workers // group)
    else:
        sizes = group["sizes"]
    return cut(range(workers), sizes)


def atoms_of(cascade: Cascade, level: int) -> list[tuple[int, ...]]:
    """What a random level keeps whole: groups of the nearest lower level that is not random, else single workers."""
    for below in reversed(range(level)):
        if not is_random(cascade.levels[below]["group"]):
            return blocks_of(cascade, below)
    return [(m,) for m in range(cascade.workers)]


def groups_at(cascade: Cascade, r: int) -> list[list[Group]]:
    """The groups of every level at round r. The widest level is drawn first."""
    out: list[list[Group]] = []
    above = [Group(tuple(range(cascade.workers)), 0, 0)]  # of the widest level: the world, which has no period
    for level in reversed(range(len(cascade.levels))):
        table = cascade.levels[level]
        if is_random(table["group"]):
            found = []
            for index, parent in enumerate(above):
                draw = r // (parent.period or table["period"]) if table["group"].get("redraw") != "once" else 0
                atoms = [atom for atom in atoms_of(cascade, level) if set(atom) <= set(parent.members)]
                order = [m for a in cascade.shuffle(len(atoms), level, index, draw) for m in atoms[a]]
                size = table["group"]["random"]
                found += cut(order, [size] * (len(order) // size))
        else:
            found = blocks_of(cascade, level)
        periods = table["period"] if isinstance(table["period"], list) else [table["period"]] * len(found)
        assert len(periods) == len(found)
        here = []
        for members, period in zip(found, periods, strict=True):
            (parent,) = [one for one in above if set(members) <= set(one.members)]
            assert parent.period % period == 0
            here.append(Group(members, period, parent.period))
        out.insert(0, here)
        above = here
    return out


def averaging(cascade: Cascade, r: int) -> list[tuple[int, Group]]:
    """(level, group) of the groups that average at the end of round r.

    Each worker averages in the widest group that holds it whose period divides r + 1.
    """
    levels = groups_at(cascade, r)
    chosen = {}
    for m in range(cascade.workers):
        for level, groups in enumerate(levels):
            (mine,) = [group for group in groups if m in group.members]
            if (r + 1) % mine.period == 0:
                chosen[m] = (level, mine)  # a wider one replaces it
    return sorted(set(chosen.values()))


class Count(NamedTuple):
    """What a level did."""

    averagings: int
    vectors: int  # one per member; 0 for groups of one


def ledger(cascade: Cascade, rounds: int) -> list[Count]:
    """What each level did in so many rounds, counted one by one."""
    out = [Count(0, 0) for _ in cascade.levels]
    for r in range(rounds):
        for level, group in averaging(cascade, r):
            size = len(group.members)
            out[level] = Count(out[level].averagings + 1, out[level].vectors + (size if size > 1 else 0))
    return out


def closed_form(cascade: Cascade, rounds: int) -> list[Count]:
    """The same: Σ_g (⌊R/I_g⌋ − ⌊R/P_parent⌋), and weighted by the sizes of the groups."""
    out = []
    for groups in groups_at(cascade, 0):  # the sizes and periods of random groups never change
        times = [rounds // g.period - (rounds // g.above if g.above else 0) for g in groups]
        sizes = [len(g.members) if len(g.members) > 1 else 0 for g in groups]
        out.append(Count(sum(times), sum(t * s for t, s in zip(times, sizes, strict=True))))
    return out


class Rows(NamedTuple):
    """What is known after a round."""

    x: list[Array]  # x_m of every worker
    seen: Round


def hierarchical_sgd(
    model: Model, workers: Sequence[Worker], sampling: Sampling, plan: Plan, x0: Array, cascade: Cascade
) -> Iterator[Rows]:
    """H-SGD (Wang et al. 2022): local steps of every worker, then the groups that are due average.

    x_m ← Σ p_l x_l / Σ p_l over the members l of m's group. The server's step sizes act where all workers average:
    x ← y + η_g (x̄ − y), or x ← y − η Σ_m p_m Σ g_m with the local steps η_in, where y is the last such x and the
    gradients are those since.
    """
    x, y, visits = [x0] * len(workers), x0, list[Visit]()
    sums = [np.zeros_like(x0) for _ in workers]
    p = [m.weight for m in workers]
    yield Rows(list(x), Round(x0, 0.0, []))
    for r, (first, last) in enumerate(zip(plan.bounds, plan.bounds[1:], strict=False)):
        etas = [plan.eta(t) if plan.inner is None else plan.inner for t in range(first, last)]
        for m in workers:

            def visit(t: int, at: Array, m: Worker = m) -> None:
                visits.append(Visit(t, m.weight * at))

            x[m.number], g = local_steps(model, m, sampling, x[m.number], etas, first, visit=visit)
            sums[m.number] = sums[m.number] + g
        center = mean(x, p)
        drift = math.fsum(w * float(np.sum((row - center) ** 2)) for w, row in zip(p, x, strict=True))
        for _, group in averaging(cascade, r):
            members = list(group.members)
            if len(members) > 1:  # a group of one keeps its bits
                average = mean([x[number] for number in members], [p[number] for number in members])
                for number in members:
                    x[number] = average
            if len(members) == len(workers):
                if plan.inner is not None:
                    y = y - plan.eta(first) * mean(sums, p)
                else:
                    y = y + plan.server * (x[0] - y) if plan.server != 1 else x[0]
                x, sums = [y] * len(workers), [np.zeros_like(x0) for _ in workers]
        yield Rows(list(x), Round(mean(x, p), drift, visits))
