"""What is communicated: the algorithm's ledger, in which each worker is a machine, and what the ranks really send."""

from __future__ import annotations


class Ledger:
    """Counts of one level: averagings, vectors sent by workers, and their payload in bytes.

    In an averaging, every worker of a group of more than one sends one vector. A flat averaging of M workers
    each round gives, after R rounds: R averagings, R·M vectors, R·M·dim·itemsize bytes (none where M = 1).
    """

    def __init__(self) -> None:
        """Begin at nothing."""
        self.averagings = 0
        self.vectors = 0
        self.bytes = 0

    def add(self, vectors: int, length: int, itemsize: int) -> None:
        """Count one averaging in which `vectors` workers each send `length` numbers."""
        self.averagings += 1
        self.vectors += vectors
        self.bytes += vectors * length * itemsize


class Wire:
    """What this rank really did: collective calls on the averaging path, and the bytes it gave to them."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.messages = 0
        self.bytes = 0

    def add(self, size: int) -> None:
        """Count one collective of `size` bytes."""
        self.messages += 1
        self.bytes += size
