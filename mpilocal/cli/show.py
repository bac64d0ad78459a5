"""mpilocal show: what a run is and how it stands, also while it lives; without MPI."""

from __future__ import annotations

import argparse
from typing import Any

from mpilocal.cli import output
from mpilocal.cli import parser as parsing

EPILOG = """\
examples:
  mpilocal show w8a
  mpilocal show w8a --json | python -c 'import json, sys; print(json.load(sys.stdin)["suboptimality"])'
  mpilocal show w8a --figure w8a.png"""


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser(
        "show",
        help="show how a run stands",
        description="Show what a run is and how it stands, also while it lives. Needs no MPI.",
        epilog=EPILOG,
    )
    verb.add_argument("run", metavar="RUN", help="the run's folder")
    verb.add_argument("--figure", metavar="FILE", help="draw the run, as FILE.png and FILE.svg")
    parsing.as_json(verb)
    parsing.alone(verb, _show)


def _show(args: argparse.Namespace) -> int:
    from mpilocal import show

    facts = show.facts(args.run)
    drawn: list[str] = []
    if args.figure:
        from mpilocal import api, figure

        drawn = [str(path) for path in figure.draw(api.load(args.run), args.figure)]
    if args.json:
        output.say_json(facts | ({"figure": drawn} if drawn else {}))
        return 0
    output.say(show.text(facts))
    if drawn:
        output.say(f"  figure: {', '.join(drawn)}")
    return 0
