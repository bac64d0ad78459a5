"""Local AC-SA (Woodworth et al. 2020, section 3): accelerated steps on every worker, then both sequences' averages.

    x^md = ((1 − α)(µ + c) x^ag + α ((1 − α) µ + c) x)/(c + (1 − α²) µ)        g = ∇f_m(x^md; ξ) + λ x^md
    x ← (α µ x^md + ((1 − α) µ + c) x − α g)/(µ + c)         x^ag ← α x + (1 − α) x^ag

with α = 2/(t + 1) and c = 4/(η t (t + 1)), t = 1, 2, … the step, over all rounds; what is judged is x^ag. On quadratics
the average is AC-SA on the average of the workers' noise (their Theorem 1).
"""

from __future__ import annotations

from mpilocal.algorithms.accelerated import AtLeastZero, Stages, ac_sa, local_steps
from mpilocal.algorithms.base import Algorithm, Setting


def local_ac_sa(
    setting: Setting,
    *,
    mu: AtLeastZero | None = None,
    stages: Stages = None,
    sigma: AtLeastZero = 0.0,
    gap: AtLeastZero = 0.0,
) -> Algorithm:
    """Return Local AC-SA for a setting; `algorithm.step_size` is η, at most 1/(2L) where F is only convex, 1/L else.

    Args:
        setting: What a method is given.
        mu: µ in the recursion; by default problem.l2. 0: F is taken as convex only.
        stages: Steps of each stage, at whose beginning the recursion starts anew from x^ag, the last one to the end; or
            "halving": multi-stage AC-SA, each stage as long as halves the bound on F − F* (Ghadimi and Lan 2013).
        sigma: Noise of one worker's gradient, σ, for "halving".
        gap: F(x0) − F*, or more, for "halving".
    """
    steps = setting.schedule.first(setting.options.rounds)
    return local_steps(setting, ac_sa(setting, steps, mu, stages, sigma, gap))
