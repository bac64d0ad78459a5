"""Running the cells of a study, several side by side on split communicators; finished runs are kept on disk."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from mpilocal import session
from mpilocal.errors import ConfigError, DivergedError, agreed
from mpilocal.session import Controls
from mpilocal.study import results, tune
from mpilocal.study.grid import Cell, Unit, axes_of, unit_of
from mpilocal.study.quantities import score
from mpilocal.study.results import Results
from mpilocal.study.structs import Study

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


class Plan(NamedTuple):
    """What is known so far."""

    wanted: list[Unit]  # runs that can be made now
    ready: list[Unit]  # those that are reported, in the order of the results
    tuning: list[Unit]  # those that tuned, likewise
    edges: list[str]  # cells whose best value lies at an end of what was tried


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
        MpilocalError: of a run that cannot be; one that diverges is a result.
    """
    kept = folder / "runs"
    with agreed(comm):
        if comm.rank == 0:
            kept.mkdir(parents=True, exist_ok=True)
    begin, done = time.monotonic(), 0
    while True:
        with agreed(comm):
            plan = _plan(study, cells, kept) if comm.rank == 0 else None
        plan = comm.bcast(plan)
        assert plan is not None
        if not plan.wanted:
            break
        if comm.rank == 0:
            told(f"{done} runs made, {len(plan.wanted)} more, {time.monotonic() - begin:.0f} s")
        _share_out(study, cells, plan.wanted, comm, kept, files)
        done += len(plan.wanted)
    found = None
    with agreed(comm):
        if comm.rank == 0:
            for name in plan.edges:
                told(f"warning: the best value lies at an end of all that were tried in the cell {name}")
            runs = [one for unit in [*plan.ready, *plan.tuning] if (one := results.read_run(_file(kept, unit)))]
            found = Results(study.title, axes_of(cells), runs)
            results.write(folder / "results.h5", found)
    everywhere: Results | None = comm.bcast(found)
    assert everywhere is not None
    return everywhere


def _plan(study: Study, cells: list[Cell], kept: Path) -> Plan:
    """Return what to run next: the values to try in each cell, and where they are settled the reported seeds."""
    tuning = study.tuning()
    wanted: list[Unit] = []
    ready: list[Unit] = []
    tried: list[Unit] = []
    edges: list[str] = []
    for place, cell in enumerate(cells):
        value: float | None = None
        if tuning is not None:
            scores: dict[float, float] = {}
            following = tuning.values
            settled = True
            while following and settled:
                for one in following:
                    units = [unit_of(study, cells, place, seed, "tune", one) for seed in study.seeds.tune]
                    runs = [results.read_run(_file(kept, unit)) for unit in units]
                    wanted += [unit for unit, run in zip(units, runs, strict=True) if run is None]
                    settled = settled and None not in runs
                    tried += units
                    found = [
                        score(tuning.quantity, run, tuning.largest, study.names) for run in runs if run is not None
                    ]
                    scores[one] = sum(found) / len(found) if found else math.inf
                following = tune.missing(tuning, scores) if settled else []
            if not settled:
                continue
            value = tune.chosen(scores)
            if not tune.interior(scores):
                edges.append(cell.name)
        units = [unit_of(study, cells, place, seed, "report", value) for seed in study.seeds.report]
        ready += units
        wanted += [unit for unit in units if results.read_run(_file(kept, unit)) is None]
    return Plan(wanted, ready, tried, edges)


def _share_out(
    study: Study, cells: list[Cell], wanted: Sequence[Unit], comm: Intracomm, kept: Path, files: Path
) -> None:
    """Run units on equal parts of the ranks, the costly ones first; collective."""
    # As many runs side by side as there are; no run gets more ranks than it has workers.
    parts = max(min(comm.size, len(wanted)), -(-comm.size // min(_most(unit) for unit in wanted)))
    part = comm.rank * parts // comm.size
    own = cast("Intracomm", comm.Split(part, comm.rank))
    order = sorted(wanted, key=lambda unit: -unit.cost)
    tuning = study.tuning()
    key = None if tuning is None else tuning.key
    try:
        with agreed(comm):
            for unit in order[part::parts]:
                status, history = _one(unit, cells, own, files)
                with agreed(own):
                    if own.rank == 0:
                        results.write_run(_file(kept, unit), unit, cells[unit.cell], key, status, history)
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


def _file(kept: Path, unit: Unit) -> Path:
    return kept / f"{unit.digest}.h5"
