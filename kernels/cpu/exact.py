"""Sums over rows whose bits do not depend on the order: floating point turned into integers on a common grid.

Two forms, both coordinate by coordinate, so that threads share the coordinates first ≤ j < last:

- `peak`, `pack`, `unpack`: one int64 at the exponent of the largest term, which must be known first;
  63 bits less the head-room for adding `2^room` terms. For up to 64 terms.
- `deposit`, `align`, `collect`: `LIMBS` int64 on a fixed grid of 2^(width·k), the top one at the largest
  term seen so far; terms may stream in. Digits below the last limb are cut off term by term, at places
  that depend on the largest term alone, so the sum is the same in any order and grouping.

Strict arithmetic throughout: no reordering, no fused operations.
"""

from __future__ import annotations

import math

import numpy as np

from ..compile import kernel

BLOCK = 256  # coordinates at a time: the scratch stays in cache
LIMBS = 3
EMPTY = -32768  # no term yet (every term was zero)
BROKEN = 32767  # a term was NaN or infinite
NOT_FINITE = 0x7FF  # the biased exponent of NaN and infinity
GUARD = 60  # terms are compared with their top at 2^−GUARD, so that subnormal ones exceed no term at all
BELOW = 2.0**-GUARD


@kernel
def power(exponent):
    """Return 2^exponent as a float64, for −1022 ≤ exponent ≤ 1023."""
    return np.int64((exponent + 1023) << 52)


@kernel
def quotient(high, low, divisor):
    """Return (high + low) / divisor, rounded once up to a tiny second rounding."""
    # Two-sum: high + low = total + rest exactly (Knuth, TAOCP 2, 4.2.2).
    total = high + low
    back = total - high
    rest = (high - (total - back)) + (low - back)
    q = total / divisor
    # q · divisor = product + error exactly (Dekker 1971), each factor split into halves of 26 bits.
    product = q * divisor
    split = 134217729.0 * q
    q1 = split - (split - q)
    q2 = q - q1
    split = 134217729.0 * divisor
    d1 = split - (split - divisor)
    d2 = divisor - d1
    error = ((q1 * d1 - product) + q1 * d2 + q2 * d1) + q2 * d2
    return q + (((total - product) - error) + rest) / divisor


@kernel
def peak(rows, scale, peaks, values, bits, first, last):
    """peaks[j] ← the largest biased exponent of scale[m] · rows[m, j] over m; 0x7FF where one is not finite.

    `values` (2·BLOCK,) float64 is scratch and `bits` the same memory as int64: the bits of |v| order as |v| does.
    """
    for start in range(first, last, BLOCK):
        count = min(BLOCK, last - start)
        bits[BLOCK:] = 0
        for m in range(rows.shape[0]):
            r = scale[m]
            for j in range(count):
                values[j] = abs(r * rows[m, start + j])
            for j in range(count):
                bits[BLOCK + j] = max(bits[BLOCK + j], bits[j])
        for j in range(count):
            peaks[start + j] = np.int16(bits[BLOCK + j] >> 52)


@kernel
def pack(rows, scale, peaks, room, total, values, bits, first, last):
    """total[j] ← Σ_m round(scale[m] · rows[m, j] / unit_j), unit_j = 2^(e_j − 63 + room), |terms| < 2^e_j.

    Terms of 53 bits keep the total below 2^63. `values` (2·BLOCK,) float64 and `bits`, its memory as int64, hold
    1/unit_j in two factors.
    """
    for start in range(first, last, BLOCK):
        count = min(BLOCK, last - start)
        for j in range(count):
            total[start + j] = 0
            shift = 63 - room + 1022 - np.int64(max(peaks[start + j], np.int16(1)))
            half = shift >> 1
            bits[j] = power(half)
            bits[BLOCK + j] = power(shift - half)
        for m in range(rows.shape[0]):
            r = scale[m]
            for j in range(count):
                total[start + j] += np.int64(np.rint(r * rows[m, start + j] * values[j] * values[BLOCK + j]))


@kernel
def unpack(total, peaks, room, divisor, out, values, bits, first, last):
    """out[j] ← total[j] · unit_j / divisor; NaN where a term was not finite."""
    for start in range(first, last, BLOCK):
        count = min(BLOCK, last - start)
        for j in range(count):
            shift = np.int64(max(peaks[start + j], np.int16(1))) - 1022 - 63 + room
            half = shift >> 1
            bits[j] = power(half)
            bits[BLOCK + j] = power(shift - half)
        for j in range(count):
            if peaks[start + j] == NOT_FINITE:
                out[start + j] = np.nan
            else:
                # Both halves are exact; the quotient of M equal terms by M is the term itself.
                low = total[start + j] & 2047
                high = np.float64(total[start + j] - low)
                out[start + j] = quotient(high, np.float64(low), divisor) * values[j] * values[BLOCK + j]


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
            bits[place, j] = power(-unit)
            bits[LIMBS + place, j] = power(unit)
        bits[2 * LIMBS, j] = power(-width * top - GUARD)
        if tops[start + j] == EMPTY or tops[start + j] == BROKEN:
            bits[2 * LIMBS, j] = power(1023)
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
def collect(limbs, tops, width, divisor, out, first, last):
    """out[j] ← Σ_k limbs[k, j] · 2^(width·(tops[j] − 1 − k)) / divisor; NaN where a term was not finite."""
    for j in range(first, last):
        if tops[j] == BROKEN:
            out[j] = np.nan
            continue
        if tops[j] == EMPTY:
            out[j] = 0.0
            continue
        # Two-sum over the exact halves of the limbs, in units of the last one, so that nothing can overflow.
        total = 0.0
        rest = 0.0
        for place in range(LIMBS):
            high = limbs[place, j] >> 31
            low = limbs[place, j] - (high << 31)
            for half in range(2):
                unit = width * (LIMBS - 1 - place)
                term = math.ldexp(np.float64(high), unit + 31) if half == 0 else math.ldexp(np.float64(low), unit)
                new = total + term
                back = new - total
                rest += (total - (new - back)) + (term - back)
                total = new
        out[j] = math.ldexp(quotient(total, rest, divisor), width * (np.int64(tops[j]) - LIMBS))
