"""The nesting of levels as numbers: which groups there are, who is in them, and when they average.

Groups are runs of an order of the workers with fixed bounds; only the order of a random level changes. Everything is a
function of the round, so that all ranks know it without a message and a resumed run needs no state for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpilocal.config.levels import Blocks, Random, Sizes, parse_group
from mpilocal.config.structs import Level as Options
from mpilocal.config.typed import shown
from mpilocal.errors import ConfigError
from mpilocal.tree.draw import shuffled

Ints = NDArray[np.int64]


class Level(NamedTuple):
    """One level: group g holds the workers order[bounds[g]:bounds[g + 1]]."""

    bounds: Ints  # (groups + 1,)
    periods: Ints  # (groups,) in rounds
    above: Ints  # (groups,) period of the group that holds this one, 0 at the widest level
    redraw: str  # "" of groups that stay, else "every" or "once"
    atom: int  # consecutive workers that a random level keeps together
    parents: Ints  # bounds of the groups that this level's lie in, in the order of the level above

    @property
    def sizes(self) -> Ints:
        """Workers of each group."""
        return np.diff(self.bounds)

    @property
    def world(self) -> bool:
        """Whether its one group holds all workers."""
        return len(self.bounds) == 2

    def due(self, done: int) -> Ints:
        """Return which groups average after `done` rounds: their period divides it, and none above does so too."""
        wider = np.where(self.above > 0, done % np.maximum(self.above, 1) == 0, False)
        return np.flatnonzero((done % self.periods == 0) & ~wider)

    def averagings(self, rounds: int) -> Ints:
        """Return how often each group has averaged after `rounds` rounds: ⌊R/I_g⌋ − ⌊R/P_above⌋."""
        wider = np.where(self.above > 0, rounds // np.maximum(self.above, 1), 0)
        return rounds // self.periods - wider


class Levels:
    """All levels, the smallest groups first."""

    def __init__(self, levels: Sequence[Level], workers: int, seed: int) -> None:
        """Keep them; `seed` draws the random ones."""
        self.levels, self.workers, self.seed = list(levels), workers, seed
        self._periods = [int(level.periods[0]) for level in self.levels]
        # Those at which all workers average, the widest first.
        world = len(self.levels)
        while world and self.levels[world - 1].world:
            world -= 1
        self._worlds = [(number, self._periods[number]) for number in range(len(self.levels) - 1, world - 1, -1)]
        self._orders: list[tuple[tuple[int, ...], Ints]] = [((), np.arange(workers))] * len(self.levels)

    @property
    def flat(self) -> bool:
        """Whether all workers average in every round."""
        return any(level.world and int(level.periods[0]) == 1 for level in self.levels)

    def world_due(self, round: int) -> int | None:
        """Return the widest level at which all workers average at the end of a round, counted from 0, or None."""
        for number, period in self._worlds:
            if (round + 1) % period == 0:
                return number
        return None

    def world_averagings(self, rounds: int) -> int:
        """Return how often all workers have averaged after `rounds` rounds."""
        return rounds // self._worlds[-1][1] if self._worlds else 0

    def order(self, number: int, round: int) -> Ints:
        """Return the order (workers,) of a level in a round, counted from 0; groups are runs of it."""
        level = self.levels[number]
        if not level.redraw:
            return self._orders[number][1]
        above = self.levels[number + 1] if number + 1 < len(self.levels) else None
        outer = self.order(number + 1, round) if above is not None else np.arange(self.workers)
        if level.redraw == "once":
            draws = np.zeros(len(level.parents) - 1, np.int64)
        else:
            draws = round // (above.periods if above is not None else level.periods[:1])
        upper = self._orders[number + 1][0] if above is not None and above.redraw else ()
        key = (*upper, -1, *draws.tolist())
        if key != self._orders[number][0]:
            self._orders[number] = (key, self._drawn(number, outer, draws))
        return self._orders[number][1]

    def _drawn(self, number: int, outer: Ints, draws: Ints) -> Ints:
        """Shuffle the atoms inside each group of the level above."""
        level, parts = self.levels[number], []
        for parent, draw in enumerate(draws):
            atoms = np.sort(outer[level.parents[parent] : level.parents[parent + 1]]).reshape(-1, level.atom)
            parts.append(atoms[shuffled(len(atoms), self.seed, number, parent, int(draw))].reshape(-1))
        return np.concatenate(parts)


def resolve(options: Sequence[Options], workers: int, seed: int) -> Levels:
    """Return the levels of `[[levels]]`; none of them is the world in every round.

    Args:
        options: The tables, smallest groups first.
        workers: M.
        seed: Of the run.

    Raises:
        ConfigError: groups do not nest, sizes do not divide, or a period does not divide the next one.
    """
    options = list(options) or [Options()]
    groups = [parse_group(one.group, f"levels.{place}.group") for place, one in enumerate(options)]
    bounds = [_bounds(group, workers, f"levels.{place}.group") for place, group in enumerate(groups)]
    levels: list[Level] = []
    world = np.array([0, workers])
    for place in reversed(range(len(options))):
        group, where = groups[place], f"levels.{place}"
        random = isinstance(group, Random) and len(bounds[place]) > 2
        outer = bounds[place + 1] if place + 1 < len(options) else world
        wider = levels[0] if levels else None
        if not _nests(bounds[place], outer):
            raise ConfigError(
                f"{where}.group = {shown(options[place].group)} does not nest in {shown(options[place + 1].group)} "
                "above it: each of its groups must lie inside one group of the next level"
            )
        periods = _periods(options[place], len(bounds[place]) - 1, random, where)
        above = np.zeros(len(periods), np.int64)
        if wider is not None:
            above = wider.periods[np.searchsorted(outer, bounds[place][:-1], side="right") - 1]
            _divide(periods, above, where)
        atom = _atom(groups, bounds, place) if random else 1
        redraw = group.redraw if isinstance(group, Random) and random else ""
        levels.insert(0, Level(bounds[place], periods, above, redraw, atom, outer))
    return Levels(levels, workers, seed)


def _bounds(group: object, workers: int, where: str) -> Ints:
    """Return the bounds of a level's groups."""
    if group == "world":
        sizes = [workers]
    elif group == "node":
        raise ConfigError(f'{where} = "node" is known where a run starts: write {{ sizes = […] }} to plan without one')
    elif isinstance(group, Sizes):
        sizes = group.sizes
        if sum(sizes) != workers:
            raise ConfigError(
                f"{where}.sizes = {shown(sizes)} add up to {sum(sizes)}, and workers.count = {workers}: "
                "write sizes that hold every worker once"
            )
    else:
        assert isinstance(group, Blocks | Random)
        size = group.size if isinstance(group, Blocks) else group.random
        if workers % size:
            value, other = (
                (str(size), ", or { sizes = […] }") if isinstance(group, Blocks) else (f"{{ random = {size} }}", "")
            )
            raise ConfigError(f"{where} = {value} does not divide workers.count = {workers}: take a divisor{other}")
        sizes = [size] * (workers // size)
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _nests(inner: Ints, outer: Ints) -> bool:
    return bool(np.isin(outer, inner).all())


def _periods(options: Options, groups: int, random: bool, where: str) -> Ints:
    period = options.period
    if isinstance(period, int):
        return np.full(groups, period, np.int64)
    if random:
        raise ConfigError(f"{where}.period = {shown(period)}: random groups change, so give one period for all of them")
    if len(period) != groups:
        raise ConfigError(
            f"{where}.period has {len(period)} entries for {groups} groups: write one number, or one for each group"
        )
    return np.array(period, np.int64)


def _divide(periods: Ints, above: Ints, where: str) -> None:
    wrong = np.flatnonzero(above % periods)
    if len(wrong):
        raise ConfigError(
            f"{where}.period = {periods[wrong[0]]} does not divide {above[wrong[0]]}, the period of the level above: "
            "each period must divide the next"
        )


def _atom(groups: Sequence[object], bounds: Sequence[Ints], place: int) -> int:
    """Return the workers that random groups keep together: a group of the nearest level below that stays, or one."""
    for below in reversed(range(place)):
        sizes = np.diff(bounds[below])
        if isinstance(groups[below], Random):
            continue
        if len(set(sizes)) > 1:
            raise ConfigError(
                f"levels.{below}.group has groups of unequal sizes, which the random groups of levels.{place} cannot "
                "keep whole: make them equal"
            )
        return int(sizes[0])
    return 1
