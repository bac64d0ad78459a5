"""Accelerated minibatch SGD of Yuan and Ma (2020), MB-AC-SGD: the recursion of FedAc-I, one step a round.

In a round each worker draws local_steps · batch samples at the common w_md; γ is that of one local step.
"""

from __future__ import annotations

from mpilocal.algorithms.accelerated import AtLeastZero, constant_step, rounds_of_one_step
from mpilocal.algorithms.base import Algorithm, Setting
from mpilocal.algorithms.recursions import fedac


def minibatch_fedac(setting: Setting, *, mu: AtLeastZero | None = None) -> Algorithm:
    """Return MB-AC-SGD for a setting; `algorithm.step_size` is η ≤ 1/L, `mu` is µ, by default problem.l2."""
    return rounds_of_one_step(setting, fedac("I", constant_step(setting), setting.problem.l2 if mu is None else mu, 1))
