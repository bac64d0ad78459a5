"""Running the cells of a study, several side by side on split communicators; finished runs are kept on disk."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from mpilocal import atomic, session
from mpilocal.errors import ConfigError, DataError, DivergedError, agreed
from mpilocal.session import Controls
from mpilocal.store import lock
from mpilocal.study import results
from mpilocal.study import tune as tuning
from mpilocal.study.grid import Cell, Unit, axes_of, unit_of
from mpilocal.study.quantities import score
from mpilocal.study.results import Results, Run
from mpilocal.study.structs import Study, Tune

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


TOLD_SECONDS = 10.0  # between two lines on how far it is


class Plan(NamedTuple):
    """What is known so far."""

    wanted: list[Unit]  # runs that can be made now
    ready: list[Unit]  # those that are reported, in the order of the results
    tuning: list[Unit]  # those that tuned, likewise
    edges: list[str]  # cells whose best value lies at an end of what was tried


class Shelf:
    """The finished runs on disk, each read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, Run] = {}

    def file(self, unit: Unit) -> Path:
        """Return where a run is kept."""
        return self.folder / f"{unit.digest}.h5"

    def get(self, unit: Unit) -> Run | None:
        """Return a run, or None where it is not finished."""
        if unit.digest not in self._read:
            found = results.read_run(self.file(unit))
            if found is None:
                return None
            self._read[unit.digest] = found
        return self._read[unit.digest]


def run(
    study: Study,
    cells: list[Cell],
    comm: Intracomm,
    folder: Path,
    files: Path,
    told: Callable[[str], None] = lambda text: None,
) -> Results:
    """Run what is not yet in `folder`, and return all results on all ranks; collective.

    Args:
        study: What to run.
        cells: Of its grid.
        comm: All ranks that take part; each run gets as few of them as keep all busy.
        folder: Where finished runs are kept; results.h5 is written there.
        files: Where relative files of the configs are looked for.
        told: Called on root with a line now and then.

    Raises:
        LaunchError: another process is at work in the folder.
        MpilocalError: of a run that cannot be; one that diverges is a result.
    """
    held = -1
    with agreed(comm):
        if comm.rank == 0:
            held = _hold(folder)
    try:
        return _run(study, cells, comm, folder, files, told)
    finally:
        if held >= 0:
            os.close(held)


def _hold(folder: Path) -> int:
    """Make the folder and hold it; what a killed writer left goes."""
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {folder}: {error.strerror}; name another one with -o") from error
    held = lock.hold(folder)
    for place in (folder, folder / "runs"):
        atomic.sweep(place)
    return held


def _run(
    study: Study, cells: list[Cell], comm: Intracomm, folder: Path, files: Path, told: Callable[[str], None]
) -> Results:
    begin, done = time.monotonic(), 0
    shelf = Shelf(folder / "runs")
    while True:
        with agreed(comm):
            plan = _plan(study, cells, shelf) if comm.rank == 0 else None
        plan = comm.bcast(plan)
        assert plan is not None
        if not plan.wanted:
            break
        if comm.rank == 0:
            told(f"{done} runs made, {len(plan.wanted)} more, {time.monotonic() - begin:.0f} s")
        said = time.monotonic()
        for _ in _shared_out(cells, plan.wanted, comm, shelf, files):
            if comm.rank == 0 and time.monotonic() - said > TOLD_SECONDS:
                said = time.monotonic()
                more = sum(not shelf.file(unit).exists() for unit in plan.wanted)
                told(f"{done + len(plan.wanted) - more} runs made, {more} more, {said - begin:.0f} s")
        done += len(plan.wanted)
    found = None
    with agreed(comm):
        if comm.rank == 0:
            for name in plan.edges:
                told(f"warning: the best value lies at an end of all that were tried in the cell {name}")
            runs = []
            for unit in [*plan.ready, *plan.tuning]:
                if (one := shelf.get(unit)) is not None:
                    runs.append(one._replace(cell=cells[unit.cell].key, tuned=unit.tuned))
            found = Results(study.title, axes_of(cells, study.pool), runs, study.pool)
            results.write(folder / "results.h5", found)
    everywhere: Results | None = comm.bcast(found)
    assert everywhere is not None
    return everywhere


