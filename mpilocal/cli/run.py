"""mpilocal run: run a config."""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpilocal.cli import parser as parsing

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

EPILOG = """\
examples:
  mpiexec -n 4 mpilocal run jobs/w8a.toml -o w8a
  mpiexec -n 4 mpilocal run jobs/w8a.toml -s algorithm.local_steps=32 -s algorithm.rounds=100
  srun mpilocal run jobs/w8a.toml -o w8a --or-resume --max-time 0:55:00     # in a batch script

exit status:
  0 done; 2 usage or config; 4 data or files; 5 diverged; 6 MPI, the launcher or a stalled rank; 7 no usable
  checkpoint; 75 stopped by a signal or --max-time with a valid checkpoint: resume or requeue"""


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser(
        "run", help="run a config", description="Run a config on all ranks of the launch.", epilog=EPILOG
    )
    verb.add_argument("config", metavar="CONFIG", help="a TOML file; the config.toml of a run is one too")
    verb.add_argument("-o", "--output", metavar="RUN", help="the run's folder (default: runs/NAME-TIMESTAMP)")
    parsing.settings(verb, "override a key of the config, such as algorithm.rounds=100; repeat -s for more")
    verb.add_argument("--or-resume", action="store_true", help="continue RUN where it holds this run already")
    common(verb)
    parsing.collective(verb, _run, stoppable=True)


def common(verb: argparse.ArgumentParser) -> None:
    """Add what run and resume share."""
    verb.add_argument(
        "--max-time",
        metavar="TIME",
        type=parsing.duration,
        help="stop with a checkpoint and status 75 after so many seconds, or MM:SS, HH:MM:SS, D-HH:MM:SS",
    )
    verb.add_argument(
        "--singleton", action="store_true", help="run although the launcher started more processes than MPI sees ranks"
    )


def _run(args: argparse.Namespace, comm: Intracomm) -> int:
    from mpilocal import api
    from mpilocal import config as configs
    from mpilocal.cli.launch import check_size
    from mpilocal.cli.watch import Watch
    from mpilocal.errors import ConfigError
    from mpilocal.store.rundir import holds_run

    if not args.singleton:
        check_size(comm, "--singleton")
    if args.or_resume and args.output is None:
        raise ConfigError("--or-resume needs the folder of the run: name it with -o RUN")
    path = Path(comm.bcast(args.output or str(default_output(args.config))))
    watch = Watch(comm, path, args.config)
    controls = watch.controls(args)
    if args.or_resume or not holds_run(path):
        watch.announce(lambda: configs.load(args.config, args.set))
    result = api.run(
        args.config, comm=comm, output=path, overrides=args.set, or_resume=args.or_resume, controls=controls
    )
    return watch.finish(result)


def default_output(config: str) -> Path:
    """Return runs/NAME-TIMESTAMP, which does not exist yet."""
    stem = Path(config).stem or "run"
    path = base = Path("runs") / f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    number = 2
    while path.exists():
        path = base.with_name(f"{base.name}-{number}")
        number += 1
    return path
