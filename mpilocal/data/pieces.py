"""Cutting, joining and converting rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mpilocal.data.rows import Rows, Source

MEBIBYTE = 1 << 20


def empty(features: int, sparse: bool, dtype: DTypeLike = np.float64) -> Rows:
    """Return no rows of the given kind."""
    labels = np.zeros(0)
    if not sparse:
        return Rows(labels, features, dense=np.zeros((0, features), dtype))
    return Rows(
        labels,
        features,
        values=np.zeros(0, dtype),
        indices=np.zeros(0, np.int32),
        indptr=np.zeros(1, np.int64),
    )


def csr(rows: Rows) -> tuple[NDArray[np.floating], NDArray[np.int32], NDArray[np.int64]]:
    """Return (values, indices, indptr) of sparse rows."""
    if rows.values is None or rows.indices is None or rows.indptr is None:
        raise TypeError("these rows are dense")
    return rows.values, rows.indices, rows.indptr


def cut(rows: Rows, first: int, last: int) -> Rows:
    """Return rows first ≤ i < last; views where possible."""
    labels = rows.labels[first:last]
    users = None if rows.users is None else rows.users[first:last]
    if rows.dense is not None:
        return Rows(labels, rows.features, dense=rows.dense[first:last], users=users)
    values, indices, indptr = csr(rows)
    begin, end = int(indptr[first]), int(indptr[last])
    pointers = indptr[first : last + 1]
    if begin:
        pointers = pointers - begin
    return Rows(
        labels, rows.features, values=values[begin:end], indices=indices[begin:end], indptr=pointers, users=users
    )


def take(rows: Rows, order: NDArray[np.int64]) -> Rows:
    """Return the rows in the given order (indices may repeat); a copy."""
    labels = rows.labels[order]
    users = None if rows.users is None else rows.users[order]
    if rows.dense is not None:
        return Rows(labels, rows.features, dense=rows.dense[order], users=users)
    values, indices, indptr = csr(rows)
    lengths = indptr[order + 1] - indptr[order]
    pointers = offsets(lengths)
    where = spans(indptr[order], lengths)
    return Rows(labels, rows.features, values=values[where], indices=indices[where], indptr=pointers, users=users)


def offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the running sum that starts at 0: (n + 1,) for lengths (n,)."""
    out = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=out[1:])
    return out


def spans(begin: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return begin[0], begin[0] + 1, … (lengths[0] of them), begin[1], …: where the rows' non-zeros lie."""
    shift = begin - offsets(lengths)[:-1]
    where: NDArray[np.int64] = np.repeat(shift, lengths)
    where += np.arange(len(where))
    return where


def join(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all parts in order; the widest number of features."""
    if len(parts) == 1:
        return parts[0]
    features = max(part.features for part in parts)
    labels = np.concatenate([part.labels for part in parts])
    users = None
    if all(part.users is not None for part in parts):
        users = np.concatenate([part.users for part in parts if part.users is not None])
    if parts[0].dense is not None:
        dense = np.concatenate([part.dense for part in parts if part.dense is not None])
        return Rows(labels, features, dense=dense, users=users)
    triples = [csr(part) for part in parts]
    lengths = np.concatenate([np.diff(triple[2]) for triple in triples])
    return Rows(
        labels,
        features,
        values=np.concatenate([triple[0] for triple in triples]),
        indices=np.concatenate([triple[1] for triple in triples]),
        indptr=offsets(lengths),
        users=users,
    )


def cast(rows: Rows, dtype: DTypeLike) -> Rows:
    """Return the rows with values of `dtype`; labels stay float64."""
    if rows.dense is not None:
        return rows._replace(dense=np.ascontiguousarray(rows.dense, dtype))
    return rows._replace(values=np.ascontiguousarray(rows.values, dtype))


def without_zeros(rows: Rows) -> Rows:
    """Return sparse rows without explicit zeros; dense rows as they are."""
    if rows.dense is not None:
        return rows
    values, indices, indptr = csr(rows)
    keep = values != 0
    if keep.all():
        return rows
    return rows._replace(values=values[keep], indices=indices[keep], indptr=offsets(keep)[indptr])


def densified(rows: Rows) -> Rows:
    """Return the rows with all their zeros."""
    if rows.dense is not None:
        return rows
    values, indices, indptr = csr(rows)
    dense = np.zeros((rows.count, rows.features), values.dtype)
    # a piece at a time: the row numbers of all non-zeros would be as large as the rows
    for first in range(0, rows.count, 1 << 16):
        last = min(first + (1 << 16), rows.count)
        row = np.repeat(np.arange(first, last), np.diff(indptr[first : last + 1]))
        here = slice(indptr[first], indptr[last])
        dense[row, indices[here]] = values[here]
    return Rows(rows.labels, rows.features, dense=dense, users=rows.users)


def size_of(rows: Rows) -> int:
    """Return the bytes that the rows occupy."""
    return sum(item.nbytes for item in rows if isinstance(item, np.ndarray))


def stream(source: Source, target: int = 32 * MEBIBYTE) -> Iterator[Rows]:
    """Yield all rows of a source in order, in pieces of about `target` bytes."""
    count = 256
    first = 0
    while first < source.total:
        last = min(source.total, first + count)
        rows = source.read(first, last)
        yield rows
        each = max(1.0, size_of(rows) / (last - first))
        count = max(1, min(4 * count, int(target / each)))
        first = last
