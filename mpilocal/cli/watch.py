"""What run and resume print: what begins, a header, the progress, and at the end where the time went."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpilocal import figure, show, timing
from mpilocal.api import Result
from mpilocal.cli import output
from mpilocal.cli.launch import kill
from mpilocal.config import Config
from mpilocal.errors import MpilocalError, StoppedError
from mpilocal.progress import Progress
from mpilocal.session import Controls
from mpilocal.store.rundir import read_run

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


class Watch:
    """Follows one run; only root prints."""

    def __init__(self, comm: Intracomm, path: Path, source: str) -> None:
        """Begin; `source` is what the user named: a config, or the run to resume."""
        self.root, self.ranks = comm.rank == 0, comm.size
        self.path, self.source = path, source
        self.progress: Progress | None = None

    def controls(self, args: argparse.Namespace) -> Controls:
        """Return the controls of the run."""
        return Controls(
            args.began,
            max_time=args.max_time,
            signals=args.signals,
            abort=True,
            kill=kill,
            told=self.told,
            warn=self.warn,
            overrides=tuple(args.set),
        )

    def announce(self, planned: Callable[[], Config]) -> None:
        """Say on stderr what begins, before data are read and kernels compiled; errors are left to the run itself."""
        if self.root:
            with contextlib.suppress(MpilocalError):
                output.tell(show.start(planned(), self.ranks, self.source, self.path))

    def warn(self, text: str) -> None:
        """Print a warning."""
        if self.root:
            self.clear()
            output.warn(text)

    def told(self, row: Mapping[str, float | int], rounds: int) -> None:
        """Take in a row of the history."""
        if not self.root:
            return
        if self.progress is None:
            self.progress = self._begin(rounds)
        self.progress(row)

    def clear(self) -> None:
        """Take the bar off the terminal, if there is one."""
        if self.progress is not None:
            self.progress.close()

    def _begin(self, first: int) -> Progress:
        try:
            config, resolved, history = read_run(self.path)
        except MpilocalError:  # removed under our hands: the next checkpoint will say so
            return Progress(0, first, sys.stderr)
        output.say(show.header(config, resolved, history[-1] if history else {}, self.source, self.path))
        return Progress(config.algorithm.rounds, first, sys.stderr)

    def finish(self, result: Result) -> int:
        """Print the end of the run and draw its figure; return the exit status."""
        status = StoppedError.status if result.status == "stopped" else 0
        if not self.root:
            return status
        self.clear()
        output.say(summary(result))
        drawn = ""
        if len(result.history.get("round", ())) > 1 and figure.possible():
            try:
                drawn = f", figure in {figure.draw(result, self.path / 'figure.png')[0]}"
            except Exception as error:  # the run itself is whole
                output.warn(f"the figure could not be drawn: {output.unexpected(error, True)}")
        output.say(f"Run: {self.path}{drawn}")
        if result.status == "stopped":
            output.tell(
                f"mpilocal: stopped after round {result.round} by {result.reason}; "
                f"`mpilocal resume {self.path}` continues"
            )
        return status


def summary(result: Result) -> str:
    """Return the result, and the table of where the time went."""
    facts = show.facts_of(result)
    lines = ["", show.outcome(facts)]
    timings = {
        name.removeprefix("timings/"): column[-1].item()
        for name, column in result.history.items()
        if name.startswith("timings/") and len(column)
    }
    if timings:
        ledger = show.ledger(result)
        said: dict[str, Any] = {
            "ranks": facts["ranks"],
            "threads": facts["threads"],
            "workers": facts["workers"],
            "rounds": facts["round"],
            "samples": facts["samples"],
        }
        lines += ["", timing.table(timings, ledger, said)]
    return "\n".join(lines)
