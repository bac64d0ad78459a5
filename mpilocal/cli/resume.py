"""mpilocal resume: continue a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpilocal.cli import parser as parsing
from mpilocal.cli.run import common

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

EPILOG = """\
examples:
  mpiexec -n 2 mpilocal resume w8a
  mpiexec -n 8 mpilocal resume w8a -s algorithm.rounds=1000       # go on after the end"""


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser(
        "resume",
        help="continue a run",
        description="Continue a run on any number of ranks, bit for bit as if it had never stopped.\n"
        "A run that is done is left as it is, with status 0.",
        epilog=EPILOG,
    )
    verb.add_argument("run", metavar="RUN", help="the run's folder")
    parsing.settings(verb, "change algorithm.rounds, output.*, stop.*, run.threads or run.device; repeat -s for more")
    common(verb)
    parsing.collective(verb, _resume, stoppable=True)


def _resume(args: argparse.Namespace, comm: Intracomm) -> int:
    from mpilocal import api, session
    from mpilocal import config as configs
    from mpilocal.cli.launch import check_size
    from mpilocal.cli.watch import Watch
    from mpilocal.config import Config
    from mpilocal.store.rundir import read_run

    def planned() -> Config:
        before = read_run(args.run).config
        return session.check_changes(before, configs.load(before, args.set))

    if not args.singleton:
        check_size(comm, "--singleton")
    watch = Watch(comm, Path(args.run), args.run)
    watch.announce(planned)
    return watch.finish(api.resume(args.run, comm=comm, overrides=args.set, controls=watch.controls(args)))
