"""A compiled parser of LIBSVM text: bytes in, CSR arrays out.

Numbers are rounded correctly. A decimal of at most 18 significant digits is m·10^e with an integer
m < 10^18. For m ≤ 2^53 and |e| ≤ 22 both m and 10^|e| are exact, so that one multiplication or division
rounds once (Clinger 1990, "How to read floating point numbers accurately"). For a larger m the product or
quotient is formed as an unevaluated sum q + l of two doubles and accepted when q + l rounds alike over
the whole interval of l's error. All else is left to the caller, which has Python's `float`.
"""

from __future__ import annotations

import numpy as np

from mpilocal.kernels.compile import kernel

OK, LABEL, PAIR, BELOW, REPEATED, UNORDERED, VALUE, ABOVE, HUGE = range(9)
EXACT, SLOW, WRONG = range(3)
LARGEST = 2**31 - 1

POWERS = np.array([float(10**i) for i in range(23)])
SPLIT = 134217729.0  # 2^27 + 1, of Veltkamp's splitting
EXACT_INTEGER = 2**53
WIDE = 10**17  # one more digit keeps m below 10^18


@kernel
def product_error(a, b, ab):  # type: ignore[no-untyped-def]
    """Return a·b − ab exactly, ab the rounded product (Dekker 1971)."""
    t = SPLIT * a
    ah = t - (t - a)
    al = a - ah
    t = SPLIT * b
    bh = t - (t - b)
    bl = b - bh
    return ((ah * bh - ab) + ah * bl + al * bh) + al * bl


@kernel
def scaled(m, e):  # type: ignore[no-untyped-def]
    """Return (m·10^e, EXACT) correctly rounded, or (0, SLOW); 0 ≤ m < 10^18."""
    if m == 0:
        return 0.0, EXACT
    if e < -22 or e > 22:
        return 0.0, SLOW
    if m <= EXACT_INTEGER:
        return (m / POWERS[-e], EXACT) if e < 0 else (m * POWERS[e], EXACT)
    hi = np.float64(m)
    lo = np.float64(m - np.int64(hi))
    if e < 0:
        # (hi + lo)/p = q + (hi − q p + lo)/p
        p = POWERS[-e]
        q = hi / p
        back = q * p
        low = ((hi - back) - product_error(q, p, back) + lo) / p
    else:
        p = POWERS[e]
        q = hi * p
        low = product_error(hi, p, q) + lo * p
    # |error of low| < 2^-100 q: the margin 2^-90 q is safe
    margin = q * 8.077935669463161e-28
    below, above = q + (low - margin), q + (low + margin)
    if below == above:
        return below, EXACT
    return 0.0, SLOW


@kernel
def number(text, i):  # type: ignore[no-untyped-def]
    """Read [+-]digits[.digits][e[+-]digits] at i; return (end, value, EXACT | SLOW | WRONG)."""
    n = len(text)
    negative = False
    if i < n and (text[i] == 43 or text[i] == 45):
        negative = text[i] == 45
        i += 1
    m = np.int64(0)
    e = np.int64(0)
    lost = False
    begin = i
    while i < n and 48 <= text[i] <= 57:
        digit = np.int64(text[i]) - 48
        if m < WIDE:
            m = 10 * m + digit
        else:
            e += 1
            lost |= digit != 0
        i += 1
    digits = i - begin
    if i < n and text[i] == 46:
        i += 1
        begin = i
        while i < n and 48 <= text[i] <= 57:
            digit = np.int64(text[i]) - 48
            if m < WIDE:
                m = 10 * m + digit
                e -= 1
            else:
                lost |= digit != 0
            i += 1
        digits += i - begin
    if digits == 0:
        return i, 0.0, WRONG
    if i < n and (text[i] == 101 or text[i] == 69):
        i += 1
        minus = False
        if i < n and (text[i] == 43 or text[i] == 45):
            minus = text[i] == 45
            i += 1
        begin = i
        power = np.int64(0)
        while i < n and 48 <= text[i] <= 57:
            if power < 100000000:
                power = 10 * power + (np.int64(text[i]) - 48)
            i += 1
        if i == begin:
            return i, 0.0, WRONG
        e += -power if minus else power
    if lost:
        return i, 0.0, SLOW
    value, kind = scaled(m, e)
    return i, (-value if negative else value), kind


