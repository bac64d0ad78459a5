"""history.h5: a row for each recorded round; what depends on the launch is in the group /timings only."""

from __future__ import annotations

import re
from array import array
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from mpilocal import atomic
from mpilocal.errors import DataError

Column = NDArray[np.float64] | NDArray[np.int64]
Row = Mapping[str, float | int]
_Values: TypeAlias = "array[Any]"  # typecode "q" or "d"

# Last part of a dataset's name → units, description.
DESCRIPTIONS: dict[str, tuple[str, str]] = {
    "round": ("rounds", "completed rounds"),
    "step": ("steps", "local steps that each worker has completed"),
    "objective": ("1", "F at the average of the iterates"),
    "gradient_norm": ("1", "2-norm of the gradient of F at the average of the iterates"),
    "consensus": ("1", "sum over workers of p_m |x_m - average|^2, just before the averaging of the round"),
    "suboptimality": ("1", "F at the average of the iterates, less the least value of F"),
    "samples": ("samples", "samples drawn by all workers so far"),
    "divergence": ("1", "sum over workers of p_m |gradient of f_m - gradient of F|^2 at the average of the iterates"),
    "level/divergence": ("1", "sum of p |gradient - that of the next wider group|^2 over workers or narrower groups"),
    "level/consensus": ("1", "sum over workers of p_m |x_m - mean of the group|^2, just before the averaging"),
    "norm": ("1", "2-norm of the average of the iterates"),
    "direction_error": ("1", "| w/|w| - s/|s| |, w the average of the iterates, s the max-margin separator"),
    "local_direction_error": ("1", "sum over workers of p_m times that of x_m, just before the averaging"),
    "effective_dimension": ("1", "k* + (step size times steps)^2 times the sum of the squared eigenvalues beyond k*"),
    "bound_risk": ("1", "bound on the excess risk of the uniform average of the iterates"),
    "contraction": ("1", "factor by which a round of local gradient descent shrinks the error of least squares"),
    "smoothness": ("1", "L of F, estimated"),
    "convexity": ("1", "mu of the ridge term and of a quadratic's own curvature"),
    "distance": ("1", "2-norm of the start less the minimiser"),
    "optimum_noise": ("1", "sum over workers of p_m mean |gradient of a row - gradient of f_m|^2 at the minimiser"),
    "optimum_divergence": ("1", "sum over workers of p_m |gradient of f_m - gradient of F|^2 at the minimiser"),
    "risk": ("1", "excess risk over the law of the data at the average of the iterates"),
    "averagings": ("1", "averagings of the level so far"),
    "vectors": ("1", "vectors sent by all workers so far, each counted as a machine"),
    "bytes": ("bytes", "payload sent by all workers so far, each counted as a machine"),
    "ranks": ("1", "MPI ranks"),
    "messages": ("1", "messages that the ranks sent so far"),
    "wire_bytes": ("bytes", "bytes that the ranks sent so far"),
}


