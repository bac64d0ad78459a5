"""Calls the command line many times on the ranks of one launch; prints the status and the stderr of every rank."""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from mpi4py import MPI

from mpilocal.cli import main


def all_of(calls: list[tuple[str, list[str]]]) -> dict[str, list[tuple[int, str]]]:
    world = MPI.COMM_WORLD
    found = {}
    for name, argv in calls:
        if world.rank == 0:
            print(name, file=sys.stderr, flush=True)  # of a hang it tells where
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = main(argv)
        found[name] = world.gather((status, err.getvalue()))
        world.Barrier()
    return found


said = all_of(json.loads(Path(sys.argv[1]).read_text()))
if MPI.COMM_WORLD.rank == 0:
    Path(sys.argv[2]).write_text(json.dumps(said))
