"""Thumb-twiddling minibatch SGD (Woodworth et al. 2020, section 2): one batch per worker and round, then idle.

    x ← x − η_t (Σ p_m 1/b Σ_{i ≤ b} ∇ℓ_mi(x) + λ x)          R steps in all

Minibatch SGD that uses 1 of its H slots: the price of communicating rarely without local steps.
"""

from __future__ import annotations

from mpilocal.algorithms.base import Algorithm, Setting
from mpilocal.algorithms.minibatch_sgd import gradient_rounds


def thumb_twiddling(setting: Setting) -> Algorithm:
    """Return thumb-twiddling minibatch SGD for a setting."""
    batch = setting.batch
    return gradient_rounds(setting, lambda count: 1, setting.schedule.one_step(), per_round=batch or None)
