"""What changes with the round or the step: local steps, step sizes, weights of the iterate averages.

t counts the local steps that a worker has completed; everything is a function of t or of the round, so that
a resumed run needs no state for it. Only + − × ÷ √ are used: the same bits everywhere.
"""

from __future__ import annotations

import bisect
import functools
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpilocal.config import kinds
from mpilocal.errors import ConfigError

Floats = NDArray[np.float64]

WINDOW = 4096  # steps


class Facts(NamedTuple):
    """What a schedule may need to know of the problem."""

    rows: int
    smoothness: float  # L, or nan
    convexity: float  # µ, or 0


@functools.cache
def decimal(value: float) -> Fraction:
    """Return the number as it is written: 0.29 is 29/100, so that ⌊0.29 · 100⌋ is 29."""
    return Fraction(repr(value))


def first_step(kind: kinds.LocalSteps, round: int) -> int:
    """Return the step at which a round (from 0) begins: the local steps completed after that many rounds."""
    if isinstance(kind, kinds.FixedSteps):
        return round * kind.steps
    if isinstance(kind, kinds.PostLocal):
        return min(round, kind.until) + max(round - kind.until, 0) * kind.steps
    # A round has at least one step: t_j = max(t_{j−1} + 1, ⌊c j²⌋) = max(j, ⌊c j²⌋), as c j² − j is convex.
    return max(round, math.floor(decimal(kind.scale) * round**2))


def longest_round(kind: kinds.LocalSteps, rounds: int) -> int:
    """Return the local steps of the longest of `rounds` rounds."""
    if isinstance(kind, kinds.FixedSteps):
        return kind.steps
    if isinstance(kind, kinds.PostLocal):
        return kind.steps if rounds > kind.until else 1
    # Gaps grow by 2c a round, and rounding moves each by less than 1: the longest is among the last 1/c + 2.
    late = max(0, rounds - math.ceil(1 / kind.scale) - 2, rounds - 1_000_000)
    return max(first_step(kind, j + 1) - first_step(kind, j) for j in range(late, rounds))


class Records:
    """The rounds of `output.record_every`, and round 0; the last round is recorded besides."""

    def __init__(self, kind: kinds.RecordEvery) -> None:
        self.kind = kind
        self._rounds = [0]  # as far as they were asked for, of a geometric kind

    def __contains__(self, round: object) -> bool:
        assert isinstance(round, int)
        return round == 0 or self.next(round - 1) == round

    def next(self, rounds: int) -> int:
        """Return the first recorded round after `rounds`."""
        if isinstance(self.kind, kinds.Regular):
            return rounds // self.kind.rounds * self.kind.rounds + self.kind.rounds
        while (last := self._rounds[-1]) <= rounds:
            self._rounds.append(max(last + 1, math.ceil(decimal(self.kind.ratio) * last)))
        return self._rounds[bisect.bisect_right(self._rounds, rounds)]

    def count(self, rounds: int) -> int:
        """Return how many rows a run of `rounds` records."""
        if isinstance(self.kind, kinds.Regular):
            return rounds // self.kind.rounds + 1 + (rounds % self.kind.rounds > 0)
        self.next(rounds)
        return bisect.bisect_left(self._rounds, rounds) + 1


def step_sizes(kind: kinds.StepSize, t: Floats, facts: Facts, local_steps: int) -> Floats:
    """Return η_t for the steps t."""
    if isinstance(kind, kinds.Constant):
        eta = np.full(len(t), kind.value)
    elif isinstance(kind, kinds.InverseTime):
        scale, shift = inverse_time(kind, facts, local_steps)
        eta = scale / (shift + t)
    elif isinstance(kind, kinds.InverseSqrt):
        eta = kind.scale / np.sqrt(kind.shift + t)
    elif isinstance(kind, kinds.Stich):
        eta = np.full(len(t), 32 * kind.c) if kind.constant else np.minimum(32.0, kind.c * facts.rows / (t + 1))
    else:
        eta = np.asarray(kind.values)[np.searchsorted(kind.steps, t, side="right")]
    if kind.warmup:
        eta = eta * np.minimum(1.0, (t + 1) / kind.warmup)
    return np.asarray(eta, np.float64)


def inverse_time(kind: kinds.InverseTime, facts: Facts, local_steps: int) -> tuple[float, float]:
    """Return (scale, shift); "auto" is 4/µ and a = max{16 κ, H} (Stich 2019, Theorem 2.2)."""
    if "auto" in (kind.scale, kind.shift) and facts.convexity <= 0:
        raise ConfigError(
            'algorithm.step_size of kind "inverse-time" needs µ > 0 for "auto": set problem.l2 above 0, '
            "or give both scale and shift as numbers"
        )
    if kind.shift == "auto" and not math.isfinite(facts.smoothness):
        raise ConfigError('algorithm.step_size.shift = "auto" needs a smooth loss: give shift as a number')
    scale = 4 / facts.convexity if kind.scale == "auto" else kind.scale
    if kind.shift != "auto":
        return scale, kind.shift
    return scale, max(16 * facts.smoothness / facts.convexity, float(local_steps))


