"""mpilocal doctor: whether this machine and this launch are fit for a run."""

from __future__ import annotations

import argparse
from typing import Any

from mpilocal.cli import output
from mpilocal.cli import parser as parsing

EPILOG = """\
examples:
  mpilocal doctor
  mpiexec -n 4 mpilocal doctor --output /scratch/runs
  srun --mpi=pmi2 mpilocal doctor --json"""


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser(
        "doctor",
        help="check the machine and the launch",
        description="Check MPI, threads, the cache of compiled kernels, HDF5 and the output folder.\n"
        "Each item is ok, a note, a warning, or broken; the exit status is 0 unless something is broken.",
        epilog=EPILOG,
    )
    verb.add_argument("--output", metavar="DIR", default=".", help="the folder where runs will be (default: here)")
    parsing.as_json(verb)
    parsing.collective(verb, _doctor)


def _doctor(args: argparse.Namespace, comm: Any) -> int:
    from pathlib import Path

    from mpilocal import doctor
    from mpilocal.cli import launcher

    items = doctor.examine(comm, Path(args.output), launcher.launched(), launcher.variables())
    # Of P singletons, each the root of its own world, one speaks.
    if comm.rank == 0 and launcher.rank() == 0:
        if args.json:
            output.say_json({"status": doctor.status(items), "items": [item._asdict() for item in items]})
        else:
            output.say(doctor.text(items))
    return doctor.status(items)
