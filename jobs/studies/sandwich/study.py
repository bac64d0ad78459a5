"""The sandwich study: is H-SGD between Local SGD with period I and with period G? Wang et al. (2022).

Example:
    python jobs/studies/sandwich/study.py --quick -o sandwich
    mpiexec -n 2 python -m mpi4py jobs/studies/sandwich/study.py --data mnist -o sandwich-mnist
    python jobs/studies/sandwich/study.py --draw sandwich

It runs on any number of ranks, with the same results, and writes into FOLDER: results.h5 (a row for every run),
claims.txt (the table), curves and sandwich (figures, as PNG and SVG).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import claims
import figures
import results
import tomli_w
from bounds import limit
from runs import FULL, GLOBAL, NORMAL, QUICK, Case, Size, cases, digits_smoothness

import mpilocal
from mpilocal import atomic
from mpilocal.config.structs import to_builtins
from mpilocal.errors import MpilocalError
from mpilocal.tree.levels import resolve

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

HERE = Path(__file__).resolve().parent


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    text, _, example = (__doc__ or "").partition("Example:")
    found = argparse.ArgumentParser(
        description=text, epilog=f"Example:{example}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = found.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="shorter runs, fewer seeds")
    size.add_argument("--full", action="store_true", help="longer runs, more groupings; all 60,000 images of MNIST")
    found.add_argument("-o", "--output", type=Path, default=Path("sandwich"), metavar="FOLDER", help="where to write")
    found.add_argument(
        "--data",
        choices=("digits", "mnist", "femnist"),
        default="digits",
        help="digits comes with scikit-learn; the others are below the folder MPILOCAL_DATA (femnist: by writer)",
    )
    found.add_argument("--draw", type=Path, metavar="FOLDER", help="run nothing: table and figures from FOLDER")
    return found


def measured(case: Case, comm: Intracomm) -> results.Row:
    """Run one case; collective."""
    overrides = [*case.overrides, f"run.seed={case.seed}"]
    found = mpilocal.run(HERE / "sandwich.toml", comm=comm, overrides=overrides)
    config = found.config
    tree = resolve(config.levels, int(config.workers.count), config.run.seed)
    groups = [len(level.periods) for level in tree.levels]
    return results.Row(
        case.part,
        case.scheme,
        case.seed,
        "\n".join(overrides),
        tomli_w.dumps(to_builtins(config)),
        results.digest(found.average),
        results.curves(found.history, groups),
    )


def study(data: str, size: Size, full: bool, comm: Intracomm) -> results.Results:
    """Make all runs; collective, the same on all ranks."""
    every = list(cases(data, size, full))
    rows: list[results.Row] = []
    begin = time.monotonic()
    for number, case in enumerate(every, 1):
        rows.append(measured(case, comm))
        if comm.rank == 0:
            seconds = time.monotonic() - begin
            said = f"{number}/{len(every)} {case.part}, {case.scheme}, seed {case.seed}: loss {rows[-1].last():.4f}"
            print(f"{seconds:6.1f} s  {said}", file=sys.stderr, flush=True)
    smoothness = digits_smoothness()
    facts = {
        "data": data,
        "rounds": size.rounds,
        "smoothness": smoothness,
        "gamma": limit(smoothness, GLOBAL),
        "creator": f"mpilocal {mpilocal.__version__}",
    }
    return results.Results(rows, facts)


def show(folder: Path) -> None:
    """Print the table and draw the figures from results.h5 alone."""
    found = results.read(folder / "results.h5")
    text = claims.printed(claims.table(found))
    atomic.write(folder / "claims.txt", lambda path: path.write_text(text + "\n", encoding="utf-8"))
    print(text)
    for file in figures.draw(found, folder):
        print(file)


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    given = parser().parse_args()
    if given.draw is not None:
        show(given.draw)
        return 0
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    size = QUICK if given.quick else FULL if given.full else NORMAL
    try:
        found = study(given.data, size, given.full, comm)
    except (MpilocalError, FileNotFoundError) as error:
        if comm.rank == 0:
            print(f"study.py: {error}", file=sys.stderr)
        return error.status if isinstance(error, MpilocalError) else 4
    if comm.rank == 0:
        given.output.mkdir(parents=True, exist_ok=True)
        results.write(found, given.output / "results.h5")
        show(given.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
