"""Converting a data set to one HDF5 file, and making a synthetic one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from mpilocal.config.structs import Data
from mpilocal.data.components import project
from mpilocal.data.kind import locate
from mpilocal.data.read import read_part
from mpilocal.data.sources import open_source
from mpilocal.data.write import write_dataset
from mpilocal.errors import ConfigError, DataError, agreed

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


def convert(
    comm: Intracomm,
    source: str,
    output: Path,
    dtype: DTypeLike = np.float64,
    features: int | None = None,
    options: Mapping[str, Any] | None = None,
    components: int | None = None,
) -> dict[str, Any]:
    """Collective: read a source by all ranks together and write it as HDF5; see docs/format.md.

    Args:
        comm: Of the ranks that share the work.
        source: As in `data.source`, relative to the working directory.
        output: The file to write; replaced when it is whole. Its folder is made where it is missing.
        dtype: Of the stored values: float64 or float32.
        features: The dimension, where the file does not show it.
        options: As in `[data.options]`.
        components: Keep so many principal components of the features; see `components.project`.

    Returns:
        Facts: output, rows, features, nonzeros, sparse, dtype, digest, bytes.

    Raises:
        ConfigError, DataError: On all ranks alike.
    """
    kind = np.dtype(dtype)
    with agreed(comm):
        if kind not in (np.dtype(np.float64), np.dtype(np.float32)):
            raise ConfigError(f'dtype = "{kind}" cannot be stored: "float64" or "float32"')
        if comm.rank == 0:
            _refuse_itself(source, output)
            _make_folder(output.absolute().parent)
    data = Data(source=source, features=features, options=dict(options or {}))
    part = read_part(comm, data, Path.cwd(), kind)
    if components is not None:
        part = project(comm, part, open_source(data, Path.cwd()), components)
    mine = np.array([part.rows.count * part.rows.features], np.int64)
    if part.rows.values is not None:
        mine[0] = len(part.rows.values)
    nonzeros = np.zeros_like(mine)
    comm.Allreduce(mine, nonzeros)
    digest = write_dataset(comm, output.absolute(), part, kind)
    return {
        "output": str(output),
        "rows": part.total,
        "features": part.rows.features,
        "nonzeros": int(nonzeros[0]),
        "sparse": part.rows.sparse,
        "dtype": kind.name,
        "digest": digest,
        "bytes": output.stat().st_size if comm.rank == 0 else 0,
    }


def _refuse_itself(source: str, output: Path) -> None:
    found = locate(source, Path.cwd())
    if found is not None and output.exists() and found.samefile(output):
        raise ConfigError(f"{output} is the data set itself, which would be lost: name another file for the output")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{folder} is not a folder: name another one for the output") from error
    except OSError as error:
        raise DataError(
            f"cannot make the folder {folder}: {error.strerror}; name another one for the output"
        ) from error
