"""Facts about a data set, gathered serially in pieces: what `mpilocal data info` prints."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpilocal.data import digest
from mpilocal.data.pieces import MEBIBYTE, csr, size_of, stream
from mpilocal.data.rows import Rows, Source

HELD = 1024 * MEBIBYTE  # rows that are kept in memory between the passes over them
LABELS = 20
MOST_LABELS = 1 << 20
TOLERANCE = 1e-4
PASSES = 100


def info(source: Source) -> dict[str, Any]:
    """Return facts about a source.

    Returns:
        rows, features, sparse, nonzeros, density; labels (the first 20 values with their counts, and "…" where
        there are more); row_norm and value, each with min, mean or max; users (their number, or None); digest;
        bytes in memory; smoothness: λ_max(AᵀA/n)/4 for "logistic" and λ_max for "squared", by power iteration until
        the estimate grows by less than 1e-4 of itself (so from below), and row_bound = max ‖a_i‖², the squared loss's
        smoothness of the worst row; extra: the names and shapes of the known arrays.

    Raises:
        DataError: A row is wrong.
    """
    counts = _Counts()
    held: list[Rows] | None = []
    for rows in stream(source):
        counts.add(rows)
        if held is not None:
            held.append(rows)
            if counts.bytes > HELD:
                held = None
    top, passes = largest_eigenvalue(source, held)
    return counts.facts(source) | {
        "smoothness": {"logistic": top / 4, "squared": top, "row_bound": counts.norms[2], "passes": passes},
        "extra": {name: list(array.shape) for name, array in sorted(source.extra.items())},
    }


class _Counts:
    """What one pass gathers."""

    def __init__(self) -> None:
        self.rows = self.nonzeros = self.bytes = 0
        self.labels: dict[float, int] | None = {}
        self.users: set[int] | None = None
        self.norms = [np.inf, 0.0, 0.0]  # least ‖a‖², Σ‖a‖, most ‖a‖²
        self.values = [np.inf, -np.inf]
        self.sums = np.zeros(2, np.uint64)

    def add(self, rows: Rows) -> None:
        """Take in a piece."""
        digest.check(rows, self.rows, "the source")
        self.sums += digest.sums(rows, self.rows)
        self.bytes += size_of(rows)
        values = rows.values if rows.dense is None else rows.dense
        assert values is not None
        self.nonzeros += int(np.count_nonzero(values))
        if values.size:
            self.values = [min(self.values[0], float(values.min())), max(self.values[1], float(values.max()))]
        squares = square_norms(rows)
        self.norms[0] = min(self.norms[0], float(squares.min(initial=np.inf)))
        self.norms[1] += float(np.sqrt(squares).sum())
        self.norms[2] = max(self.norms[2], float(squares.max(initial=0)))
        if self.labels is not None:
            for value, count in zip(*np.unique(rows.labels, return_counts=True), strict=True):
                self.labels[float(value)] = self.labels.get(float(value), 0) + int(count)
            if len(self.labels) > MOST_LABELS:
                self.labels = None
        if rows.users is not None:
            self.users = (self.users or set()) | set(np.unique(rows.users).tolist())
        self.rows += rows.count

    def facts(self, source: Source) -> dict[str, Any]:
        """Return what was gathered."""
        labels: dict[str, Any] = {"different": "more than 2^20"}
        if self.labels is not None:
            shown = sorted(self.labels.items())[:LABELS]
            labels = {"different": len(self.labels), "counts": {f"{value:g}": count for value, count in shown}}
            if len(self.labels) > LABELS:
                labels["counts"]["…"] = self.rows - sum(count for _, count in shown)
        implicit_zeros = source.sparse and self.nonzeros < self.rows * source.features
        low, high = self.values
        if implicit_zeros:
            low, high = min(low, 0.0), max(high, 0.0)
        return {
            "rows": self.rows,
            "features": source.features,
            "sparse": source.sparse,
            "nonzeros": self.nonzeros,
            "density": self.nonzeros / (self.rows * source.features),
            "labels": labels,
            "row_norm": {
                "min": float(np.sqrt(self.norms[0])),
                "mean": self.norms[1] / self.rows,
                "max": float(np.sqrt(self.norms[2])),
            },
            "value": {"min": low, "max": high},
            "users": None if self.users is None else len(self.users),
            "digest": digest.finish(self.sums, self.rows, source.features),
            "bytes": self.bytes,
        }


def square_norms(rows: Rows) -> NDArray[np.float64]:
    """Return ‖a_i‖² (rows,)."""
    if rows.dense is not None:
        return np.asarray(np.einsum("ij,ij->i", rows.dense, rows.dense, dtype=np.float64))
    values, _, indptr = csr(rows)
    row = np.repeat(np.arange(rows.count), np.diff(indptr))
    return np.asarray(np.bincount(row, np.square(values, dtype=np.float64), rows.count), np.float64)


def largest_eigenvalue(source: Source, held: list[Rows] | None = None) -> tuple[float, int]:
    """Return λ_max(AᵀA/n) from below by power iteration, and the passes over the rows that it took.

    Args:
        source: Read again in every pass, unless all rows are
        held: in memory.
    """
    v = np.random.default_rng(0).standard_normal(source.features)
    estimate = 0.0
    for done in range(1, PASSES + 1):
        v /= np.sqrt(v @ v)
        new = np.zeros(source.features)
        for rows in held if held is not None else stream(source):
            matrix = _matrix(rows)
            new += matrix.T @ (matrix @ v)
        new /= source.total
        last, estimate = estimate, float(v @ new)
        if estimate <= 0 or estimate - last <= TOLERANCE * estimate:
            return max(estimate, 0.0), done
        v = new
    return estimate, PASSES


def _matrix(rows: Rows) -> Any:
    if rows.dense is not None:
        return rows.dense
    from scipy.sparse import csr_matrix

    return csr_matrix(csr(rows), shape=(rows.count, rows.features))
