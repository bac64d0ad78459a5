"""What a method is: a start, one or more phases of a round, and what it needs to be told.

A method is a function `method(setting, **options) -> Algorithm`, its options the keyword-only arguments that
`[algorithm.options]` may give. Its state is a NamedTuple of arrays with the field `x`, (workers here, dim): the
local iterates. A phase is `local`, which computes without communication, and `average`, which communicates
without sampling. Nothing in a method knows a clock, a file or a rank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpilocal.config.structs import Algorithm as Options
from mpilocal.errors import ConfigError
from mpilocal.kernels.shard import Draws
from mpilocal.problem import Problem
from mpilocal.schedules import Schedule
from mpilocal.tree import Tree

Array = NDArray[np.floating]


class Setting(NamedTuple):
    """What a method is given."""

    options: Options  # the table [algorithm]
    problem: Problem
    tree: Tree
    schedule: Schedule
    seed: int

    @property
    def batch(self) -> int:
        """Samples per step; 0 for all rows of the worker."""
        return 0 if self.options.batch == "all" else self.options.batch

    def draws(self, batch: int) -> Draws:
        """Return how this rank's workers sample."""
        return Draws(np.uint64(self.seed), self.tree.first, self.options.sampling == "reshuffle", batch)


class Phase(NamedTuple):
    """A local phase and the averaging after it; both change the arrays of the state in place."""

    local: Callable[[Any, int], None]  # (state, round): compute
    average: Callable[[Any, Tree, int], None]  # (state, tree, round): communicate


class Algorithm(NamedTuple):
    """A method, ready to run."""

    init: Callable[[Array], Any]  # x0 (dim,) → state
    phases: tuple[Phase, ...]
    steps: Callable[[int], int]  # completed rounds → local steps that a worker has completed
    samples: Callable[[int], int]  # completed rounds → samples that all workers have drawn
    common: frozenset[str] = frozenset()  # fields of the state that are equal on all ranks
    vectors: int = 1  # of length dim that a worker gives to the averagings of a round
    averages: Callable[[Any, Tree, int], dict[str, Array]] = lambda state, tree, rounds: {}  # x̂ by name; collective
    warm: Callable[[], None] = lambda: None  # call the kernels that only this method uses on nothing


def refuse_outer_steps(setting: Setting) -> None:
    """Refuse the step sizes of a server (see `server`), for a method in which they do not act."""
    options = setting.options
    if options.server_step_size != 1 or options.inner_step_size is not None:
        raise ConfigError(f'algorithm.server_step_size and inner_step_size do not act in "{options.name}": remove them')


def samples_of(setting: Setting, per_step: int) -> Callable[[int], int]:
    """Return rounds → samples drawn by all workers when each draws `per_step` a step (0: all its rows)."""
    schedule, workers = setting.schedule, setting.tree.workers
    each = workers * per_step if per_step else setting.problem.sampled_rows
    return lambda rounds: schedule.first(rounds) * each
