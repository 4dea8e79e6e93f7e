"""A set of digests that takes 16 to 32 bytes for each, and answers in constant time.

An open-addressed table with linear probing, at most half full. Only one thread adds; any may look meanwhile, since a
table that grows is put in place whole.
"""

from array import array
from collections.abc import Collection

from xxhash import xxh3_64_intdigest

_SMALLEST = 1024


def digest(text: str, seed: int) -> int:
    """63 bits, so that SQLite can keep them, and never 0."""
    return xxh3_64_intdigest(text.encode(), seed) >> 1 or 1


class Digests:
    """The set. Two texts of a million share a digest with a probability of one in 10^13 for each look."""

    def __init__(self, digests: Collection[int] = ()) -> None:
        self._count = 0
        self._table = _table(max(_SMALLEST, 1 << (2 * len(digests)).bit_length()))
        slots, mask = self._table
        for new in digests:  # as `add`, without the calls: a start with a million takes half as long
            slot = new & mask
            while (found := slots[slot]) and found != new:
                slot = (slot + 1) & mask
            if not found:
                slots[slot] = new
                self._count += 1

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes that the table takes."""
        slots = self._table[0]
        return len(slots) * slots.itemsize

    def __contains__(self, wanted: int) -> bool:
        slots, mask = self._table
        slot = wanted & mask
        while found := slots[slot]:
            if found == wanted:
                return True
            slot = (slot + 1) & mask
        return False

    def add(self, new: int) -> None:
        """Add a digest."""
        slots, mask = self._table
        slot = new & mask
        while found := slots[slot]:
            if found == new:
                return
            slot = (slot + 1) & mask
        if 2 * (self._count + 1) > mask:
            self._grow()
            slots, mask = self._table
            slot = new & mask
            while slots[slot]:
                slot = (slot + 1) & mask
        slots[slot] = new
        self._count += 1

    def _grow(self) -> None:
        slots, mask = _table(2 * len(self._table[0]))
        for each in self._table[0]:
            if each:
                slot = each & mask
                while slots[slot]:
                    slot = (slot + 1) & mask
                slots[slot] = each
        self._table = slots, mask


def _table(size: int) -> tuple["array[int]", int]:
    return array("Q", bytes(8 * size)), size - 1
