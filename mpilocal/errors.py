"""Errors that end a run: one sentence each, an exit status, and agreement between ranks.

A rank never fails alone: what one rank finds is agreed on by all before anyone raises, so that no
rank is left waiting in a collective for one that has gone.
"""

from __future__ import annotations

import difflib
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


class MpilocalError(Exception):
    """Base of the errors that a user can cause or mend; `status` is the exit status of the job."""

    status = 1
    alone = False  # whether this rank raised it without the others


class ConfigError(MpilocalError):
    """Usage or configuration is wrong."""

    status = 2


class DataError(MpilocalError):
    """Data or files are missing, unreadable, or not what the run needs."""

    status = 4


class DivergedError(MpilocalError):
    """The iterate is no longer finite."""

    status = 5


class LaunchError(MpilocalError):
    """MPI, the launcher, a lock on the run directory, or a stalled rank."""

    status = 6


class CheckpointError(MpilocalError):
    """There is no usable checkpoint."""

    status = 7


class StoppedError(MpilocalError):
    """Stopped early by a signal or a time limit; the checkpoint is valid, so requeue."""

    status = 75


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `did you mean "…"?` with the nearest of `known`, or the list of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f'did you mean "{near[0]}"?'
    return "known: " + ", ".join(known)


@contextmanager
def agreed(comm: Intracomm | None) -> Iterator[None]:
    """Collective: if any rank raises inside the block, all ranks raise the same error after it.

    The block must hold no collective call. The error of the lowest rank that failed wins; one that
    is not an `MpilocalError` is re-raised as it is where it happened, and named elsewhere.
    """
    mine: Exception | None = None
    try:
        yield
    except Exception as error:
        mine = error
    if comm is None:
        if mine is not None:
            raise mine
        return
    agree(comm, mine)


def agree(comm: Intracomm, mine: Exception | None) -> None:
    """Collective: raise on all ranks if any rank brings an error; see `agreed`."""
    said = None
    if mine is not None:
        known = isinstance(mine, MpilocalError)
        kind = type(mine) if known else MpilocalError
        text = str(mine)
        if not known:
            text = f"rank {comm.rank} on {socket.gethostname()}: {type(mine).__name__}: {mine}"
        said = (kind, text)
    for first in comm.allgather(said):
        if first is None:
            continue
        if mine is not None and said == first:
            raise mine
        raise first[0](first[1])