@kernel
def ends(text, i):  # type: ignore[no-untyped-def]
    """Whether a token may end at i: the end, white space or a comment."""
    return i >= len(text) or text[i] == 32 or 9 <= text[i] <= 13 or text[i] == 35


@kernel
def measure(text):  # type: ignore[no-untyped-def]
    """Return (lines, colons) of the text, the bounds of rows and non-zeros."""
    lines = np.int64(1)
    colons = np.int64(0)
    for c in text:
        lines += c == 10
        colons += c == 58
    return lines, colons


@kernel
def parse(text, limit, labels, values, indices, indptr, slow):  # type: ignore[no-untyped-def]
    """Parse whole lines of LIBSVM text.

    Args:
        text: (bytes,) uint8, whole lines; the last may lack its line end.
        limit: The largest index allowed.
        labels: (lines,) float64, out.
        values: (colons,) float64, out; explicit zeros are left out.
        indices: (colons,) int32, out, from 0.
        indptr: (lines + 1,) int64, out.
        slow: (capacity, 4) int64, out: begin and end of a number that was left to the caller, its place in
            `values` (or −1 − row for a label), its line from 1. More may be counted than fit.

    Returns:
        (fault, position of the faulty token, line of the fault, lines, rows, non-zeros, slow numbers, largest index)
    """
    n = len(text)
    i = np.int64(0)
    line = np.int64(0)
    row = np.int64(0)
    k = np.int64(0)
    delayed = np.int64(0)
    largest = np.int64(0)
    indptr[0] = 0
    while i < n:
        line += 1
        labelled = False
        previous = np.int64(0)
        while True:
            while i < n and (text[i] == 32 or text[i] == 13 or text[i] == 9 or text[i] == 11 or text[i] == 12):
                i += 1
            if i < n and text[i] == 35:
                while i < n and text[i] != 10:
                    i += 1
            if i >= n or text[i] == 10:
                i += 1
                break
            token = i
            if not labelled:
                i, value, kind = number(text, i)
                if kind == WRONG or not ends(text, i):
                    return LABEL, token, line, line, row, k, delayed, largest
                labels[row] = value
                if kind == SLOW:
                    if delayed < len(slow):
                        slow[delayed, 0], slow[delayed, 1] = token, i
                        slow[delayed, 2], slow[delayed, 3] = -1 - row, line
                    delayed += 1
                labelled = True
                continue
            if i + 4 <= n and text[i] == 113 and text[i + 1] == 105 and text[i + 2] == 100 and text[i + 3] == 58:
                while not ends(text, i):
                    i += 1
                continue
            index = np.int64(0)
            while i < n and 48 <= text[i] <= 57:
                if index <= LARGEST:
                    index = 10 * index + (np.int64(text[i]) - 48)
                i += 1
            if i == token or i >= n or text[i] != 58:
                negative = text[token] == 45 and token + 1 < n and 48 <= text[token + 1] <= 57
                return BELOW if negative else PAIR, token, line, line, row, k, delayed, largest
            if index < 1:
                return BELOW, token, line, line, row, k, delayed, largest
            if index <= previous:
                return REPEATED if index == previous else UNORDERED, token, line, line, row, k, delayed, largest
            if index > LARGEST:
                return HUGE, token, line, line, row, k, delayed, largest
            if index > limit:
                return ABOVE, token, line, line, row, k, delayed, largest
            previous = index
            begin = i + 1
            i, value, kind = number(text, begin)
            if kind == WRONG or not ends(text, i):
                return VALUE, token, line, line, row, k, delayed, largest
            if kind == SLOW:
                if delayed < len(slow):
                    slow[delayed, 0], slow[delayed, 1], slow[delayed, 2], slow[delayed, 3] = begin, i, k, line
                delayed += 1
            if kind == SLOW or value != 0.0:
                values[k] = value
                indices[k] = index - 1
                k += 1
        if labelled:
            largest = max(largest, previous)
            row += 1
            indptr[row] = k
    return OK, n, line, line, row, k, delayed, largest
