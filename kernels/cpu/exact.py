"""Sums over rows whose bits do not depend on the order: floating point turned into integers on a common grid.

Coordinate by coordinate, so that threads share the coordinates first ≤ j < last. The exponent e of the largest term
must be known first (`peak`): |terms| < 2^e. With terms ≤ 2^room ≤ 64, each term is rounded once, to a multiple of
2^(e − 94 + 2·room), and all else is exact. The sum is kept as

    total[j] · 2^(e − 63 + room) + digits[j] · 2^(e − 94 + 2·room)

`total` is int64, `digits` uint32; a rank's digits are below 2^(31 − room), so that those of all ranks add up below 2^31
and two of them may travel in one int64. Strict arithmetic throughout: no reordering, no fused operations. Loops over
coordinates have no branches.
"""

from __future__ import annotations

import numpy as np

from ..compile import kernel

BLOCK = 256  # coordinates at a time: the scratch stays in cache
NOT_FINITE = 0x7FF  # the biased exponent of NaN and infinity


@kernel
def pattern(x):
    """Return the bits of a float64 as an int64."""
    return np.float64(x).view(np.int64)


@kernel
def number(bits):
    """Return the float64 that has the bits of an int64."""
    return np.int64(bits).view(np.float64)


@kernel
def power_bits(exponent):
    """Return the bits of 2^exponent as a float64, for −1022 ≤ exponent ≤ 1023."""
    return np.int64((exponent + 1023) << 52)


@kernel
def power(exponent):
    """Return 2^exponent as a float64, for −1022 ≤ exponent ≤ 1023."""
    return number(power_bits(exponent))


@kernel
def quotient(high, low, divisor):
    """Return (high + low) / divisor, rounded once up to a tiny second rounding; by 1, rounded once."""
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
def raise_peaks(row, scale, tops):
    """tops[j] ← the larger of itself and the bits of |scale · row[j]|, which order as the numbers do."""
    for j in range(len(row)):
        tops[j] = max(tops[j], pattern(abs(scale * row[j])))


@kernel
def clear_sums(peaks, room, factors, high, low):
    """Begin a block of sums at 1.5 · 2^52 units, so that their bits count the units; factors[j] ← 2^(2 − e_j)."""
    above = 1.5 * power(room + 3)
    below = 1.5 * power(2 * room - 40)
    for j in range(len(peaks)):
        top = np.int64(min(max(peaks[j], np.int16(1)), np.int16(NOT_FINITE - 1)))
        factors[j] = power(1024 - top)
        high[j] = above
        low[j] = below


@kernel
def add_row(row, scale, room, factors, high, low):
    """Add scale · row to a block of sums, split into multiples of the two units."""
    above = 1.5 * power(room + 3)
    below = 1.5 * power(2 * room - 40)
    for j in range(len(row)):
        t = scale * row[j] * factors[j]  # |t| < 4
        h = (t + above) - above
        high[j] += h
        low[j] += ((t - h) + below) - below


@kernel
def store(room, high, low, total, digits):
    """Write a block of sums as integers."""
    above = pattern(1.5 * power(room + 3))
    below = pattern(1.5 * power(2 * room - 40))
    width = np.int64(31 - room)
    mask = (np.int64(1) << width) - 1
    for j in range(len(total)):
        units = pattern(low[j]) - below
        total[j] = ((pattern(high[j]) - above) << 12) + (units >> width)
        digits[j] = np.uint32(units & mask)


@kernel
def load(total, digits, peaks, room, divisor, out):
    """out[j] ← the sum divided by `divisor`; NaN where a term was not finite."""
    above = 1.5 * power(room + 2)
    below = 1.5 * power(2 * room - 41)
    above_bits = pattern(above)
    below_bits = pattern(below)
    width = np.int64(31 - room)
    for j in range(len(total)):
        units = ((total[j] & 4095) << width) + np.int64(digits[j])
        # Both halves are exact; the quotient of M equal terms by M is the term itself.
        high = number((total[j] >> 12) + above_bits) - above
        low = number(units + below_bits) - below
        top = np.int64(min(max(peaks[j], np.int16(1)), np.int16(NOT_FINITE - 1)))
        value = quotient(high, low, divisor) * power(top - 1023)
        out[j] = np.nan if peaks[j] == NOT_FINITE else value


@kernel
def peak(rows, scale, peaks, tops, factors, high, low, first, last):
    """peaks[j] ← the largest biased exponent of scale[m] · rows[m, j] over m; 0x7FF where one is not finite.

    The scratch is the one of `pack`: tops (BLOCK,) int64; factors, high, low (BLOCK,) float64.
    """
    for start in range(first, last, BLOCK):
        end = min(start + BLOCK, last)
        tops[:] = 0
        for m in range(rows.shape[0]):
            raise_peaks(rows[m, start:end], scale[m], tops)
        for j in range(end - start):
            peaks[start + j] = np.int16(tops[j] >> 52)


@kernel
def pack(rows, scale, peaks, room, total, digits, tops, factors, high, low, first, last):
    """(total[j], digits[j]) ← Σ_m scale[m] · rows[m, j], where peaks[j] is at least the exponent of each term."""
    for start in range(first, last, BLOCK):
        end = min(start + BLOCK, last)
        clear_sums(peaks[start:end], room, factors, high, low)
        for m in range(rows.shape[0]):
            add_row(rows[m, start:end], scale[m], room, factors, high, low)
        store(room, high, low, total[start:end], digits[start:end])


@kernel
def unpack(total, digits, peaks, room, divisor, out, first, last):
    """out[j] ← the sum of all ranks divided by `divisor`; NaN where a term was not finite."""
    load(total[first:last], digits[first:last], peaks[first:last], room, divisor, out[first:last])


@kernel
def means(x, scale, order, bounds, divisors, most, peaks, total, digits, out, tops, factors, high, low, first, last):
    """Replace the rows order[bounds[g] : bounds[g + 1]] of x by their mean Σ scale x / divisors[g].

    Threads share the blocks of coordinates first ≤ i < last, those of group 0 first. Groups of one row, or of more than
    `most`, stay as they are. All from `peaks` on is scratch of (BLOCK,).
    """
    dim = x.shape[1]
    blocks = (dim + BLOCK - 1) // BLOCK
    for i in range(first, last):
        g = i // blocks
        rows = order[bounds[g] : bounds[g + 1]]
        if len(rows) < 2 or len(rows) > most:
            continue
        room = np.int64(0)
        while (1 << room) < len(rows):
            room += 1
        start = (i - g * blocks) * BLOCK
        end = min(start + BLOCK, dim)
        count = end - start
        tops[:count] = 0
        for m in rows:
            raise_peaks(x[m, start:end], scale[m], tops)
        for j in range(count):
            peaks[j] = np.int16(tops[j] >> 52)
        clear_sums(peaks[:count], room, factors, high, low)
        for m in rows:
            add_row(x[m, start:end], scale[m], room, factors, high, low)
        store(room, high, low, total[:count], digits[:count])
        load(total[:count], digits[:count], peaks[:count], room, divisors[g], out[:count])
        for m in rows:
            part = x[m, start:end]
            for j in range(count):
                part[j] = out[j]
