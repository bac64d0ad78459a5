"""mpilocal study: run a grid, print the table of its claims, draw its figures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpilocal.cli import output
from mpilocal.cli import parser as parsing

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

EPILOG = """\
examples:
  mpiexec -n 2 mpilocal study jobs/studies/stich-speedup/study.toml
  mpilocal study jobs/studies/stich-speedup/study.toml --quick -o quick --strict
  mpilocal study jobs/studies/stich-speedup/study.toml --quick -o quick --draw      # no run: table and figures again

Finished runs are kept in FOLDER/runs: the same command goes on where it was stopped.

exit status:
  0 done; 1 with --strict, a claim does not hold; 2 the study's file; 4 data or files"""


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser(
        "study",
        help="run a grid of runs, and check what is claimed of them",
        description="Run a study, print the table of its claims, and draw its figures.",
        epilog=EPILOG,
    )
    verb.add_argument("study", metavar="STUDY.toml", help="the study's file")
    verb.add_argument("-o", "--output", metavar="FOLDER", help="default: studies/NAME")
    size = verb.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="size", action="store_const", const="quick", help="a small size, in minutes")
    size.add_argument("--full", dest="size", action="store_const", const="full", help="the size of the paper")
    verb.add_argument("--strict", action="store_true", help="status 1 where a claim does not hold")
    verb.add_argument("--draw", action="store_true", help="only draw and tell again what FOLDER/results.h5 holds")
    parsing.settings(verb, "change a key of the study, as seeds.report=[1,2]")
    parsing.collective(verb, _study)


def _study(args: argparse.Namespace, comm: Intracomm) -> int:
    from mpilocal import figure
    from mpilocal.errors import agreed
    from mpilocal.study import claims, figures, grid, results, runner, structs

    root = comm.rank == 0
    with agreed(comm):
        study, files = structs.load(args.study, args.size or "", args.set)
        if root and args.size and not getattr(study, args.size):
            output.warn(f"the study has no [{args.size}]: its usual size is run")
        cells = grid.cells_of(study, files)
        axes = grid.axes_of(cells, study.pool)
        keys = grid.keys_of(cells, study.pool)
        claims.check(study.claims, axes, keys, study.names)
        figures.check(study.figures, axes, keys, study.names)
    folder = Path(args.output or default_output(args.study, args.size or ""))
    if args.draw:
        with agreed(comm):
            found = results.read(folder / "results.h5")
    else:
        found = runner.run(study, cells, comm, folder, files, lambda text: output.tell(f"study: {text}"))
    holds = True
    with agreed(comm):
        rows = claims.evaluate(study.claims, found, study.names)
        holds = all(row.holds is not False for row in rows)
        if root:
            said = f"{study.title}\n\n{claims.table(rows)}"
            if defined := claims.notes(study.claims, study.names):
                said += f"\n\nwhere {defined}"
            (folder / "claims.txt").write_text(said + "\n", encoding="utf-8")
            output.say(said)
            drawn = figures.draw(study.figures, found, folder, study.names) if figure.possible() else []
            output.say(f"\nResults: {folder / 'results.h5'}" + "".join(f"\nFigure: {file}" for file in drawn))
    return 0 if holds or not args.strict else 1


def default_output(study: str, size: str) -> str:
    """Return studies/NAME, NAME that of the file or, where it is study.toml, of its folder."""
    path = Path(study).absolute()
    name = path.parent.name if path.stem == "study" else path.stem
    return str(Path("studies") / (f"{name}-{size}" if size else name))
