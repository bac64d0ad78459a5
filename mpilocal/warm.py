"""Compiling kernels ahead, and once: one rank of each host compiles, the others then load from the disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from mpilocal.errors import ConfigError, agree
from mpilocal.exact import SMALL, GroupMeans, SmallSum, StreamSum
from mpilocal.kernels.cpu import vector
from mpilocal.kernels.scalar import Loss
from mpilocal.kernels.shard import Draws
from mpilocal.prepare import Prepared
from mpilocal.problem import Problem
from mpilocal.stream import Streamed
from mpilocal.threads import Threads
from mpilocal.tree import Tree

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


def compile_once(made: Prepared, comm: Intracomm) -> float:
    """Let the first rank of each host compile what the run needs, then the others; return seconds; collective."""
    from mpi4py import MPI

    begin = time.perf_counter()
    host = comm.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        for turn in (True, False):
            error: Exception | None = None
            try:
                if (host.rank == 0) == turn:
                    touch(made.problem, made.tree)
                    made.algorithm.warm()
            except Exception as failure:
                error = _named(made.problem, failure) if made.problem.loss == Loss.CUSTOM else failure
            # The others sleep: a rank that spins would take the core from the one that compiles.
            arrived = comm.Ibarrier()
            while not arrived.Test():
                time.sleep(0.005)
            agree(comm, error)
    finally:
        host.Free()
    return time.perf_counter() - begin


def _named(problem: Problem, error: Exception) -> ConfigError:
    """Return the error of a user's loss that cannot be compiled, with what Numba says of the innermost cause."""
    said = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Failed in ")]
    found = ConfigError(
        f'problem.loss = "{problem.name}" cannot be compiled: {type(error).__name__}: {said[0] if said else error}'
    )
    found.__cause__ = error
    return found


def touch(problem: Problem, tree: Tree) -> None:
    """Call every kernel of a run on nothing, with the run's own types, so that it is compiled or loaded."""
    kernels, dtype, dim = problem.kernels, problem.dtype, problem.dim
    loss, outputs = int(problem.loss), problem.outputs
    alone = Threads(1)
    x = np.zeros((1, dim), dtype)
    none = np.empty((0, dim), dtype)
    nothing = np.empty(0, dtype)
    draws = Draws(np.uint64(0), 0, False, 1)
    work = problem.work(1, 0)[0]
    slopes = np.empty(max(8, 2 * outputs), dtype)
    rule = (problem.shard, draws, loss, outputs, dtype.type(0), nothing, 0)
    kernels.sgd(x, none, np.zeros((1, 0, dim)), np.empty((0, 0)), *rule, *work, 0, 0)
    if tree.workers > SMALL:
        streamed = Streamed(x, 2, alone)
        target = (x, none, np.zeros((1, 0, dim)), np.empty((0, 0)), *rule, np.ones(1))
        scratch = (*streamed.scratch[0], *work, *streamed.accumulators()[0])
        kernels.sgd_streamed(*target, streamed.sums[0].width, *scratch, 0, 0)
    kernels.sample_gradient(x, x, problem.shard, draws, loss, outputs, 0, 0, slopes, 0, 0)
    kernels.evaluate(x, np.empty((1, 2)), x, problem.shard, loss, outputs, slopes, 0, 0)
    kernels.losses(np.empty((1, 1)), x, problem.shard, loss, outputs, slopes, 0, 0)
    kernels.square_norms(np.empty((1, 1)), x, problem.shard, loss, outputs, slopes, 0, 0)
    kernels.hessian(x, x, x, problem.shard, loss, outputs, slopes, 0, 0)
    out = np.zeros(1)
    vector.dot(x[0], x[0])
    vector.dot(out, out)
    vector.distances(x, np.zeros(dim), out, 0, 0)
    for rows in (np.zeros((1, 1), dtype), np.zeros((1, 1))):
        small, stream = SmallSum(1, 2, alone), StreamSum(1, 2, alone)
        small.reduce(None, rows, np.ones(1), 1.0, out)
        stream.add(rows, np.ones(1))
        stream.reduce(None, 1.0, out)
    if not tree.levels.levels[0].world:
        pair, bounds = np.zeros((2, 1)), np.array([0, 2])
        for rows in (pair.astype(dtype), pair):
            GroupMeans(1, 2, alone)(rows, np.ones(2), np.arange(2), bounds, np.ones(1))
            vector.distances(rows, np.zeros(1), out, 0, 0)
            vector.distances_each(rows, pair, out, 0, 0)


__all__ = ["compile_once", "touch"]
