"""F, ∇F and ∇²F·v for a solver that runs on root alone, while the other ranks serve.

Root broadcasts one message per evaluation, a command and a vector. What comes back has the same bits on any number of
ranks, and so has the path of the solver.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpilocal.errors import StoppedError
from mpilocal.exact import StreamSum
from mpilocal.kernels.scalar import Loss
from mpilocal.kernels.shard import Dense
from mpilocal.problem import Problem, Shard, Value

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

Vector = NDArray[np.float64]

PRODUCTS = 20_000  # Hessian products of one solve, at most
ROOM = 1024 / math.sqrt(np.finfo(np.float64).eps)  # margins below √ε of the others count as zero
VANISHING = (Loss.LOGISTIC, Loss.EXPONENTIAL, Loss.SOFTMAX)  # positive everywhere, with infimum 0
FLAT = (Loss.SQUARED_HINGE, Loss.SMOOTH_HINGE)  # 0 from margin 1 on
END, POINT, EVALUATE, PRODUCT, LOSS = range(5)


class Separated(Exception):
    """The rows are separated at x with F(x) = 0 in floating point."""

    def __init__(self, x: Vector, value: Value) -> None:
        """Keep the point and what was found there."""
        self.x, self.value = x, value


class Spent(Exception):
    """The effort is used up, or a product is not finite."""


class Search:
    """F on all ranks, driven by root: each method but `serve` is root's alone."""

    def __init__(self, problem: Problem, comm: Intracomm, stopping: Callable[[], bool]) -> None:
        """Take the problem, and what tells root that the job is to stop; collective."""
        self.problem, self.comm, self.stopping = problem, comm, stopping
        self.scale = column_scale(problem, comm)
        least = float(problem.blocks.scale.min(initial=math.inf))
        self._lightest = min(comm.allgather(least)) / problem.blocks.divisor  # weight of a row
        self.gradients = self.products = 0
        self.differences = False  # of ∇F take the place of Hessian products
        self.best: tuple[Vector, Value] | None = None
        self._message = np.empty(problem.dim + 1)
        self._point = np.full(problem.dim, np.nan)
        self._checked = math.inf

    def serve(self) -> None:
        """Take part in root's evaluations until it ends."""
        while True:
            self.comm.Bcast(self._message)
            command, vector = int(self._message[0]), self._message[1:]
            if command == END:
                return
            if command == PRODUCT:
                self.problem.hessian_product(self._point, vector)
                continue
            if command == LOSS:
                self._take(Loss(int(vector[0])))
                continue
            self._point[:] = vector
            if command == EVALUATE:
                self.problem.evaluate(self._point)

    def end(self) -> None:
        """Let the other ranks go."""
        self._send(END, self._point)

    def change(self, loss: Loss) -> None:
        """Evaluate another loss from here on, and forget the best point."""
        self._send(LOSS, np.full(self.problem.dim, float(loss)))
        self._take(loss)
        self.best, self._checked = None, math.inf

    def evaluate(self, x: Vector) -> Value:
        """Return F and ∇F; F = ∞ where it overflows.

        Raises:
            StoppedError: the job is to stop.
            Separated: l2 = 0 and all rows are predicted right, so that F(t·x) → 0 for t → ∞.
        """
        self._go_on()
        value = self._evaluate(x)
        if math.isfinite(value.objective) and (self.best is None or value.objective <= self.best[1].objective):
            self.best = np.array(x), value
        right = value.accuracy > 1 - self._lightest / 2  # all rows: no rounding of their sum comes near half a row
        if right and self.problem.l2 == 0 and self.problem.loss in (*VANISHING, *FLAT):
            self._stretch(x, value)
        return value

    def scaled(self, u: Vector) -> tuple[float, Vector]:
        """Return F at x = s∘u and its gradient s∘∇F(x) with respect to u; s is `scale`."""
        value = self.evaluate(self.scale * u)
        return value.objective, self.scale * value.gradient

    def scaled_product(self, u: Vector, v: Vector) -> Vector:
        """Return s∘(∇²F(s∘u) (s∘v)), (dim,)."""
        return self.scale * self.product(self.scale * u, self.scale * v)

    def product(self, x: Vector, v: Vector) -> Vector:
        """Return ∇²F(x) v, (dim,)."""
        self._go_on()
        if self.products >= PRODUCTS:
            raise Spent
        self.products += 1
        image = self._difference(x, v) if self.differences else self._product(x, v)
        if not np.isfinite(image).all():
            raise Spent
        return image

    def _go_on(self) -> None:
        if self.stopping():
            raise StoppedError(
                "stopped by a signal or the time limit while solving for F*, before the first round: start the run "
                "again with more time, or give problem.optimum as a number"
            )

    def newton(self, x: Vector, gradient: Vector, rtol: float) -> Vector:
        """Return d with ‖∇²F(x) d + ∇F(x)‖ ≤ rtol ‖∇F(x)‖ as far as CG gets, (dim,)."""
        from scipy.sparse.linalg import LinearOperator, cg

        dim = self.problem.dim
        hessian = LinearOperator((dim, dim), lambda v: self.product(x, v.ravel()), dtype=np.float64)
        diagonal = LinearOperator((dim, dim), lambda v: self.scale**2 * v.ravel(), dtype=np.float64)
        step, _ = cg(hessian, -gradient, rtol=rtol, atol=0.0, maxiter=min(10 * dim, 5000), M=diagonal)
        return np.asarray(step)

    def _take(self, loss: Loss) -> None:
        self.problem = copy.copy(self.problem)
        self.problem.loss = loss

    def _evaluate(self, x: Vector) -> Value:
        self.gradients += 1
        self._point[:] = x
        self._send(EVALUATE, x)
        value = self.problem.evaluate(self._point)
        return value._replace(objective=math.inf) if math.isnan(value.objective) else value

    def _product(self, x: Vector, v: Vector) -> Vector:
        if not np.array_equal(self._point, x):
            self._point[:] = x
            self._send(POINT, x)
        self._send(PRODUCT, v)
        return self.problem.hessian_product(self._point, v)

    def _difference(self, x: Vector, v: Vector) -> Vector:
        """Return (∇F(x + h v) − ∇F(x − h v))/(2h) with ‖h v‖ = ε^⅓ max(1, ‖x‖), where its two errors are alike."""
        length = np.finfo(np.float64).eps ** (1 / 3) * max(1.0, length_of(x))
        if (size := length_of(v)) == 0:
            return np.zeros_like(v)
        h = length / size
        image: Vector = (self._evaluate(x + h * v).gradient - self._evaluate(x - h * v).gradient) / (2 * h)
        return image

    def _stretch(self, x: Vector, value: Value) -> None:
        """Raise `Separated` if F(t·x) comes to 0; tried anew only after F has halved."""
        if value.objective > self._checked / 2:
            return
        self._checked = value.objective
        factor = 1.0
        while factor < ROOM:
            factor *= 8
            if (far := self._evaluate(factor * x)).objective == 0:
                raise Separated(factor * x, far)

    def _send(self, command: int, vector: Vector) -> None:
        if self.comm.size > 1:
            self._message[0], self._message[1:] = command, vector
            self.comm.Bcast(self._message)


