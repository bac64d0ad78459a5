"""LIBSVM text: pieces of whole lines to rows, with the line and the reason where a line is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from mpilocal.data import parse as compiled
from mpilocal.data.pieces import MEBIBYTE, without_zeros
from mpilocal.data.rows import Rows

PIECE = 16 * MEBIBYTE


class Fault(NamedTuple):
    """What is wrong in a line; `line` counts from 1 within the text that was parsed."""

    line: int
    reason: str


class Parsed(NamedTuple):
    """Rows of some text, up to the first fault; `rows.features` is the largest index that occurs."""

    rows: Rows
    lines: int
    fault: Fault | None


def lines_between(file: BinaryIO, first: int, last: int) -> bytes:
    """Return the lines that start at a byte first ≤ i < last, whole: the tail is read beyond `last`.

    Consecutive ranges therefore give every line exactly once, wherever they are cut.
    """
    if last <= first:
        return b""
    begin = max(first - 1, 0)
    file.seek(begin)
    data = file.read(last - begin)
    if first > 0:
        # the line that runs through byte first − 1 belongs to the range before, unless it ends there
        end = data.find(b"\n")
        data = data[end + 1 :] if end >= 0 else b""
    if data and not data.endswith(b"\n"):
        data += file.readline()
    return data


def whole_lines(file: BinaryIO, piece: int = PIECE) -> Iterator[bytes]:
    """Yield the whole file in pieces of at least `piece` bytes (but the last) that end with a line end."""
    while data := file.read(piece):
        if not data.endswith(b"\n"):
            data += file.readline()
        yield data


def parse_text(data: bytes, features: int | None = None) -> Parsed:
    """Parse whole lines.

    Args:
        data: Whole lines; the last may lack its line end.
        features: The largest index allowed; None: 2^31 − 1.
    """
    text = np.frombuffer(data, np.uint8)
    lines, colons = compiled.measure(text)
    labels = np.empty(lines)
    values = np.empty(colons)
    indices = np.empty(colons, np.int32)
    indptr = np.empty(lines + 1, np.int64)
    limit = compiled.LARGEST if features is None else features
    slow = np.empty((1024, 4), np.int64)
    out = compiled.parse(text, limit, labels, values, indices, indptr, slow)
    if out[6] > len(slow):
        slow = np.empty((out[6], 4), np.int64)
        out = compiled.parse(text, limit, labels, values, indices, indptr, slow)
    kind, position, line, lines, count, nonzeros, delayed, largest = out
    fault = None
    if kind != compiled.OK:
        fault = Fault(line, _reason(kind, _token(data, position), features))
    underflow = False
    for begin, end, place, at in slow[:delayed].tolist():
        value = float(data[begin:end])
        if not math.isfinite(value):
            fault = Fault(at, f"{_shown(data[begin:end])} is too large for a double")
            break
        if place < 0:
            labels[-1 - place] = value
        else:
            values[place] = value
            underflow |= value == 0.0
    # the arrays were sized by bounds: give back what is not used
    rows = Rows(
        labels[:count].copy(),
        int(largest),
        values=values[:nonzeros].copy() if nonzeros < colons else values,
        indices=indices[:nonzeros].copy() if nonzeros < colons else indices,
        indptr=indptr[: count + 1].copy(),
    )
    if underflow and fault is None:
        rows = without_zeros(rows)
    return Parsed(rows, int(lines), fault)


def _token(data: bytes, position: int) -> bytes:
    line = data[position : position + 200].split(b"\n", 1)[0]
    return line.split(None, 1)[0].split(b"#", 1)[0]


def _shown(token: bytes) -> str:
    text = token.decode("ascii", "backslashreplace")
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return f'"{text[:40]}…"' if len(text) > 40 else f'"{text}"'


def _number_fault(token: bytes) -> str:
    try:
        finite = math.isfinite(float(token)) or b"_" in token
    except ValueError:
        finite = True
    return "is not a number" if finite else "is not finite"


def _reason(kind: int, token: bytes, features: int | None) -> str:
    shown = _shown(token)
    index = _shown(token.split(b":", 1)[0])[1:-1]
    if kind == compiled.LABEL:
        return f"the label {shown} {_number_fault(token)}"
    if kind == compiled.VALUE:
        return f"the value in {shown} {_number_fault(token.split(b':', 1)[1])}"
    return {
        compiled.PAIR: f"{shown} is not of the form index:value",
        compiled.BELOW: f"index {index} is below 1 (LIBSVM text counts features from 1)",
        compiled.REPEATED: f"index {index} occurs twice",
        compiled.UNORDERED: f"index {index} follows a larger one; indices must ascend",
        compiled.ABOVE: f"index {index} is above features = {features}",
        compiled.HUGE: f"index {index} is above 2^31 - 1, the most features that are supported",
    }[kind]
