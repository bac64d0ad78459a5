"""mpilocal warm: compile ahead of a run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from mpilocal.cli import output
from mpilocal.cli import parser as parsing

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

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
    parsing.debug(verb)
    verb.set_defaults(verb=main)


def main(args: argparse.Namespace) -> int:
    """Run the verb."""
    from mpilocal.cli.launch import together

    return together(lambda comm: _warm(args, comm), args.debug)


def _warm(args: argparse.Namespace, comm: Intracomm) -> int:
    import tempfile
    from pathlib import Path

    from mpilocal import config as configs
    from mpilocal.config import Config
    from mpilocal.errors import agreed
    from mpilocal.kernels.compile import cache_folder

    with tempfile.TemporaryDirectory(prefix="mpilocal-warm-") as scratch:
        found: list[Config] = []
        folder = Path(args.config).absolute().parent if args.config else Path.cwd()
        with agreed(comm):
            if args.config:
                found = [configs.load(args.config, args.set)]
            else:
                found = [configs.load(table, args.set) for table in samples(Path(scratch), comm.size)]
        seconds = sum(_compile(config, comm, folder) for config in found)
    if comm.rank == 0:
        facts = {"cache": str(cache_folder()), "seconds": round(seconds, 3)}
        if args.json:
            output.say_json(facts)
        else:
            output.say(f"The kernels are in {facts['cache']} ({seconds:.1f} s).")
    return 0


def _compile(config: Any, comm: Intracomm, folder: Any) -> float:
    from mpilocal import warm
    from mpilocal.prepare import prepare

    made = prepare(config, comm, folder)
    try:
        return warm.compile_once(made, comm)
    finally:
        made.close()


def samples(folder: Any, workers: int) -> list[dict[str, Any]]:
    """Return configs of tiny problems, one dense and one sparse, whose kernels are those of every run."""
    text = folder / "rows.txt"
    text.write_text("".join(f"{1 if row % 2 else -1} {1 + row % 3}:1\n" for row in range(2 * workers + 2)))
    return [
        {
            "data": {"source": source, "features": 3} if source == str(text) else {"source": source},
            "problem": {"loss": "logistic", "l2": 0.1},
            "workers": {"count": workers},
            "algorithm": {"rounds": 1, "step_size": 0.1},
        }
        for source in (str(text), "sklearn:breast_cancer")
    ]
