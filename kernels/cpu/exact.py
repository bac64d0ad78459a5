"""Sums over rows whose bits do not depend on the order: floating point turned into integers on a common grid.

Two forms, both coordinate by coordinate, so that threads share the coordinates first ≤ j < last:

- `peak`, `pack`, `unpack`: one int64 at the exponent of the largest term, which must be known first;
  62 bits less the head-room for adding `2^room` terms. For up to 64 terms.
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


@kernel
def power(exponent):
    """Return 2^exponent as a float64, for −1022 ≤ exponent ≤ 1023."""
    return np.int64((exponent + 1023) << 52)


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
    """total[j] ← Σ_m round(scale[m] · rows[m, j] / unit_j), unit_j = 2^(e_j − 62 + room), |terms| < 2^e_j.

    `values` (2·BLOCK,) float64 and `bits`, its memory as int64, hold 1/unit_j in two factors.
    """
    for start in range(first, last, BLOCK):
        count = min(BLOCK, last - start)
        for j in range(count):
            total[start + j] = 0
            shift = 62 - room + 1022 - np.int64(max(peaks[start + j], np.int16(1)))
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
            shift = np.int64(max(peaks[start + j], np.int16(1))) - 1022 - 62 + room
            half = shift >> 1
            bits[j] = power(half)
            bits[BLOCK + j] = power(shift - half)
        for j in range(count):
            if peaks[start + j] == NOT_FINITE:
                out[start + j] = np.nan
            else:
                out[start + j] = (np.float64(total[start + j]) / divisor) * values[j] * values[BLOCK + j]


@kernel
def cell(v, width):
    """Return k with |v| < 2^(width·k), the smallest (v ≠ 0 and finite)."""
    return -np.int64(-np.int64(math.frexp(v)[1]) // width)


@kernel
def deposit(rows, scale, width, tops, limbs, first, last):
    """limbs[:, j] += scale[m] · rows[m, j] for all m; tops[j] is the cell of the largest term so far."""
    for m in range(rows.shape[0]):
        r = scale[m]
        for j in range(first, last):
            v = r * np.float64(rows[m, j])
            if v == 0.0 or tops[j] == BROKEN:
                continue
            if not abs(v) < np.inf:
                tops[j] = BROKEN
                continue
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
                    break
                k -= 1


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
        # Two-sum over the exact halves of the limbs: the result is rounded once, up to a tiny second rounding.
        total = 0.0
        rest = 0.0
        for place in range(LIMBS):
            high = limbs[place, j] >> 31
            low = limbs[place, j] - (high << 31)
            for half in range(2):
                unit = width * (np.int64(tops[j]) - 1 - place)
                term = math.ldexp(np.float64(high), unit + 31) if half == 0 else math.ldexp(np.float64(low), unit)
                new = total + term
                back = new - total
                rest += (total - (new - back)) + (term - back)
                total = new
        out[j] = (total + rest) / divisor
