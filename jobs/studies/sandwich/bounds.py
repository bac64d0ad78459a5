"""The bounds of Wang et al. (2022) for random groups, and what they take from the data.

The tree has n_l nodes at depth l, from n_0 = 1, all workers, to n_M = n, a worker each; the children of a node at depth
l − 1 average every P_l steps. Then

  (1/T) Σ_t ‖∇f(w̄_t)‖² ≤ 2 (f(w̄_0) − f*)/(γT) + γLσ²/n + 2Cγ²σ² Σ_l (n_l − n_{l−1})/n P_l
                           + 3Cγ²ε² Σ_l (n_l − n_{l−1})/(n−1) P_l²,       C = 40 L²/3, γ ≤ 1/(2√6 P_1 L),

with the σ² of the gradients' noise and ε² ≥ (1/n) Σ_j ‖∇F_j − ∇f‖². Local SGD with period P is one depth. Two depths,
P_1 = G and P_2 = I, are Theorem 2. The constants are from memory; the sums are derived: their weights add up to
(n−1)/n and 1, so every hierarchy lies between P_M and P_1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Scheme(NamedTuple):
    """A hierarchy: nodes (n_1, …, n_M = n) and periods (P_1 > … > P_M) in steps, the widest first."""

    nodes: tuple[int, ...]
    periods: tuple[int, ...]

    @property
    def shares(self) -> list[float]:
        """(n_l − n_{l−1})/(n − 1), the expected part of the divergence at each depth."""
        return [
            (node - above) / (self.nodes[-1] - 1) for above, node in zip((1, *self.nodes[:-1]), self.nodes, strict=True)
        ]

    @property
    def drift(self) -> float:
        """Σ_l (n_l − n_{l−1})/(n − 1) P_l²."""
        return sum(share * period**2 for share, period in zip(self.shares, self.periods, strict=True))

    @property
    def noise(self) -> float:
        """Σ_l (n_l − n_{l−1})/n P_l."""
        workers = self.nodes[-1]
        return sum(
            share * (workers - 1) / workers * period for share, period in zip(self.shares, self.periods, strict=True)
        )


def limit(smoothness: float, longest: int) -> float:
    """Return the largest γ that the theorem allows."""
    return 1 / (2 * math.sqrt(6) * longest * smoothness)


def bound(
    scheme: Scheme, gamma: float, smoothness: float, gap: float, steps: int, divergence: float, variance: float = 0.0
) -> float:
    """Return the right-hand side; `gap` = f(w̄_0) − f*, `divergence` = ε², `variance` = σ²."""
    c = 40 * smoothness**2 / 3
    plain = 2 * gap / (gamma * steps) + gamma * smoothness * variance / scheme.nodes[-1]
    return plain + gamma**2 * c * (2 * variance * scheme.noise + 3 * divergence * scheme.drift)


def softmax_smoothness(x: NDArray[np.floating], labels: NDArray[np.floating], workers: int) -> float:
    """Return max_j L_j of the softmax loss on label-sorted shards: λ_max(A_jᵀA_j/N_j)/2, since diag(p) − ppᵀ ≤ 1/2."""
    parts = np.array_split(x[np.argsort(labels, kind="stable")], workers)
    return max(float(np.linalg.eigvalsh(part.T @ part / len(part))[-1]) / 2 for part in parts)
