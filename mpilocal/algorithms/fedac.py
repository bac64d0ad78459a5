"""FedAc (Yuan and Ma 2020, Algorithm 1): accelerated local steps whose two sequences are both averaged.

    w_md = w/β + (1 − 1/β) w_ag          g = ∇f_m(w_md; ξ) + λ w_md
    w_ag ← w_md − η g                    w ← (1 − 1/α) w + w_md/α − γ g

What is judged is w_ag. Variants: I and II of the paper, and "naive", whose γ does not know local_steps.
"""

from __future__ import annotations

from typing import Literal

from mpilocal.algorithms import recursions
from mpilocal.algorithms.accelerated import AtLeastZero, constant_step, local_steps
from mpilocal.algorithms.base import Algorithm, Setting
from mpilocal.config.kinds import FixedSteps, parse_local_steps
from mpilocal.config.typed import shown
from mpilocal.errors import ConfigError

Variant = Literal["I", "II", "naive"]


def fedac(setting: Setting, *, variant: Variant = "I", mu: AtLeastZero | None = None) -> Algorithm:
    """Return FedAc for a setting; `algorithm.step_size` is η ≤ 1/L.

    Args:
        setting: What a method is given.
        variant: "I", "II" or "naive".
        mu: µ; by default problem.l2.
    """
    kind = parse_local_steps(setting.options.local_steps)
    if not isinstance(kind, FixedSteps):
        raise ConfigError(
            f"algorithm.local_steps = {shown(setting.options.local_steps)}: fedac takes a number, as γ depends on it"
        )
    return local_steps(
        setting, recursions.fedac(variant, constant_step(setting), setting.problem.l2 if mu is None else mu, kind.steps)
    )
