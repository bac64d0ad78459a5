"""A partition of the user's own: a Python function that names a worker for each row.

FILE.py:NAME, or an entry point of the group `mpilocal.partitions`.
"""

from __future__ import annotations

import numpy as np

from mpilocal import plugins
from mpilocal.data.groups import grouped
from mpilocal.data.partition import Options, Plan, Request
from mpilocal.data.pieces import offsets
from mpilocal.errors import ConfigError, agreed

GROUP = "mpilocal.partitions"


class Own(Options, frozen=True, tag="own"):
    """A function (labels, users, first, total, workers, seed, comm) → (my rows,) worker ids, collectively."""

    name: str

    def plan(self, asked: Request) -> Plan:
        """Place = worker, then index."""
        part = asked.part
        with agreed(asked.comm):
            function = plugins.find(self.name, {}, GROUP, "data.partition", asked.folder)
            if not callable(function):
                raise ConfigError(f'data.partition = "{self.name}" is no function: name one')
        # the function may communicate, so what it raises is its own affair until it has returned
        answer = function(
            part.rows.labels, part.rows.users, part.first, part.total, asked.workers, asked.seed, asked.comm
        )
        with agreed(asked.comm):
            worker = np.asarray(answer)
            if worker.shape != (part.rows.count,) or worker.dtype.kind not in "iu":
                raise ConfigError(
                    f'data.partition = "{self.name}" returned {worker.dtype} of shape {worker.shape} for '
                    f"{part.rows.count} rows: return one integer for each row"
                )
            wrong = worker[(worker < 0) | (worker >= asked.workers)]
            if wrong.size:
                raise ConfigError(
                    f'data.partition = "{self.name}" returned worker {wrong[0]}: ids are 0 … {asked.workers - 1}'
                )
        found = grouped(asked.comm, worker.astype(np.int64), np.arange(asked.workers))
        return Plan(offsets(found.counts)[:-1][found.group] + found.rank, found.counts)
