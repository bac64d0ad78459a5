"""Accelerated minibatch SGD (AC-SA; Ghadimi and Lan 2012): one accelerated step a round, on all samples of the round.

The recursion is that of `local-ac-sa`, with t the round; in a round each worker draws local_steps · batch samples at
the common x^md. The fair baseline of Local AC-SA, and optimal where workers differ much (Woodworth et al. 2020b).
"""

from __future__ import annotations

from mpilocal.algorithms.accelerated import AtLeastZero, Stages, ac_sa, rounds_of_one_step
from mpilocal.algorithms.base import Algorithm, Setting


def minibatch_ac_sa(
    setting: Setting,
    *,
    mu: AtLeastZero | None = None,
    stages: Stages = None,
    sigma: AtLeastZero = 0.0,
    gap: AtLeastZero = 0.0,
) -> Algorithm:
    """Return accelerated minibatch SGD for a setting; see `local_ac_sa` for the options, `stages` here in rounds.

    `sigma` is the noise of one worker's gradient of a round.
    """
    return rounds_of_one_step(setting, ac_sa(setting, setting.options.rounds, mu, stages, sigma, gap))
