"""Local steps, objective, gradient and Hessian product on dense rows.

An iterate has `outputs` blocks (1, or the classes of softmax), each `features` weights and, where its
length is one more, an intercept. Rows first ≤ m < last of the arguments are worked on, so that
threads share a call's workers. `slopes` (batch·outputs or outputs,), `picks` (batch,) and `gradient`
(dim,) are scratch of the calling thread. Nothing here allocates.
"""

from .accelerated import accelerated
from .steps import sgd, sgd_streamed
from .sums import evaluate, hessian, losses, sample_gradient, square_norms

__all__ = ["accelerated", "evaluate", "hessian", "losses", "sample_gradient", "sgd", "sgd_streamed", "square_norms"]
