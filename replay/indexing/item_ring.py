"""Items in the order they were created, each the address of its start step: first in, first out."""

import numpy as np

from replay.reserved import reserve

_INT = np.dtype(np.int64)


class ItemRing:
    """At most `capacity` items; `created` and `evicted` count all there ever were."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.created = self.evicted = 0
        self._ring = reserve((capacity,), _INT)
        self._cells = self._ring.data  # single elements, several times faster than through numpy

    def __len__(self) -> int:
        return self.created - self.evicted

    def add(self, address: int, n: int) -> None:
        """Create n items, which start side by side from `address` on; there must be room for them."""
        at = self.created % self.capacity
        self.created += n
        if n == 1:
            self._cells[at] = address
            return
        items = np.arange(address, address + n)
        head = self.capacity - at
        self._ring[at : at + n] = items[:head]
        if head < n:
            self._ring[: n - head] = items[head:]

    def pop(self) -> int:
        """Remove the oldest item."""
        at = self.evicted % self.capacity
        self.evicted += 1
        return self._cells[at]

    def pop_many(self, n: int) -> np.ndarray:
        """Remove the n oldest items, and return their addresses `[n]`."""
        at = self.evicted % self.capacity
        self.evicted += n
        if at + n <= self.capacity:
            return self._ring[at : at + n].copy()
        return self._ring[(at + np.arange(n)) % self.capacity]

    def at(self, ranks: np.ndarray) -> np.ndarray:
        """Addresses `[n]` of the items with these ranks `[n]`, 0 the oldest."""
        return self._ring[(self.evicted + ranks) % self.capacity]

    def since(self, first: int, n: int) -> np.ndarray:
        """Addresses `[n]` of items `first ..`, counted from the first one ever; arbitrary for those evicted."""
        return self._ring[(first + np.arange(n)) % self.capacity]

    def load(self, addresses: np.ndarray, created: int, evicted: int) -> None:
        """Take over the items of another ring, oldest first."""
        self.created, self.evicted = created, evicted
        self._ring[(evicted + np.arange(len(addresses))) % self.capacity] = addresses
