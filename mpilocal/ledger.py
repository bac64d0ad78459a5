"""What is communicated: the algorithm's ledger, in which each worker is a machine, and what the ranks really send."""

from __future__ import annotations


class Ledger:
    """Counts of one level: averagings, vectors sent by workers, and their payload in bytes.

    In an averaging, every worker of a group of more than one sends one vector. Group g, of n_g workers and period I_g
    inside a group of period P_g, averages ⌊R/I_g⌋ − ⌊R/P_g⌋ times in R rounds (the widest level: ⌊R/I⌋ times).
    """

    def __init__(self) -> None:
        """Begin at nothing."""
        self.averagings = 0
        self.vectors = 0
        self.bytes = 0

    def add(self, averagings: int, vectors: int, length: int, itemsize: int) -> None:
        """Count averagings in which `vectors` workers each send `length` numbers."""
        self.averagings += averagings
        self.vectors += vectors
        self.bytes += vectors * length * itemsize


class Wire:
    """What this rank really did: reductions and messages on the averaging path, and the bytes that it gave to them."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.messages = 0
        self.bytes = 0

    def add(self, size: int) -> None:
        """Count one of `size` bytes."""
        self.messages += 1
        self.bytes += size
