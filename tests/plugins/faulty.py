"""User methods that misbehave: Local SGD, and at one round on the rank of one worker something goes wrong."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time

import numpy as np

from mpilocal.algorithms.base import Algorithm, Phase, Setting
from mpilocal.algorithms.local_sgd import local_sgd
from mpilocal.errors import DataError


def fail(how: str, seconds: float) -> None:
    """Misbehave."""
    if how == "raise":
        raise ZeroDivisionError("the plug-in's own fault")
    if how == "refuse":
        raise DataError("the plug-in found no data")
    if how == "sleep":
        time.sleep(seconds)
    elif how == "hold":  # a call that keeps the interpreter's lock
        ctypes.PyDLL(None).usleep(int(1e6 * seconds))
    elif how == "leave":
        os._exit(3)
    elif how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "full":  # as if the disk were full: no file grows any more
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    else:
        raise AssertionError(how)


def faulty(
    setting: Setting,
    *,
    how: str,
    worker: int = -1,
    round: int = 3,
    seconds: float = 600.0,
    late: bool = False,
    early: bool = False,
    twice: bool = False,
) -> Algorithm:
    """Local SGD that fails in the local steps of `round`, or before (`early`) or after (`late`) its averaging.

    It does so where `worker` lives; −1: on all ranks. `twice`: it averages a second vector, of another length, in each
    round. With HARMLESS in the environment nothing goes wrong.
    """
    base, tree = local_sgd(setting), setting.tree
    here = (worker < 0 or tree.first <= worker < tree.first + tree.count) and "HARMLESS" not in os.environ

    def local(state, number):
        base.phases[0].local(state, number)
        if here and not late and not early and number + 1 == round:
            fail(how, seconds)

    def average(state, tree, number):
        if here and early and number + 1 == round:
            fail(how, seconds)
        if twice:
            tree.mean(np.ones((tree.count, 3)), number)
        base.phases[0].average(state, tree, number)
        if here and late and number + 1 == round:
            fail(how, seconds)

    return base._replace(phases=(Phase(local, average),))


def apart(setting: Setting, *, worker: int) -> Algorithm:
    """Local SGD after whose third averaging one worker's iterate is no longer finite."""
    base = local_sgd(setting)

    def average(state, tree, number):
        base.phases[0].average(state, tree, number)
        if number == 2 and tree.first <= worker < tree.first + tree.count:
            state.x[worker - tree.first] = np.inf

    return base._replace(phases=(Phase(base.phases[0].local, average),))


def slow(setting: Setting) -> Algorithm:
    """Local SGD, each round of which lasts at least the seconds in the environment's SLOW; the same bits."""
    base = local_sgd(setting)
    seconds = float(os.environ.get("SLOW", "0"))

    def local(state, number):
        time.sleep(seconds)
        base.phases[0].local(state, number)

    return base._replace(phases=(Phase(local, base.phases[0].average),))


class Uncompilable:
    """A loss that Numba cannot compile."""

    @staticmethod
    def value(z, y, one):
        return undefined(z)  # noqa: F821

    slope = value
