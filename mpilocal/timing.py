"""Where the time goes: seconds of each section on each rank, and the table at the end of a run (LAMMPS manner)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

SECTIONS = ("local", "average", "wait", "evaluate", "output")
TITLES = {
    "local": "local steps",
    "average": "averaging",
    "wait": "  of it waiting",
    "evaluate": "evaluation",
    "output": "output",
    "other": "other",
}


class Section:
    """Counts the seconds of a block; made once, as a round of one step is no longer than its clocks."""

    __slots__ = ("_before", "_begin", "_clock", "_name")

    def __init__(self, clock: Clock, name: str) -> None:
        """Count for `clock`."""
        self._clock, self._name = clock, name
        self._before, self._begin = "", 0.0

    def __enter__(self) -> None:
        """Begin."""
        self._before, self._clock.section = self._clock.section, self._name
        self._begin = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        """End."""
        self._clock.seconds[self._name] += time.perf_counter() - self._begin
        self._clock.section = self._before


class Clock:
    """Seconds of each section on this rank since the start of the loop."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.seconds = dict.fromkeys(SECTIONS, 0.0)
        self.begin = time.perf_counter()
        self.section = "set-up"  # where the rank is now, for the watchdog
        self._sections = {name: Section(self, name) for name in SECTIONS}

    def __call__(self, section: str) -> Section:
        """Return what counts the seconds of a block, which may lie in one of another section."""
        return self._sections[section]

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the loop."""
        return time.perf_counter() - self.begin


def spread(comm: Intracomm | None, clock: Clock, levels: Sequence[float] = ()) -> dict[str, tuple[float, float, float]]:
    """Return section → (min, mean, max) over ranks, with "loop" (local and averaging) and "total"; collective.

    `levels` are the seconds in the averagings of each level: "level1", …
    """
    seconds = clock.seconds
    total = clock.elapsed
    known = seconds["local"] + seconds["average"] + seconds["evaluate"] + seconds["output"]
    loop = seconds["local"] + seconds["average"]
    names = [*SECTIONS, "other", "loop", "total", *(f"level{number}" for number in range(1, len(levels) + 1))]
    mine = np.array([*(seconds[name] for name in SECTIONS), max(total - known, 0.0), loop, total, *levels])
    least, most, mean = mine.copy(), mine.copy(), mine.copy()
    if comm is not None and comm.size > 1:
        from mpi4py import MPI

        comm.Allreduce(mine, least, MPI.MIN)
        comm.Allreduce(mine, most, MPI.MAX)
        comm.Allreduce(mine, mean, MPI.SUM)
        mean /= comm.size
    return {name: (least[i], mean[i], most[i]) for i, name in enumerate(names)}


def waiting(comm: Intracomm | None, waits: list[float]) -> float:
    """Return Σ over averagings of this rank's seconds in the first message less the smallest over ranks; collective.

    Infinity stands for an averaging in which a rank took no part.
    """
    if comm is None or comm.size == 1 or not waits:
        return 0.0
    from mpi4py import MPI

    mine: NDArray[np.float64] = np.array(waits)
    least = np.empty_like(mine)
    comm.Allreduce(mine, least, MPI.MIN)
    part = np.isfinite(mine)
    return float(np.sum(mine[part] - least[part]))


def titles(levels: int) -> dict[str, str]:
    """Return section → its title in the table, with a line for each level where there are several."""
    found = dict(TITLES)
    if levels < 2:
        return found
    inner = {f"level{number}": f"  level {number}" for number in range(1, levels + 1)}
    return {
        name: title
        for key, said in found.items()
        for name, title in {key: said, **(inner if key == "average" else {})}.items()
    }


def table(timings: Mapping[str, Any], ledger: Mapping[str, int], facts: Mapping[str, Any]) -> str:
    """Return the table at the end of a run.

    Args:
        timings: `SECTION_min`, `_mean`, `_max` in seconds.
        ledger: averagings, vectors, bytes of each level, as `level1/averagings`, …, and what a closed form expects
            as `level1/expected`.
        facts: ranks, threads, workers, rounds, samples.
    """
    loop = timings["loop_max"]
    levels = sum(f"level{number}/averagings" in ledger for number in range(1, len(ledger) + 1))

    def line(title: str, name: str) -> str:
        least, mean, most = (timings[f"{name}_{kind}"] for kind in ("min", "mean", "max"))
        share = 100 * mean / timings["total_mean"] if timings["total_mean"] else 0.0
        return f"{title:<16} {least:>10.4g} {mean:>10.4g} {most:>10.4g} {share:>6.1f}"

    def many(count: int, thing: str) -> str:
        return f"{count:,} {thing}{'' if count == 1 else 's'}"

    lines = [
        f"Loop of {loop:.4g} s on {many(facts['ranks'], 'rank')} × {many(facts['threads'], 'thread')} for "
        f"{many(facts['rounds'], 'round')} of {many(facts['workers'], 'worker')}, {many(facts['samples'], 'sample')}",
        "",
        f"{'Section':<16} {'min':>10} {'avg':>10} {'max':>10} {'%':>6}",
        "-" * 56,
        *(line(title, name) for name, title in titles(levels).items()),
        line("total", "total"),
        "(seconds over the ranks, without start-up)",
        "",
    ]
    for level in range(1, levels + 1):
        averagings, vectors, size = (ledger[f"level{level}/{key}"] for key in ("averagings", "vectors", "bytes"))
        expected = ledger.get(f"level{level}/expected")
        said = f"Level {level}: {many(averagings, 'averaging')}, {many(vectors, 'vector')}, {many(size, 'byte')}"
        if expected is not None:
            said += ", as the closed form says ✓" if expected == size else f" ✗ the closed form says {expected:,}"
        lines.append(said)
    if loop > 0:
        lines.append(f"Performance: {facts['samples'] / loop:.4g} samples/s, {facts['rounds'] / loop:.4g} rounds/s")
    return "\n".join(lines)
