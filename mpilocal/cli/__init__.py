"""The command line. What a verb needs is imported when it runs: `--help` is quick, and safe on a login node."""

from __future__ import annotations

import time
from collections.abc import Sequence

_BEGAN = time.monotonic()


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mpilocal` with these arguments (default: the process's) and return its exit status.

    0 done; 1 an error of mpilocal's own or of a user's plug-in; 2 usage or config; 4 data or files; 5 diverged;
    6 MPI or a stalled rank; 7 no usable checkpoint; 75 stopped early with a valid checkpoint; 130 interrupted.
    """
    from mpilocal.cli import output, parser

    output.prepare()
    try:
        args = parser.build().parse_args(argv)
    except SystemExit as end:  # --help, --version, or wrong usage, which has been said
        return parser.left(end)
    args.began = _BEGAN if argv is None else time.monotonic()
    status: int = args.verb(args)
    return status
