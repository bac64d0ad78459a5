"""The specification of draws: a hash of (seed, worker, number of the draw), in Python's integers."""

from __future__ import annotations

MASK = 2**64 - 1


def mix(z: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def draw(seed: int, worker: int, number: int, count: int, reshuffle: bool) -> int:
    """The row, 0 … count − 1, that is draw `number` of a worker."""
    key = mix(mix((seed + 0x9E3779B97F4A7C15) & MASK) ^ (worker * 0xD1342543DE82EF95 & MASK))
    if not reshuffle:
        return mix((key + number * 0x9E3779B97F4A7C15) & MASK) * count >> 64
    epoch, place = divmod(number, count)
    return permutation(key, epoch, count)[place]


def permutation(key: int, epoch: int, count: int) -> list[int]:
    """The order of the rows in an epoch: a Feistel network on 2^bits ≥ count places, cycles cut to those < count."""
    if count == 1:
        return [0]
    bits = (count - 1).bit_length()
    low = (bits + 1) // 2  # the lower half's bits
    secret = mix(key ^ mix((epoch + 0xA0761D6478BD642F) & MASK))

    def network(place: int) -> int:
        left, right = place >> low, place % 2**low
        for turn in range(24 if bits < 4 else 6):
            if turn % 2 == 0:
                left ^= mix((secret + 32 * right + turn) & MASK) % 2 ** (bits - low)
            else:
                right ^= mix((secret + 32 * left + turn) & MASK) % 2**low
        return (left << low) + right

    order = []
    for place in range(count):
        place = network(place)
        while place >= count:
            place = network(place)
        order.append(place)
    return order
