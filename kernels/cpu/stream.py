"""Sums over rows that stream in, whose bits do not depend on the order: integers on a fixed grid.

A coordinate has `LIMBS` int64 on the grid 2^(width·k), the top one at the largest term seen so far. Digits below
the last limb are cut off term by term, at places that depend on the largest term alone, so the sum is the same in
any order and grouping. Threads share the coordinates first ≤ j < last. Strict arithmetic throughout.
"""

from __future__ import annotations

import math

import numpy as np

from ..compile import kernel
from .exact import BLOCK, number, pattern, power, power_bits, quotient

LIMBS = 3
EMPTY = -32768  # no term yet (every term was zero)
BROKEN = 32767  # a term was NaN or infinite
GUARD = 60  # terms are compared with their top at 2^−GUARD, so that subnormal ones exceed no term at all
BELOW = 2.0**-GUARD


@kernel
def cell(v, width):
    """Return k with |v| < 2^(width·k), the smallest (v ≠ 0 and finite)."""
    return -np.int64(-np.int64(math.frexp(v)[1]) // width)


@kernel
def add_one(v, width, tops, limbs, j):
    """limbs[:, j] += v; tops[j] rises to the cell of v where that is larger."""
    if v == 0.0 or tops[j] == BROKEN:
        return
    if not abs(v) < np.inf:
        tops[j] = BROKEN
        return
    k = cell(v, width)
    if k > tops[j]:
        lower(limbs, j, k - np.int64(tops[j]))
        tops[j] = np.int16(k)
    for place in range(np.int64(tops[j]) - k, LIMBS):
        # v = digit · 2^(width·(k − 1)) + rest, exactly: a digit has at most `width` bits.
        unit = width * (k - 1)
        digit = np.trunc(math.ldexp(v, -unit))
        limbs[place, j] += np.int64(digit)
        v -= math.ldexp(digit, unit)
        if v == 0.0:
            return
        k -= 1


@kernel
def units(tops, width, start, count, factors, bits):
    """Write 2^∓(width·(top − 1 − k)) of each limb k and 2^−(width·top + GUARD) to factors; return if all are normal.

    `factors` (2·LIMBS + 1, BLOCK) float64, `bits` the same memory as int64. A coordinate without terms gets a
    bound that any term exceeds.
    """
    for j in range(count):
        top = np.int64(tops[start + j])
        if top in (EMPTY, BROKEN):
            top = np.int64(-(1000 // width))
        if width * top > 960 or width * (top - LIMBS) < -1000:
            if tops[start + j] != EMPTY and tops[start + j] != BROKEN:
                return False
            top = np.int64(LIMBS)
        for place in range(LIMBS):
            unit = width * (top - 1 - place)
            bits[place, j] = power_bits(-unit)
            bits[LIMBS + place, j] = power_bits(unit)
        bits[2 * LIMBS, j] = power_bits(-width * top - GUARD)
        if tops[start + j] == EMPTY or tops[start + j] == BROKEN:
            bits[2 * LIMBS, j] = power_bits(1023)
    return True


@kernel
def deposit(rows, scale, width, tops, limbs, factors, bits, values, first, last):
    """limbs[:, j] += scale[m] · rows[m, j] for all m; tops[j] is the cell of the largest term so far.

    A row whose terms all lie below the tops goes in digit by digit without branches; the first rows, and any that
    raises a top, coordinate by coordinate. `factors`, `bits` see `units`; `values` (BLOCK,) is scratch.
    """
    for start in range(first, last, BLOCK):
        count = min(BLOCK, last - start)
        plain = units(tops, width, start, count, factors, bits)
        for m in range(rows.shape[0]):
            r = scale[m]
            above = 0
            for j in range(count):
                v = r * np.float64(rows[m, start + j])
                values[j] = v
                above += not (abs(v) * factors[2 * LIMBS, j] < BELOW)
            if above or not plain:
                for j in range(count):
                    add_one(values[j], width, tops, limbs, start + j)
                plain = units(tops, width, start, count, factors, bits)
                continue
            for place in range(LIMBS):
                for j in range(count):
                    digit = np.trunc(values[j] * factors[place, j])
                    limbs[place, start + j] += np.int64(digit)
                    values[j] -= digit * factors[LIMBS + place, j]


@kernel
def lower(limbs, j, cells):
    """Move coordinate j's limbs down by `cells` places; what falls off is cut."""
    for place in range(LIMBS - 1, -1, -1):
        limbs[place, j] = limbs[place - cells, j] if place >= cells else 0


@kernel
def align(tops, limbs, common, first, last):
    """Move the limbs to the common tops (≥ tops) of all ranks."""
    for j in range(first, last):
        if common[j] != BROKEN and common[j] > tops[j]:
            lower(limbs, j, np.int64(common[j]) - np.int64(tops[j]))


@kernel
def two_sum(a, b):
    """Return (s, e) with s + e = a + b exactly, s rounded (Knuth, TAOCP 2, 4.2.2)."""
    s = a + b
    back = s - a
    return s, (a - (s - back)) + (b - back)


@kernel
def collect(limbs, tops, width, divisor, out, first, last):
    """out[j] ← Σ_k limbs[k, j] · 2^(width·(tops[j] − 1 − k)) / divisor; NaN where a term was not finite.

    By 1, what the limbs hold is rounded once, wherever the result is a normal number.
    """
    half = np.int64(1) << (width - 1)
    for j in range(first, last):
        if tops[j] == BROKEN:
            out[j] = np.nan
            continue
        if tops[j] == EMPTY:
            out[j] = 0.0
            continue
        # Carries leave the lower limbs in ±2^(width − 1), so that no digit of theirs reaches into the limb above.
        carry = (limbs[2, j] + half) >> width
        third = limbs[2, j] - (carry << width)
        second = limbs[1, j] + carry
        carry = (second + half) >> width
        second -= carry << width
        top = limbs[0, j] + carry
        # In units of the last limb, so that nothing can overflow; both halves of a limb are exact.
        a = np.float64(top >> 31) * power(2 * width + 31)
        b = np.float64(top & 0x7FFFFFFF) * power(2 * width)
        c = np.float64(second >> 31) * power(width + 31)
        d = np.float64(second & 0x7FFFFFFF) * power(width)
        e = np.float64(third >> 31) * power(31)
        f = np.float64(third & 0x7FFFFFFF)
        # From the last up, twice: what the sum lacks, then what that lacks. No bit is lost.
        e, f = two_sum(e, f)
        d, e = two_sum(d, e)
        c, d = two_sum(c, d)
        b, c = two_sum(b, c)
        a, b = two_sum(a, b)
        e, f = two_sum(e, f)
        d, e = two_sum(d, e)
        c, d = two_sum(c, d)
        b, c = two_sum(b, c)
        # b is rounded to odd, so that the last rounding sees on which side of a tie the rest lies.
        rest = c + (d + (e + f))
        if rest != 0.0 and pattern(b) & 1 == 0:
            b = number(pattern(b) + (1 if (rest > 0.0) == (b > 0.0) else -1))
        out[j] = math.ldexp(quotient(a, b, divisor), width * (np.int64(tops[j]) - LIMBS))
