"""Compiling kernels ahead, and once: one rank of each host compiles, the others then load from the disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from mpilocal.algorithms.base import Setting
from mpilocal.kernels.shard import Draws
from mpilocal.metrics import Consensus
from mpilocal.prepare import Prepared
from mpilocal.problem import Problem
from mpilocal.tree import Tree

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


def compile_once(made: Prepared, comm: Intracomm) -> float:
    """Let the first rank of each host compile what the run needs, then the others; return seconds; collective."""
    from mpi4py import MPI

    begin = time.perf_counter()
    host = comm.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        if host.rank == 0:
            touch(made.problem, made.tree)
        host.Barrier()
        if host.rank > 0:
            touch(made.problem, made.tree)
    finally:
        host.Free()
    return time.perf_counter() - begin


def touch(problem: Problem, tree: Tree) -> None:
    """Call every kernel of a run on nothing, with the run's own types, so that it is compiled or loaded."""
    kernels, dtype, dim = problem.kernels, problem.dtype, problem.dim
    x = np.zeros((1, dim), dtype)
    none = np.empty((0, dim), dtype)
    sums = np.zeros((1, 0, dim), dtype)
    draws = Draws(np.uint64(0), 0, False, 1)
    work = problem.work(1, 0)[0]
    shared = (problem.shard, draws, int(problem.loss), problem.outputs, dtype.type(0), np.empty(0, dtype), 0)
    kernels.sgd(x, none, sums, np.empty((0, 0), dtype), *shared, *work, 0, 0)
    slopes = np.empty(max(8, 2 * problem.outputs), dtype)
    values = np.empty((1, 2))
    kernels.evaluate(x, values, x, problem.shard, int(problem.loss), problem.outputs, slopes, 0, 0)
    alone = Tree(None, np.full(tree.workers, 1.0 / tree.workers), tree.workers, tree.threads, exact=tree.exact)
    alone.average(np.zeros((tree.workers, min(dim, 2)), dtype)) if tree.workers <= 4096 else None
    Consensus(tree)


__all__ = ["Setting", "compile_once", "touch"]
