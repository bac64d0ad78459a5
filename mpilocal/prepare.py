"""From a config to what runs: rows on their workers, the problem, the tree, the schedule and the method."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mpilocal import algorithms, custom, quadratic
from mpilocal.affinity import default_threads
from mpilocal.algorithms.base import Algorithm, Setting
from mpilocal.config import Config, kinds
from mpilocal.data import labels as labelling
from mpilocal.data.deal import deal
from mpilocal.data.partition import plan
from mpilocal.data.read import read_part
from mpilocal.data.rows import block
from mpilocal.data.share import share
from mpilocal.errors import ConfigError, DataError, MpilocalError, agreed
from mpilocal.kernels.scalar import Loss
from mpilocal.problem import MARGIN, Problem, row_weights
from mpilocal.schedules import Facts, Schedule
from mpilocal.shards import read_test, shard_of
from mpilocal.threads import Threads
from mpilocal.tree.levels import Levels, resolve
from mpilocal.tree.nodes import workers_by_host
from mpilocal.tree.tree import Tree

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

LOSSES = {
    "logistic": Loss.LOGISTIC,
    "squared": Loss.SQUARED,
    "squared-hinge": Loss.SQUARED_HINGE,
    "smooth-hinge": Loss.SMOOTH_HINGE,
    "exponential": Loss.EXPONENTIAL,
    "softmax": Loss.SOFTMAX,
    "quadratic": Loss.LINEAR,
}


class Prepared(NamedTuple):
    """Everything that a loop needs."""

    config: Config  # with "ranks" and the like resolved
    problem: Problem
    tree: Tree
    schedule: Schedule
    algorithm: Algorithm
    facts: dict[str, Any]  # what was resolved, for config.toml
    window: Any  # the shared rows, to be freed, or None
    kinds: int = 1  # of curvatures, of quadratics

    def close(self, together: bool = True) -> None:
        """End the threads and, where all ranks come here together, free the shared window; collective then."""
        if together:
            release(self.tree, self.window, self.problem.threads)
        else:
            self.problem.threads.close()


def release(tree: Tree, window: Any, threads: Threads) -> None:
    """Free communicators and shared memory, end the threads; collective."""
    if window is not None:
        window.free()
    tree.close()
    threads.close()


def prepare(config: Config, comm: Intracomm, folder: Path) -> Prepared:
    """Read, deal and plan; collective.

    Raises:
        ConfigError, DataError: on all ranks alike.
    """
    with agreed(comm):
        config = resolve_workers(config, comm)
    config = resolve_nodes(config, comm)
    with agreed(comm):
        levels = levels_of(config)
        loss, outputs_of = custom.loss_of(config.problem.loss, LOSSES, folder)
    dtype = np.dtype(config.run.dtype)
    part = read_part(comm, config.data, folder, dtype)
    if part.total == 0:
        raise DataError(f"data.source = {config.data.source} holds no rows")
    targets, mapping = targets_of(comm, part.rows.labels, loss)
    outputs = outputs_of(mapping)
    part = part._replace(rows=part.rows._replace(labels=targets))
    threads = Threads(config.run.threads or default_threads(comm))
    count = config.workers.count
    assert isinstance(count, int)
    first, last = block(count, comm.size, comm.rank)
    chosen = plan(comm, part, config.data.partition, count, config.run.seed, folder)
    window = None
    if is_shared(config):
        window = share(comm, part)
        rows = window.rows
        begin = np.zeros(last - first, np.int64)
        with agreed(comm):
            shard = shard_of(rows, begin, begin + part.total, part, loss, dtype)
        ends = np.array([block(part.total, count, m) for m in range(first, last)], np.int64).reshape(-1, 2)
        evaluated = shard._replace(begin=ends[:, 0].copy(), end=ends[:, 1].copy())
        weights = np.full(count, 1.0 / count)
        per_row = np.full(count, 1.0 / part.total)
    else:
        rows, offsets, _ = deal(comm, part, chosen, count)
        with agreed(comm):
            shard = evaluated = shard_of(rows, offsets[:-1], offsets[1:], part, loss, dtype)
        weights, per_row = row_weights(chosen.counts, config.workers.weights)
    problem = Problem(
        name=config.problem.loss,
        loss=loss,
        l2=1.0 / part.total if config.problem.l2 == "1/n" else float(config.problem.l2),
        outputs=outputs,
        intercept=config.problem.intercept,
        features=part.rows.features,
        rows=part.total,
        shard=shard,
        evaluated=evaluated,
        row_weights=per_row[first:last],
        kernels=custom.kernels_of(config.problem.loss, loss, part.rows.sparse, folder, comm),
        dtype=dtype,
        threads=threads,
        comm=comm,
        labels=mapping,
        test=read_test(comm, config, folder, part, mapping, loss),
        known=part.extra,
        curvature=quadratic.mean(comm, part, shard, weights) if loss == Loss.LINEAR else None,
    )
    tree = Tree(
        comm,
        weights,
        count,
        threads,
        levels=levels,
        exact=config.run.reduction == "exact",
    )
    try:
        schedule = make_schedule(config, problem)
        with agreed(comm):
            setting = Setting(config.algorithm, problem, tree, schedule, config.run.seed)
            algorithm = algorithms.build(setting, folder)
    except MpilocalError:  # on all ranks
        release(tree, window, threads)
        raise
    facts = {
        "rows": part.total,
        "features": part.rows.features,
        "dim": problem.dim,
        "sparse": part.rows.sparse,
        "digest": part.digest,
        "l2": problem.l2,
    }
    if algorithm.vectors != 1:
        facts["vectors"] = algorithm.vectors
    if mapping:
        facts["labels"] = {f"{key:g}": value for key, value in mapping.items()}
    kinds = quadratic.kinds(part) if loss == Loss.LINEAR else 1
    return Prepared(config, problem, tree, schedule, algorithm, facts, window, kinds)


def targets_of(
    comm: Intracomm, labels: NDArray[np.float64], loss: Loss
) -> tuple[NDArray[np.float64], dict[float, int]]:
    """Return the labels as the loss wants them, and the mapping: ±1, class numbers, or unchanged; collective."""
    if loss in MARGIN:
        return labelling.binary(comm, labels)
    if loss == Loss.SOFTMAX:
        return labelling.classes(comm, labels)
    return labels, {}


def resolve_workers(config: Config, comm: Intracomm) -> Config:
    """Resolve count = "ranks", and refuse more ranks than workers."""
    count = config.workers.count
    if count == "ranks":
        workers = msgspec.structs.replace(config.workers, count=comm.size)
        return msgspec.structs.replace(config, workers=workers)
    if comm.size > count:
        raise ConfigError(
            f"workers.count = {count} is less than the {comm.size} ranks, which would leave ranks idle: "
            f"launch at most {count} ranks, or set workers.count to at least {comm.size}"
        )
    return config


def levels_of(config: Config) -> Levels:
    """Return the levels of a resolved config."""
    assert isinstance(config.workers.count, int)
    return resolve(config.levels, config.workers.count, config.run.seed)


def resolve_nodes(config: Config, comm: Intracomm) -> Config:
    """Write the workers on each host in the place of "node"; collective."""
    if all(level.group != "node" for level in config.levels):
        return config
    assert isinstance(config.workers.count, int)
    sizes = workers_by_host(comm, config.workers.count)
    levels = [
        msgspec.structs.replace(level, group={"sizes": sizes}) if level.group == "node" else level
        for level in config.levels
    ]
    return msgspec.structs.replace(config, levels=levels)


def is_shared(config: Config) -> bool:
    """Return whether every worker samples from all rows."""
    partition = config.data.partition
    return (partition if isinstance(partition, str) else partition.get("kind")) == "shared"


def make_schedule(config: Config, problem: Problem) -> Schedule:
    """Return the schedule; L is estimated from the data only where it is asked for."""
    options = config.algorithm
    step_size = kinds.parse_step_size(options.step_size)
    wants = isinstance(step_size, kinds.InverseTime) and "auto" in (step_size.scale, step_size.shift)
    convexity = problem.convexity
    facts = Facts(problem.rows, problem.smoothness() if wants and convexity > 0 else math.nan, convexity)
    return Schedule(
        kinds.parse_local_steps(options.local_steps),
        step_size,
        kinds.parse_iterate_average(options.iterate_average),
        options.rounds,
        facts,
        np.dtype(config.run.dtype),
    )