class History:
    """The rows of a run, in memory on root; `write` puts all of them on disk.

    A column holds int64 if its first value is an integer, else float64. Names with "/" become groups.
    """

    def __init__(self, path: str | Path, descriptions: Mapping[str, tuple[str, str]] | None = None) -> None:
        self.path = Path(path)
        self.descriptions = {**DESCRIPTIONS, **(descriptions or {})}
        self._rows: dict[str, _Values] = {}
        self._timings: dict[str, _Values] = {}

    def __len__(self) -> int:
        return len(self._rows.get("round", ()))

    def append(self, row: Row, timings: Row | None = None) -> None:
        """Add a row; `row` holds `round`, which grows from row to row, and so do the timings, if any.

        Raises:
            DataError: the names are not those of the rows before.
            ValueError: `round` does not grow, or a fraction where the column holds integers.
        """
        _append(self._rows, row, self.path)
        if timings is not None:
            _append(self._timings, {"round": row["round"], **timings}, self.path)

    def cut(self, round: int, records: Container[int] | None = None) -> None:
        """Drop the rows after `round`: what a resume from that round's checkpoint computes again.

        A last row that is not one of `records` was there because the run ended, and goes too.
        """
        for table in (self._rows, self._timings):
            rounds = _view(table["round"]) if table else np.empty(0)
            kept = int(np.searchsorted(rounds, round, side="right"))
            kept -= kept > 0 and records is not None and int(rounds[kept - 1]) not in records
            for name, values in table.items():
                table[name] = values[:kept]

    def columns(self) -> dict[str, Column]:
        """Return copies of all columns by name, those of the timings as `timings/NAME`."""
        rows = {name: _view(values).copy() for name, values in self._rows.items()}
        return rows | {f"timings/{name}": _view(values).copy() for name, values in self._timings.items()}

    def write(self) -> None:
        """Replace the file by one with all rows (DataError where that fails)."""
        atomic.write(self.path, self._save)

    def _save(self, path: Path) -> None:
        with h5py.File(path, "w", locking=False) as file:
            file.attrs["creator"] = "mpilocal"
            file.attrs["version"] = atomic.version()
            self._fill(file, self._rows)
            if self._timings:
                self._fill(file.create_group("timings"), self._timings)

    def _fill(self, group: h5py.Group, table: Mapping[str, _Values]) -> None:
        scale = None
        for name in sorted(table, key=lambda name: (name != "round", name)):
            dataset = group.create_dataset(name, data=_view(table[name]), track_times=False)
            level = re.sub(r"^level\d+/", "level/", name)
            wanted = (level, name, name.rpartition("/")[2])
            known = next((self.descriptions[one] for one in wanted if one in self.descriptions), None)
            if known:
                dataset.attrs["units"], dataset.attrs["description"] = known
            if scale is None:
                scale = dataset
                scale.make_scale("round")
            else:
                dataset.dims[0].attach_scale(scale)

    @classmethod
    def read(cls, path: str | Path, descriptions: Mapping[str, tuple[str, str]] | None = None) -> History:
        """Return the history on disk, to be cut and continued (DataError where it cannot be read)."""
        history = cls(path, descriptions)
        for name, column in read_history(path).items():
            timing = name.startswith("timings/")
            table = history._timings if timing else history._rows
            values = array("q" if column.dtype == np.int64 else "d")
            values.frombytes(column.tobytes())
            table[name.removeprefix("timings/")] = values
        return history


def read_history(path: str | Path) -> dict[str, Column]:
    """Return every dataset of a history by name (`level1/bytes`, `timings/seconds`), also while the run lives.

    Raises:
        DataError: there is no such file, or it is not a history.
    """
    if not Path(path).is_file():
        raise DataError(f"there is no history at {path}: name the history.h5 of a run that has begun")
    columns: dict[str, Column] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            columns[name] = item[:]

    try:
        with h5py.File(path, "r", locking=False) as file:
            file.visititems(visit)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise DataError(f"cannot read the history {path} ({error}): restore it, or start another run") from error
    for timings in (False, True):
        lengths = {len(column) for name, column in columns.items() if name.startswith("timings/") == timings}
        named = not lengths or ("timings/round" if timings else "round") in columns
        if len(lengths) > 1 or not named:
            raise DataError(f"{path} is not a history of mpilocal: it needs columns of one length, among them round")
    return columns


def _append(table: dict[str, _Values], row: Row, path: Path) -> None:
    if not table:
        table.update({name: array("q" if _whole(value) else "d") for name, value in row.items()})
    if table.keys() != row.keys():
        raise DataError(
            f"the columns of {path} ({_names(table)}) are not those of this run ({_names(row)}): "
            f"start another run with -o"
        )
    before = table["round"]
    if len(before) and row["round"] <= before[-1]:
        raise ValueError(f"round {row['round']} does not follow round {before[-1]}")
    for name, value in row.items():
        if table[name].typecode == "q" and not _whole(value):
            raise ValueError(f"{name} = {value} in a column of integers")
    for name, value in row.items():
        table[name].append(int(value) if table[name].typecode == "q" else float(value))


def _whole(value: float | int) -> bool:
    return isinstance(value, int | np.integer)


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _view(values: _Values) -> Column:
    if values.typecode == "q":
        return np.frombuffer(values, dtype=np.int64)
    return np.frombuffer(values, dtype=np.float64)