class Weights:
    """The weights w_t of one iterate average (1/S) Σ_t w_t x̄_t over the iterates before each step, and S."""

    def __init__(self, kind: kinds.IterateAverage, step_size: kinds.StepSize, shift: float, horizon: int) -> None:
        """Resolve `shift` = "auto" to the step size's `shift`, and the tail's beginning by the last step, `horizon`."""
        self.kind = kind
        self.name = str(kind.__struct_config__.tag)
        self.begin = 0
        self.shift = 1.0
        if isinstance(kind, kinds.Tail):
            self.begin = math.floor(decimal(kind.start) * horizon)
        if isinstance(kind, kinds.Linear | kinds.Quadratic):
            own = isinstance(step_size, kinds.InverseTime | kinds.InverseSqrt)
            self.shift = (shift if own else 1.0) if kind.shift == "auto" else kind.shift

    def at(self, t: Floats) -> Floats:
        """Return w_t."""
        if isinstance(self.kind, kinds.Linear):
            return self.shift + t
        if isinstance(self.kind, kinds.Quadratic):
            return (self.shift + t) ** 2
        return np.where(t >= self.begin, 1.0, 0.0)

    def total(self, steps: int) -> float:
        """Return S = Σ_{t < steps} w_t."""
        a = self.shift
        if isinstance(self.kind, kinds.Linear):
            return a * steps + steps * (steps - 1) / 2
        if isinstance(self.kind, kinds.Quadratic):
            # Stich (2019), section 3: S_T = T/6 (2T² + 6aT − 3T + 6a² − 6a + 1).
            return steps / 6 * (2 * steps**2 + 6 * a * steps - 3 * steps + 6 * a**2 - 6 * a + 1)
        return float(max(steps - self.begin, 0))


class Schedule:
    """A run's rounds: `begin(round)` gives the first step, the step sizes and the weights of its local phase."""

    def __init__(
        self,
        local_steps: kinds.LocalSteps,
        step_size: kinds.StepSize,
        averages: tuple[kinds.IterateAverage, ...],
        rounds: int,
        facts: Facts,
        dtype: np.dtype[np.floating],
    ) -> None:
        """Make the buffers."""
        self._made = (step_size, averages, rounds, facts, dtype)
        self._local_steps = local_steps
        self.longest = longest_round(local_steps, rounds)
        self._kind, self._facts = step_size, facts
        shift = 1.0
        if isinstance(step_size, kinds.InverseTime):
            _, shift = inverse_time(step_size, facts, self.longest)
        elif isinstance(step_size, kinds.InverseSqrt):
            shift = step_size.shift
        last = first_step(local_steps, rounds)
        self.averages = [Weights(kind, step_size, shift, last) for kind in averages if not isinstance(kind, kinds.Last)]
        for place, average in enumerate(self.averages):
            earlier = sum(one.kind.__class__ is average.kind.__class__ for one in self.averages[:place])
            average.name += f"_{earlier + 1}" if earlier else ""
        # Many rounds at once: short ones would cost more here than in their local steps.
        window = max(self.longest, min(WINDOW, last))
        self._first = self._last = 0
        self._eta = np.empty(window, dtype)
        self._weights = np.empty((window, len(self.averages)))

    def one_step(self) -> Schedule:
        """Return the schedule of a method that takes one step a round."""
        return Schedule(kinds.FixedSteps(steps=1), *self._made)

    def begin(self, round: int) -> tuple[int, NDArray[np.floating], NDArray[np.floating]]:
        """Return (first step, step sizes (count,), weights (count, averages)) of a round; the arrays are reused."""
        first, last = self.first(round), self.first(round + 1)
        if not self._first <= first <= last <= self._last:
            t = np.arange(first, first + len(self._eta), dtype=np.float64)
            self._eta[:] = step_sizes(self._kind, t, self._facts, self.longest)
            for q, average in enumerate(self.averages):
                self._weights[:, q] = average.at(t)
            self._first, self._last = first, first + len(t)
        begin, end = first - self._first, last - self._first
        return first, self._eta[begin:end], self._weights[begin:end]

    def first(self, round: int) -> int:
        """Return the step at which a round (from 0) begins: the local steps completed after that many rounds."""
        return first_step(self._local_steps, round)

    def eta(self, step: int) -> float:
        """Return η at one step."""
        return float(step_sizes(self._kind, np.array([float(step)]), self._facts, self.longest)[0])