def length_of(x: Vector) -> float:
    """Return ‖x‖, with the same bits for any number of BLAS threads."""
    return math.sqrt(float(np.sum(x * x)))


def column_scale(problem: Problem, comm: Intracomm) -> Vector:
    """Return s (dim,), powers of two near (mean square of the column's non-zeros + l2)^−½; collective.

    With x = s∘u the columns have one size: data as they come have features of very different units.
    """
    blocks, features = problem.blocks, problem.features
    shard = blocks.shard
    moments = StreamSum(2 * features, blocks.total, problem.threads)
    for number, (first, last) in enumerate(zip(shard.begin.tolist(), shard.end.tolist(), strict=True)):
        row = np.empty((1, 2 * features))
        if isinstance(shard, Dense):
            rows = shard.a[first:last]
            row[0, :features], row[0, features:] = np.einsum("ij,ij->j", rows, rows), np.count_nonzero(rows, 0)
        else:
            held = slice(shard.indptr[first], shard.indptr[last])
            indices, values = shard.indices[held], shard.values[held]
            row[0, :features] = np.bincount(indices, values**2, features)
            row[0, features:] = np.bincount(indices, values != 0, features)
        moments.add(row, blocks.scale[number : number + 1])
    total = np.zeros(2 * features)
    moments.reduce(comm if comm.size > 1 else None, blocks.divisor, total)
    size = total[:features] / np.where(total[features:] > 0, total[features:], 1.0) + problem.l2
    used = (size > 0) & (size < np.inf)
    scale = np.exp2(-np.round(0.5 * np.log2(np.where(used, size, 1.0))))
    return np.tile(np.concatenate([scale, np.ones(problem.dim // problem.outputs - features)]), problem.outputs)


def in_double(problem: Problem) -> Problem:
    """Return the same problem in float64, with a copy of the rows that this rank evaluates; collective."""
    blocks = problem.blocks
    return Problem(
        name=problem.name,
        loss=problem.loss,
        l2=problem.l2,
        outputs=problem.outputs,
        intercept=problem.intercept,
        features=problem.features,
        rows=problem.rows,
        shard=(shard := _doubled(blocks.shard)),
        evaluated=shard,
        row_weights=blocks.scale / blocks.divisor,
        kernels=problem.kernels,
        dtype=np.dtype(np.float64),
        threads=problem.threads,
        comm=problem.comm,
        labels=problem.labels,
        curvature=problem.curvature,
    )


def _doubled(shard: Shard) -> Shard:
    first, last = int(shard.begin.min(initial=0)), int(shard.end.max(initial=0))
    if len(shard.begin):
        first = int(shard.begin.min())
    y, begin, end = shard.y[first:last].astype(np.float64), shard.begin - first, shard.end - first
    if isinstance(shard, Dense):
        return Dense(shard.a[first:last].astype(np.float64), y, begin, end, shard.ridge.astype(np.float64))
    pointers = shard.indptr[first : last + 1]
    held = slice(pointers[0], pointers[-1])
    values = shard.values[held].astype(np.float64)
    return shard._replace(
        values=values, indices=shard.indices[held], indptr=pointers - pointers[0], y=y, begin=begin, end=end
    )
