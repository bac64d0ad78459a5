"""checkpoints/round-00000100.h5: the average, the whole state by worker id, the round; for any number of ranks.

Root alone writes and reads; the other ranks send or receive their workers' rows in pieces, each on root's word, so that
root never holds more than a few. A file is whole or absent, and two of equal content are equal in every byte.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from mpilocal import atomic
from mpilocal.errors import CheckpointError, MpilocalError, agree, agreed
from mpilocal.store import transfer
from mpilocal.store.inplace import Bytes, Digest, pread, pwrite
from mpilocal.store.snapshot import AVERAGE, BLOCK, Array, Counters, Field, Meta, Part, block, damage, describe, layout

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

__all__ = ["Counters", "Field", "listed", "newest", "read", "write"]

_NAME = re.compile(r"round-(\d{8,})\.h5")


def write(
    comm: Intracomm | None,
    folder: str | Path,
    round: int,
    average: Array,
    fields: Sequence[Field],
    counters: Mapping[str, int | float | str],
    workers: int,
    first_worker: int,
    keep: int,
) -> int:
    """Collective: write the checkpoint of `round` and remove all but the newest `keep`; return its bytes.

    Args:
        comm: the run's ranks, whose workers are consecutive blocks of ids in rank order; None: one rank.
        folder: the run's `checkpoints`, made if missing.
        round: completed rounds.
        average: (dim,) Σ p_m x_m.
        fields: the same names in the same order on all ranks.
        counters: what is not an array: numbers and short text, equal on all ranks.
        workers: of the whole run.
        first_worker: global id of this rank's first worker.
        keep: how many checkpoints remain; later ones than this are of an abandoned course and go as well.

    Raises:
        DataError: the file cannot be written; raised on all ranks.
    """
    kept = [(field, field.array) for field in fields if field.array is not None]
    arrays = [array for _, array in kept]
    counts = _counts(comm, kept, workers, first_worker)
    error: Exception | None = None
    size = 0
    if comm is None or comm.rank == 0:
        path = Path(folder) / f"round-{round:08d}.h5"

        def save(temporary: Path) -> None:
            parts = layout(temporary, round, workers, average, [field for field, _ in kept], counters)
            _save(comm, temporary, [*arrays, average], parts, counts)  # the average is at index -1

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write(path, save)
            size = path.stat().st_size
            _prune(path, round, keep)
        except OSError as failure:
            error = atomic.unwritable(path, failure)
        except Exception as failure:
            error = failure
        finally:
            if comm is not None:
                transfer.dismiss(comm)
    else:
        transfer.serve(comm, arrays)
    return _verdict(comm, error, size)


def _verdict(comm: Intracomm | None, error: Exception | None, value: int) -> int:
    """Collective: what root found, an error or a number, on all ranks."""
    if comm is None:
        if error is not None:
            raise error
        return value
    known = isinstance(error, MpilocalError)
    said = None if error is None else (type(error) if known else MpilocalError, str(error))
    said, value = comm.bcast((said, value))
    if error is not None:
        raise error
    if said is not None:
        raise said[0](said[1])
    return value


def _counts(
    comm: Intracomm | None, fields: Sequence[tuple[Field, Array]], workers: int, first_worker: int
) -> list[int]:
    """Collective: how many workers each rank has; refuses fields and blocks that do not fit together."""
    of_workers = [len(array) for field, array in fields if not field.common]
    shapes = [(f.name, f.common, array.dtype.str, array.shape[not f.common :]) for f, array in fields]
    code = int.from_bytes(hashlib.sha256(repr(shapes).encode()).digest()[:7], "little")
    held = (of_workers[0] if len(set(of_workers)) == 1 else -2) if of_workers else -1
    mine = np.array([first_worker, held, code], dtype=np.int64)
    every = np.empty((1 if comm is None else comm.size, 3), dtype=np.int64)
    if comm is None:
        every[0] = mine
    else:
        comm.Allgather(mine, every)
    if (every[:, 2] != code).any():
        raise ValueError("the fields of a checkpoint differ in name, type or shape between ranks")
    ends = np.append(every[1:, 0], workers)
    counts = ends - every[:, 0]
    if every[0, 0] != 0 or (counts < 0).any() or (of_workers and (every[:, 1] != counts).any()):
        raise ValueError(f"ranks begin at workers {every[:, 0].tolist()} and hold {every[:, 1].tolist()} of {workers}")
    return [int(count) for count in counts]


def _save(
    comm: Intracomm | None,
    path: Path,
    arrays: Sequence[Array],
    parts: Sequence[tuple[int, Part]],
    counts: Sequence[int],
) -> None:
    """On root: fill a file that is laid out, from front to back, and sign it."""
    file = os.open(path, os.O_RDWR)
    try:
        with Digest(file, BLOCK) as digest:
            for index, part in parts:
                digest.reach(part.offset)
                for piece in transfer.pieces(arrays[index]):
                    digest.write(piece)
                if comm is not None and not part.common:
                    with closing(transfer.received(comm, index, [count * part.row for count in counts])) as pieces:
                        for piece in pieces:
                            digest.write(piece)
            size = os.fstat(file).st_size
            digest.reach(size)
            pwrite(file, block(digest.hex(), size - BLOCK), 0)
    finally:
        os.close(file)


def _prune(newest: Path, round: int, keep: int) -> None:
    found = listed(newest.parent)
    past = [path for number, path in found if number <= round]
    for path in [path for number, path in found if number > round] + past[: max(len(past) - keep, 0)]:
        path.unlink(missing_ok=True)


def listed(folder: str | Path) -> list[tuple[int, Path]]:
    """Return (round, path) of the checkpoints in a folder, oldest first, whether usable or not."""
    found = [(match, path) for path in Path(folder).glob("round-*.h5") if (match := _NAME.fullmatch(path.name))]
    return sorted((int(match[1]), path) for match, path in found)


def newest(folder: str | Path) -> tuple[Path, list[str]]:
    """Return the newest whole checkpoint, and a sentence about each newer one that is damaged.

    Raises:
        CheckpointError: there is none, or none that is whole.
    """
    said: list[tuple[str, str]] = []
    for _, path in reversed(listed(folder)):
        wrong = damage(path)
        if wrong is None:
            return path, [f"the checkpoint {one} is damaged ({why}): using {path.name} instead" for one, why in said]
        said.append((path.name, wrong))
    if not said:
        raise CheckpointError(f"there is no checkpoint in {folder}: start the run anew in another folder with -o")
    every = "; ".join(f"{name}: {why}" for name, why in said)
    raise CheckpointError(
        f"no checkpoint in {folder} is usable ({every}): start the run anew in another folder with -o"
    )


def read(
    comm: Intracomm | None,
    path: str | Path | None,
    workers: int,
    first_worker: int,
    count: int,
    dim: int | None = None,
    dtype: DTypeLike | None = None,
) -> tuple[int, Array, dict[str, Array], Counters]:
    """Collective: read a checkpoint, each rank its workers' rows.

    Args:
        comm: the run's ranks, as in `write`; any number of them; None: one rank.
        path: on root, elsewhere of no account; see `newest`, which verifies it.
        workers: of the whole run.
        first_worker: global id of this rank's first worker.
        count: workers of this rank.
        dim: of the run's iterates, where it is to be compared.
        dtype: of the run's average, where it is to be compared.

    Returns:
        The round, the average (dim,), the fields by name (common: whole; else (count, …)), and the counters.

    Raises:
        CheckpointError: the file is not a checkpoint of such a run; raised on all ranks.
    """
    meta: Meta | None = None
    arrays: dict[str, Array] = {}
    error: Exception | None = None
    file = -1
    try:
        if comm is None or comm.rank == 0:
            assert path is not None
            meta = describe(Path(path))
            _compare(Path(path), meta, workers, dim, dtype)
            file = os.open(path, os.O_RDONLY)
    except Exception as failure:
        error = failure
    try:
        if comm is not None:
            meta = comm.bcast(meta)
            agree(comm, error)
        elif error is not None:
            raise error
        assert meta is not None
        with agreed(comm):
            arrays = {part.name: np.empty(part.of(count), part.dtype) for part in meta.parts}
        lost = _fill(comm, file, meta.parts, arrays, count)
        _verdict(comm, lost and CheckpointError(f"cannot read {path}: {atomic.reason(lost)}; check the disk"), 0)
    finally:
        if file >= 0:
            os.close(file)
    return meta.round, arrays.pop(AVERAGE), arrays, meta.counters


def _fill(
    comm: Intracomm | None, file: int, parts: Sequence[Part], arrays: Mapping[str, Array], count: int
) -> OSError | None:
    """Collective: read the arrays; return what went wrong on root, where the others then hold rubbish."""
    lost: OSError | None = None
    counts = np.array([count], dtype=np.int64)
    if comm is not None:
        counts = np.empty(comm.size, dtype=np.int64)
        comm.Allgather(np.array([count], dtype=np.int64), counts)
    for part in parts:

        def load(piece: Bytes, at: int, begin: int = part.offset) -> None:
            nonlocal lost
            try:
                pread(file, piece.data, begin + at)
            except OSError as failure:
                lost = failure

        array = arrays[part.name]
        if comm is not None and not part.common:
            transfer.deal(comm, load, [int(each) * part.row for each in counts], array)
            continue
        if comm is None or comm.rank == 0:
            at = 0
            for piece in transfer.pieces(array):
                load(piece, at)
                at += len(piece)
        if comm is not None:
            transfer.share(comm, array)
    return lost


def _compare(path: Path, meta: Meta, workers: int, dim: int | None, dtype: DTypeLike | None) -> None:
    average = meta.parts[0]
    checks: list[tuple[str, object, object]] = [("workers", meta.workers, workers)]
    if dim is not None:
        checks.append(("coordinates", math.prod(average.shape), dim))
    if dtype is not None:
        checks.append(("average of type", np.dtype(average.dtype).name, np.dtype(dtype).name))
    for what, held, wanted in checks:
        if held != wanted:
            raise CheckpointError(f"{path} holds {what} {held} where the run has {wanted}: resume with its own config")
