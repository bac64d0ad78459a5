"""Threads of one rank: a kernel's range of workers or coordinates, shared out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mpilocal.data.rows import block


class Threads:
    """Call compiled kernels, which release the GIL, on parts of a range; one thread costs nothing."""

    def __init__(self, count: int = 1) -> None:
        """Start `count` − 1 helpers beside the calling thread."""
        self.count = count
        self._pool = ThreadPoolExecutor(count - 1, "mpilocal") if count > 1 else None

    def run(
        self,
        kernel: Callable[..., Any],
        total: int,
        args: Sequence[Any],
        scratch: Sequence[Sequence[Any]] = (),
        grain: int = 1,
    ) -> None:
        """Call kernel(*args, *scratch[thread], first, last) so that the parts [first, last) cover range(total).

        No part is smaller than `grain`: a thread is not worth waking for less.
        """
        parts = min(self.count, total // grain)
        if self._pool is None or parts < 2:
            kernel(*args, *(scratch[0] if scratch else ()), 0, total)
            return
        jobs = []
        for thread in range(1, parts):
            first, last = block(total, parts, thread)
            own = scratch[thread] if scratch else ()
            jobs.append(self._pool.submit(kernel, *args, *own, first, last))
        first, last = block(total, parts, 0)
        kernel(*args, *(scratch[0] if scratch else ()), first, last)
        for job in jobs:
            job.result()

    def close(self) -> None:
        """End the helpers."""
        if self._pool is not None:
            self._pool.shutdown()
