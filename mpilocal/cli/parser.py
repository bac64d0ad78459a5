"""The parser of the command line; under a launcher one process speaks for all."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from mpilocal.cli import launcher, output

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

DESCRIPTION = """\
The Local SGD family on MPI: the same iterates, bit for bit, on any number of ranks.

  mpiexec -n 4 mpilocal run jobs/demo.toml -o demo
  mpilocal show demo"""
EPILOG = "`mpilocal VERB --help` explains a verb and gives an example."


class Parser(argparse.ArgumentParser):
    """Prints help and errors once, by the first process; an error is one sentence."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        options.setdefault("allow_abbrev", False)
        super().__init__(*args, **options)

    def _print_message(self, message: str, file: Any = None) -> None:
        if message and launcher.rank() == 0:
            output.write(file, message)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave with status 2."""
        stray = re.match(r"unrecognized arguments: (.*)", message)
        if stray and "=" in stray[1] and not stray[1].startswith("-"):
            message += " (write -s before each key=value)"
        self.exit(2, f"mpilocal: {message}; see `{self.prog} --help`\n")


def build() -> Parser:
    """Return the parser; after parsing, `args.verb(args)` runs the verb and returns the exit status."""
    from mpilocal import __version__
    from mpilocal.cli import data, doctor, resume, run, show, study, warm

    parser = Parser("mpilocal", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"mpilocal {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=Parser, title="verbs")
    for module in (run, resume, show, study, data, warm, doctor):
        module.add(verbs)
    return parser


def left(end: SystemExit) -> int:
    """Return the status with which the parser left; processes other than the first wait until that has spoken."""
    status = end.code if isinstance(end.code, int) else int(end.code is not None)
    if status and launcher.rank() > 0:
        time.sleep(output.LINGER)
    return status


def collective(
    parser: argparse.ArgumentParser,
    action: Callable[[argparse.Namespace, Intracomm], int],
    stoppable: bool = False,
) -> None:
    """Let a verb return the status of action(args, comm) on all ranks, and add --debug.

    A `stoppable` one finds in `args.signals` whether it is asked to stop, and is deaf from its end on: a second signal
    must not cut the first one's work short.
    """

    def verb(args: argparse.Namespace) -> int:
        from mpilocal.cli.launch import together
        from mpilocal.signals import Signals

        args.signals = Signals(stoppable, keep=True)
        return together(lambda comm: action(args, comm), args.debug, args.signals)

    _verb(parser, verb)


def alone(parser: argparse.ArgumentParser, action: Callable[[argparse.Namespace], int]) -> None:
    """Let a verb return the status of action(args), which needs no MPI, and add --debug."""
    _verb(parser, lambda args: output.alone(lambda: action(args), args.debug))


def _verb(parser: argparse.ArgumentParser, verb: Callable[[argparse.Namespace], int]) -> None:
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(verb=verb)


def as_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")


def settings(parser: argparse.ArgumentParser, help: str) -> None:
    """Add -s key=value, as often as one likes."""
    parser.add_argument("-s", "--set", metavar="KEY=VALUE", action="append", default=[], help=help)


def duration(text: str) -> float:
    """Return the seconds of "90", "1:30", "1:00:00" or SLURM's "2-00:00:00"."""
    said = re.fullmatch(r"(?:(\d+)-)?(\d+(?::\d+){0,2})(\.\d+)?", text.strip())
    parts: Sequence[int] = [int(part) for part in said[2].split(":")] if said else []
    if said is None or (said[1] and len(parts) != 3) or any(part >= 60 for part in parts[1:]):
        raise argparse.ArgumentTypeError(f'"{text}" is not a time: write seconds, MM:SS, HH:MM:SS or D-HH:MM:SS')
    seconds = 0
    for part in parts:
        seconds = 60 * seconds + part
    return int(said[1] or 0) * 86400 + seconds + float(said[3] or 0)


def count(text: str) -> int:
    """Return an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number of at least 1')
    return int(text)
