"""mpilocal warm: compile ahead of a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpilocal.cli import output
from mpilocal.cli import parser as parsing

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

    from mpilocal.config import Config

EPILOG = """\
examples:
  mpilocal warm                        # the kernels of every run in float64
  mpilocal warm jobs/w8a.toml          # what this run needs
  srun --ntasks-per-node=1 mpilocal warm jobs/w8a.toml"""


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser(
        "warm",
        help="compile the kernels ahead of a run",
        description="Compile what a run needs into the cache without running it; without CONFIG, the kernels for\n"
        "dense and sparse data. On one rank, or on one of each node whose cache is its own.",
        epilog=EPILOG,
    )
    verb.add_argument("config", metavar="CONFIG", nargs="?", help="a TOML file")
    parsing.settings(verb, "override a key of the config")
    parsing.as_json(verb)
    parsing.collective(verb, _warm)


def _warm(args: argparse.Namespace, comm: Intracomm) -> int:
    from mpilocal import config as configs
    from mpilocal.errors import agreed
    from mpilocal.kernels.compile import cache_folder

    folder = Path(args.config or ".").absolute().parent
    if args.config:
        with agreed(comm):
            config = configs.load(args.config, args.set)
        seconds = _compile(config, comm, folder)
    else:
        with agreed(comm):
            seconds = _samples(args.set)
    if comm.rank == 0:
        facts = {"cache": str(cache_folder()), "seconds": round(seconds, 3)}
        if args.json:
            output.say_json(facts)
        else:
            output.say(f"The kernels are in {facts['cache']} ({seconds:.1f} s).")
    return 0


def _compile(config: Config, comm: Intracomm, folder: Path) -> float:
    from mpilocal import warm
    from mpilocal.prepare import prepare

    made = prepare(config, comm, folder)
    try:
        return warm.compile_once(made, comm)
    finally:
        made.close()


def _samples(settings: list[str]) -> float:
    """Compile for tiny problems, one dense and one sparse, whose kernels are those of every run; each rank alone."""
    import tempfile

    import numpy as np
    from mpi4py import MPI

    from mpilocal import config as configs

    seconds = 0.0
    with tempfile.TemporaryDirectory(prefix="mpilocal-warm-") as scratch:
        sparse, dense = Path(scratch, "rows"), Path(scratch, "rows.npz")
        sparse.write_text("-1 1:1\n+1 2:1\n")
        np.savez(dense, x=np.eye(2), y=np.array([-1.0, 1.0]))
        for source in (sparse, dense):
            table = {
                "data": {"source": str(source)},
                "problem": {"l2": 0.1},
                "workers": {"count": 1},
                "algorithm": {"rounds": 1, "step_size": 0.1},
            }
            seconds += _compile(configs.load(table, settings), MPI.COMM_SELF, Path(scratch))
    return seconds
