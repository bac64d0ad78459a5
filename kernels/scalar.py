"""Scalar mathematics shared by all kernels: losses on a prediction z and a label y, and draws.

`one` is 1 in the precision of the iterate: constants are built from it, so that float32 stays float32.
Losses with m = y z: logistic log(1 + e^−m); squared ½(z − y)²; squared-hinge max(0, 1 − m)²;
smooth-hinge ½ − m for m ≤ 0, ½(1 − m)² for 0 < m < 1, 0 beyond; exponential e^−m; linear −z (of a
quadratic objective, whose curvature is added coordinate by coordinate).
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np

from . import custom
from .compile import kernel


class Loss(IntEnum):
    """Pointwise losses; a branch per sample costs nothing visible and keeps kernels in the cache."""

    LOGISTIC = 0
    SQUARED = 1
    SQUARED_HINGE = 2
    SMOOTH_HINGE = 3
    EXPONENTIAL = 4
    LINEAR = 5
    SOFTMAX = 6
    CUSTOM = 7


@kernel
def value(loss, z, y, one):
    """Return ℓ(z; y)."""
    zero = one - one
    m = y * z
    if loss == Loss.LOGISTIC:
        if m > zero:
            return math.log1p(math.exp(-m))
        return math.log1p(math.exp(m)) - m
    if loss == Loss.SQUARED:
        return (z - y) * (z - y) / (one + one)
    if loss == Loss.SQUARED_HINGE:
        return zero if m >= one else (one - m) * (one - m)
    if loss == Loss.SMOOTH_HINGE:
        if m <= zero:
            return one / (one + one) - m
        return zero if m >= one else (one - m) * (one - m) / (one + one)
    if loss == Loss.EXPONENTIAL:
        return math.exp(-m)
    if loss == Loss.LINEAR:
        return -z
    return custom.value(z, y, one)


@kernel
def slope(loss, z, y, one):
    """Return dℓ/dz."""
    zero = one - one
    m = y * z
    if loss == Loss.LOGISTIC:
        if m > zero:
            e = math.exp(-m)
            return -y * e / (one + e)
        return -y / (one + math.exp(m))
    if loss == Loss.SQUARED:
        return z - y
    if loss == Loss.SQUARED_HINGE:
        return zero if m >= one else -y * (one + one) * (one - m)
    if loss == Loss.SMOOTH_HINGE:
        if m <= zero:
            return -y
        return zero if m >= one else -y * (one - m)
    if loss == Loss.EXPONENTIAL:
        return -y * math.exp(-m)
    if loss == Loss.LINEAR:
        return -one
    return custom.slope(z, y, one)


@kernel
def curvature(loss, z, y, one):
    """Return d²ℓ/dz² (of the piecewise losses, the one-sided value)."""
    zero = one - one
    m = y * z
    if loss == Loss.LOGISTIC:
        e = math.exp(-abs(m))
        return e / ((one + e) * (one + e))
    if loss == Loss.SQUARED:
        return one
    if loss == Loss.SQUARED_HINGE:
        return one + one if m < one else zero
    if loss == Loss.SMOOTH_HINGE:
        return one if zero < m < one else zero
    if loss == Loss.EXPONENTIAL:
        return math.exp(-m)
    if loss == Loss.LINEAR:
        return zero
    return custom.curvature(z, y, one)


@kernel
def softmax(z, y):
    """Turn the scores z (classes,) of a row of class y into slopes p − e_y in place.

    Return ℓ = log Σ e^z − z_y, and whether the row is predicted right: z_y exceeds all other scores.
    """
    top = z[0]
    right = True
    for c in range(z.shape[0]):
        if not z[c] <= top:
            top = z[c]
        if c != y and not z[c] < z[y]:
            right = False
    mine = z[y] - top
    total = top - top
    for c in range(z.shape[0]):
        z[c] = math.exp(z[c] - top)
        total += z[c]
    for c in range(z.shape[0]):
        z[c] /= total
    z[y] -= total / total
    return math.log(total) - mine, right


@kernel
def mix(z):
    """Return a bijective scrambling of 64 bits (the finaliser of SplitMix64; Steele, Lea, Flood 2014)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def stream(seed, worker):
    """Return the key of a worker's stream of draws."""
    return mix(mix(seed + np.uint64(0x9E3779B97F4A7C15)) ^ (np.uint64(worker) * np.uint64(0xD1342543DE82EF95)))


@kernel
def below(bits, count):
    """Return ⌊bits · count / 2⁶⁴⌋: uniform on 0 … count − 1, for count < 2³²."""
    n = np.uint64(count)
    high = (bits >> np.uint64(32)) * n
    low = ((bits & np.uint64(0xFFFFFFFF)) * n) >> np.uint64(32)
    return np.int64((high + low) >> np.uint64(32))


@kernel
def draw(key, counter, count, reshuffle):
    """Return draw number `counter` of a stream over `count` rows.

    With replacement it is a hash of the counter; else the place counter % count in permutation
    number counter // count: a Feistel network on the next power of two, walked until it falls below
    `count`, so that no permutation is stored.
    """
    if not reshuffle:
        return below(mix(key + np.uint64(counter) * np.uint64(0x9E3779B97F4A7C15)), count)
    if count == 1:
        return np.int64(0)
    epoch = counter // count
    place = np.uint64(counter % count)
    bits = 1
    while (1 << bits) < count:
        bits += 1
    low = np.uint64((bits + 1) // 2)
    high = np.uint64(bits) - low
    secret = mix(key ^ mix(np.uint64(epoch) + np.uint64(0xA0761D6478BD642F)))
    # Each turn changes one half by a hash of the other, a bijection. Halves of one or two bits mix slowly: with
    # fewer turns some permutations of up to 8 rows are several times as likely as others.
    turns = 24 if bits < 4 else 6
    while True:
        for turn in range(turns):
            left = place >> low
            right = place & ((np.uint64(1) << low) - np.uint64(1))
            if turn % 2 == 0:
                left ^= mix(secret + right * np.uint64(32) + np.uint64(turn)) & ((np.uint64(1) << high) - np.uint64(1))
            else:
                right ^= mix(secret + left * np.uint64(32) + np.uint64(turn)) & ((np.uint64(1) << low) - np.uint64(1))
            place = (left << low) | right
        if place < np.uint64(count):
            return np.int64(place)
