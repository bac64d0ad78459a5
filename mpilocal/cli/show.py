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
  mpilocal show w8a --figure w8a.png
  mpilocal show local-gd --against gradient-descent      # the angle and the distance between two iterates"""


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser(
        "show",
        help="show how a run stands",
        description="Show what a run is and how it stands, also while it lives. Needs no MPI.",
        epilog=EPILOG,
    )
    verb.add_argument("run", metavar="RUN", help="the run's folder")
    verb.add_argument("--against", metavar="OTHER", help="say how far its iterate is from that of another run")
    verb.add_argument("--figure", metavar="FILE", help="draw the run, as FILE.png and FILE.svg")
    parsing.as_json(verb)
    parsing.alone(verb, _show)


def _show(args: argparse.Namespace) -> int:
    from mpilocal import show

    facts = show.facts(args.run)
    if args.against:
        from mpilocal.compare import apart

        facts["against"] = apart(args.run, args.against)
    drawn: list[str] = []
    if args.figure:
        from mpilocal import api, figure

        drawn = [str(path) for path in figure.draw(api.load(args.run), args.figure)]
    if args.json:
        output.say_json(facts | ({"figure": drawn} if drawn else {}))
        return 0
    output.say(show.text(facts))
    if args.against:
        found = facts["against"]
        error = "unknown, one is 0" if found["direction_error"] is None else f"{found['direction_error']:.6g}"
        output.say(f"  against {args.against}: direction error {error}, distance {found['distance']:.6g}")
    if drawn:
        output.say(f"  figure: {', '.join(drawn)}")
    return 0
