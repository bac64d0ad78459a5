"""Data: sources of rows, read by all ranks, dealt out to workers.

`open_source` reads serially and without MPI; `read_part`, `plan`, `deal`, `share` and `write_dataset` are
collective.
"""

from mpilocal.data.rows import Part, Rows, Source, block
from mpilocal.data.sources import open_source

__all__ = ["Part", "Rows", "Source", "block", "open_source"]
