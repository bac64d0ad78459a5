"""Cost of one averaging beside MPI's own Allreduce of the same vector, in one run.

    mpiexec -n 2 python jobs/bench/averaging.py [--workers 16] [--repeat 7]

For each dimension: the median over `repeat` rounds of (seconds of one exact mean) / (seconds of a bare Allreduce
of dim float64), and the same for the plain mean; the slowest rank counts. "of it sums" is the part that
communicates nothing: the workers' rows turned into integers and back.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from mpi4py import MPI

from mpilocal.threads import Threads
from mpilocal.tree import Tree


def seconds(comm: MPI.Intracomm, call: Callable[[], object], times: int) -> float:
    """Return the seconds of one call, the slowest rank's."""
    comm.Barrier()
    begin = time.perf_counter()
    for _ in range(times):
        call()
    return comm.allreduce(time.perf_counter() - begin, MPI.MAX) / times


def main() -> None:
    """Print a row per dimension."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=0, help="M; default: the ranks")
    parser.add_argument("--repeat", type=int, default=7)
    given = parser.parse_args()
    comm = MPI.COMM_WORLD
    workers = given.workers or comm.size
    if comm.rank == 0:
        print(f"{workers} workers on {comm.size} ranks; {MPI.Get_library_version().splitlines()[0]}")
        print(f"{'dim':>9} {'Allreduce µs':>13} {'exact/bare':>11} {'+ µs':>8} {'plain/bare':>11} {'of it sums':>11}")
    for dim in (1, 30, 300, 3000, 10_000, 100_000, 1_000_000):
        weights = np.full(workers, 1.0 / workers)
        exact = Tree(comm, weights, workers, Threads(1))
        plain = Tree(comm, weights, workers, Threads(1), exact=False)
        alone = Tree(None, weights[: exact.count], exact.count, Threads(1))
        x = np.random.default_rng(comm.rank).standard_normal((exact.count, dim))
        buffer = np.zeros(dim)
        times = max(3, min(2000, 2_000_000 // dim))
        calls: list[Callable[[], object]] = [
            lambda buffer=buffer: comm.Allreduce(MPI.IN_PLACE, buffer, MPI.SUM),  # type: ignore[misc]
            lambda tree=exact, x=x: tree.mean(x, 0),  # type: ignore[misc]
            lambda tree=plain, x=x: tree.mean(x, 0),  # type: ignore[misc]
            lambda tree=alone, x=x: tree.mean(x, 0),  # type: ignore[misc]
        ]
        for call in calls:
            call()
        rows = [[seconds(comm, call, times) for call in calls] for _ in range(given.repeat)]
        bare = statistics.median(row[0] for row in rows)
        ratios = [statistics.median(row[i] / row[0] for row in rows) for i in (1, 2)]
        extra = statistics.median(row[1] - row[0] for row in rows)
        sums = statistics.median(row[3] / row[1] for row in rows)
        if comm.rank == 0:
            exactly, plainly = ratios
            print(f"{dim:>9} {bare * 1e6:>13.1f} {exactly:>11.2f} {extra * 1e6:>8.1f} {plainly:>11.2f} {sums:>11.2f}")


if __name__ == "__main__":
    main()
