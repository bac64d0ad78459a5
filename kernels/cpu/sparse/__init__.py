"""Local steps, objective, gradient and Hessian product on CSR rows: the names and arguments of `dense`."""

from .accelerated import accelerated
from .steps import sgd, sgd_streamed
from .sums import evaluate, hessian, losses, sample_gradient, square_norms

__all__ = ["accelerated", "evaluate", "hessian", "losses", "sample_gradient", "sgd", "sgd_streamed", "square_norms"]
