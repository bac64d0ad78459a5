"""The digest of a data set's content, and the check that rows are fit for a kernel.

The digest is Σ_i h(row i, i) mod 2^64, twice with different h: an order-free sum, so that any ranks may
read any rows. A row's hash is over its label and its non-zero (index, value) pairs as float64 bits, so the
file format and the stored precision of the same numbers do not matter; the layout (dense or CSR) does,
because the order of a kernel's sums does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpilocal.data.pieces import csr
from mpilocal.data.rows import Rows
from mpilocal.errors import DataError
from mpilocal.kernels.compile import kernel

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

A = np.uint64(0x9E3779B97F4A7C15)
B = np.uint64(0xBF58476D1CE4E5B9)
C = np.uint64(0x94D049BB133111EB)
S27 = np.uint64(27)
S30 = np.uint64(30)
S31 = np.uint64(31)
S32 = np.uint64(32)
GOOD, NOT_FINITE, LABEL, INDEX, ORDER, POINTER = range(6)


@kernel
def mix(z):  # type: ignore[no-untyped-def]
    """Return the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    z = (z ^ (z >> S30)) * B
    z = (z ^ (z >> S27)) * C
    return z ^ (z >> S31)


@kernel
def pair(bits, index):  # type: ignore[no-untyped-def]
    """Return a hash of a value's bits at an index."""
    z = (bits ^ (bits >> S32)) + np.uint64(index + 1) * A
    z = (z ^ (z >> S31)) * B
    return z ^ (z >> S32)


@kernel
def row_hash(total, cross, label, row, layout):  # type: ignore[no-untyped-def]
    """Return the two hashes of a row from its sums over pairs."""
    place = mix(np.uint64(row) * A + layout)
    first = mix(total + mix(label ^ A) + place)
    second = mix((cross ^ C) + mix(label + B) * A + mix(place + C))
    return first, second


@kernel
def sum_dense(bits, labels, first):  # type: ignore[no-untyped-def]
    """Sum the hashes of dense rows; bits is (rows, features) uint64, -0.0 already 0.0."""
    one, two = np.uint64(0), np.uint64(0)
    for i in range(bits.shape[0]):
        total, cross = np.uint64(0), np.uint64(0)
        for j in range(bits.shape[1]):
            if bits[i, j] != 0:
                h = pair(bits[i, j], j)
                total += h
                cross += (h >> S27) * (h | np.uint64(1))
        a, b = row_hash(total, cross, labels[i], first + i, np.uint64(1))
        one += a
        two += b
    return one, two


@kernel
def sum_sparse(bits, indices, indptr, labels, first):  # type: ignore[no-untyped-def]
    """Sum the hashes of CSR rows; bits is (non-zeros,) uint64."""
    one, two = np.uint64(0), np.uint64(0)
    for i in range(len(labels)):
        total, cross = np.uint64(0), np.uint64(0)
        for k in range(indptr[i], indptr[i + 1]):
            h = pair(bits[k], indices[k])
            total += h
            cross += (h >> S27) * (h | np.uint64(1))
        a, b = row_hash(total, cross, labels[i], first + i, np.uint64(2))
        one += a
        two += b
    return one, two


@kernel
def fault_dense(dense, labels):  # type: ignore[no-untyped-def]
    """Return (fault, row) of the first row that is not finite."""
    for i in range(len(labels)):
        if not np.isfinite(labels[i]):
            return LABEL, i
        bad = 0
        for j in range(dense.shape[1]):
            bad += not np.isfinite(dense[i, j])
        if bad:
            return NOT_FINITE, i
    return GOOD, 0


@kernel
def fault_sparse(values, indices, indptr, labels, features):  # type: ignore[no-untyped-def]
    """Return (fault, row) of the first row that a kernel could not read safely."""
    for i in range(len(labels)):
        if not np.isfinite(labels[i]):
            return LABEL, i
        if indptr[i] < 0 or indptr[i + 1] < indptr[i] or indptr[i + 1] > len(values):
            return POINTER, i
        previous = np.int64(-1)
        for k in range(indptr[i], indptr[i + 1]):
            index = np.int64(indices[k])
            if index < 0 or index >= features:
                return INDEX, i
            if index <= previous:
                return ORDER, i
            if not np.isfinite(values[k]):
                return NOT_FINITE, i
            previous = index
    return GOOD, 0


def check(rows: Rows, first: int, name: str) -> None:
    """Raise DataError where a row (global index `first` + i) of the file `name` is not fit for a kernel."""
    if rows.dense is not None:
        fault, row = fault_dense(rows.dense, rows.labels)
    else:
        fault, row = fault_sparse(*csr(rows), rows.labels, rows.features)
    if fault == GOOD:
        return
    what = {
        NOT_FINITE: "holds a value that is not finite: remove or replace it",
        LABEL: "has a label that is not finite: remove the row",
        INDEX: f"has a feature index outside 0 … {rows.features - 1}: the file is damaged or `features` is too small",
        ORDER: "has feature indices that do not ascend strictly: sort them and sum duplicates",
        POINTER: "has no valid range in indptr: the file is damaged",
    }[fault]
    raise DataError(f"{name}: row {first + row} (from 0) {what}")


def bits_of(values: NDArray[np.floating]) -> NDArray[np.uint64]:
    """Return the float64 bits, those of -0.0 as 0.0."""
    return (np.asarray(values, np.float64) + 0.0).view(np.uint64)


def sums(rows: Rows, first: int) -> NDArray[np.uint64]:
    """Return this piece's share (2,) of the digest; `first` is the global index of its first row."""
    labels = bits_of(rows.labels)
    out = np.zeros(2, np.uint64)
    step = max(1, (1 << 20) // max(1, rows.features)) if rows.dense is not None else 1 << 16
    for begin in range(0, rows.count, step):
        end = min(begin + step, rows.count)
        # pieces, so that the float64 bits of the whole never stand beside the rows
        if rows.dense is not None:
            one, two = sum_dense(bits_of(rows.dense[begin:end]), labels[begin:end], first + begin)
        else:
            values, indices, indptr = csr(rows)
            low, high = indptr[begin], indptr[end]
            bits = bits_of(values[low:high])
            pointers = indptr[begin : end + 1] - low
            one, two = sum_sparse(bits, indices[low:high], pointers, labels[begin:end], first + begin)
        out += np.array([one, two], np.uint64)
    return out


@kernel
def last_mix(total, rows, features, which):  # type: ignore[no-untyped-def]
    """Return half of the digest from its sum and the shape."""
    return mix(total ^ mix(np.uint64(rows) * A + np.uint64(features) * C + np.uint64(which)))


def finish(total: NDArray[np.uint64], rows: int, features: int) -> str:
    """Return the digest, 32 hex digits, from the sum of all shares."""
    return "".join(f"{int(last_mix(total[i], rows, features, i)):016x}" for i in range(2))


def digest(comm: Intracomm, rows: Rows, first: int, total: int) -> str:
    """Collective: return the digest of all rows from each rank's rows, which begin at global index `first`."""
    mine = sums(rows, first)
    out = np.zeros_like(mine)
    comm.Allreduce(mine, out)
    return finish(out, total, rows.features)