def _plan(study: Study, cells: list[Cell], shelf: Shelf) -> Plan:
    """Return what to run next: the values to try in each cell, and where they are settled the reported seeds."""
    wanted: dict[str, Unit] = {}  # cells may share runs
    plan = Plan([], [], [], [])
    for place, cell in enumerate(cells):
        tuned: dict[str, Any] | None = {}
        if cell.tune is not None:
            tuned, missing = _settled(study, cells, place, cell.tune, shelf, plan)
            wanted |= {unit.digest: unit for unit in missing}
        if tuned is not None:
            units = [unit_of(cells, place, seed, "report", tuned) for seed in cell.seeds.report]
            plan.ready.extend(units)
            wanted |= {unit.digest: unit for unit in units if shelf.get(unit) is None}
    plan.wanted.extend(wanted.values())
    return plan


def _settled(
    study: Study, cells: list[Cell], place: int, tune: Tune, shelf: Shelf, plan: Plan
) -> tuple[dict[str, Any] | None, list[Unit]]:
    """Return what was chosen in a cell, or None and what has yet to be run for that."""
    missing: list[Unit] = []
    bests: list[tuple[float, dict[str, Any], bool]] = []
    for family in tune.families:
        scores: dict[float, float] = {}
        following: list[float] = family.values
        lacking: list[Unit] = []
        while following and not lacking:
            for value in following:
                tuned = {**family.set, tune.key: value}
                units = [unit_of(cells, place, seed, "tune", tuned) for seed in cells[place].seeds.tune]
                plan.tuning.extend(units)
                runs = [shelf.get(unit) for unit in units]
                lacking += [unit for unit, run in zip(units, runs, strict=True) if run is None]
                found = [score(tune.quantity, run, tune.largest, study.names) for run in runs if run is not None]
                scores[value] = sum(found) / len(found) if found else math.inf
            following = tuning.missing(family, tune.extensions, scores)
        missing += lacking
        best = tuning.chosen(scores)
        bests.append((scores[best], {**family.set, tune.key: best}, tuning.interior(scores)))
    if missing:
        return None, missing
    _, tuned, interior = min(bests, key=lambda one: (not math.isfinite(one[0]), one[0]))
    if not interior:
        plan.edges.append(cells[place].name)
    return tuned, []


def _shared_out(
    cells: list[Cell], wanted: Sequence[Unit], comm: Intracomm, shelf: Shelf, files: Path
) -> Iterator[Unit]:
    """Run units on equal parts of the ranks, the costly ones first, and yield those made here; collective."""
    # As many runs side by side as there are; no run gets more ranks than it has workers.
    parts = max(min(comm.size, len(wanted)), -(-comm.size // min(_most(unit) for unit in wanted)))
    part = comm.rank * parts // comm.size
    own = cast("Intracomm", comm.Split(part, comm.rank))
    order = sorted(wanted, key=lambda unit: -unit.cost)
    try:
        with agreed(comm):
            for unit in order[part::parts]:
                status, history = _one(unit, cells, own, files)
                with agreed(own):
                    if own.rank == 0:
                        results.write_run(shelf.file(unit), unit, cells[unit.cell], status, history)
                yield unit
    finally:
        own.Free()


def _one(unit: Unit, cells: list[Cell], comm: Intracomm, files: Path) -> tuple[str, dict[str, results.Column]]:
    """Make one run; return its status and, on root, its history."""
    try:
        ended = session.begin(unit.config, comm, files, None, Controls(time.monotonic()))
        return ended.outcome.status, ended.columns
    except DivergedError:
        return "diverged", {}
    except ConfigError as error:
        raise ConfigError(f"in the cell {cells[unit.cell].name}: {error}") from error


def _most(unit: Unit) -> int:
    """Return the ranks that a run can use."""
    count = unit.config.workers.count
    return count if isinstance(count, int) else 1 << 30
