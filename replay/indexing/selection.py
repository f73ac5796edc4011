"""Which items are drawn: a mixture of uniform, prioritised and recent ones, with the official fractions.

Follows `embodied/core/selectors.py` of the official program (danijar/dreamerv3 at e3f0224).
"""

import numpy as np

from replay.config import SelectionConfig
from replay.indexing.address_map import AddressMap
from replay.indexing.item_ring import ItemRing
from replay.indexing.priorities import Priorities


class Selector:
    """Draws from the items of an index; `priorities` are needed if the selection uses them."""

    def __init__(
        self, config: SelectionConfig, items: ItemRing, addresses: AddressMap, priorities: Priorities | None
    ) -> None:
        self._items, self._addresses, self._priorities = items, addresses, priorities
        self._zero_on_sample = config.zero_on_sample
        self._until = np.cumsum(config.fractions)[:2] / sum(config.fractions)
        self._recency = Recency(config.recency_exponent)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Addresses `[n]` of start steps, with replacement; there must be an item."""
        items = len(self._items)
        if self._until[0] >= 1:
            return self._items.at(rng.integers(0, items, n))
        way = np.searchsorted(self._until, rng.random(n), side="right")
        uniform, prioritized, recent = way == 0, np.flatnonzero(way == 1), way == 2
        rank = np.zeros(n, np.int64)
        rank[uniform] = rng.integers(0, items, np.count_nonzero(uniform))
        rank[recent] = items - 1 - self._recency.draw(rng.random(np.count_nonzero(recent)), items)
        addresses = self._items.at(rank)
        if len(prioritized):
            addresses[prioritized] = self._by_priority(len(prioritized), rng)
        return addresses

    def _by_priority(self, n: int, rng: np.random.Generator) -> np.ndarray:
        assert self._priorities is not None
        once = self._zero_on_sample  # each draw then changes the weights for the next
        drawn = []
        for count in [1] * n if once else [n]:
            addresses = self._priorities.draw(rng.random(count))
            if addresses is None:
                addresses = self._items.at(rng.integers(0, len(self._items), count))
            elif once:
                self._priorities.zero(*self._addresses.keys(addresses, 1)[0, 0].tolist())
            drawn.append(addresses)
        return np.concatenate(drawn)


class Recency:
    """Ages with p(age) proportional to (1 + age) ** -exponent, exact for every number of items."""

    def __init__(self, exponent: float) -> None:
        self._exponent = exponent
        self._mass = np.empty(0)  # cumulative, by age; grows with the number of items

    def draw(self, uniform: np.ndarray, items: int) -> np.ndarray:
        """Ages `[n]` below `items` for numbers `[n]` in [0, 1)."""
        if items > len(self._mass):
            ages = np.arange(1.0, max(1024, items + items // 4) + 1)
            self._mass = np.cumsum(ages**-self._exponent)
        # The official selector draws over the full capacity and, until it is reached, squeezes the ages: with 5,000 of
        # 5,000,000 items every second draw would be the very newest. Here the law holds for the items present.
        mass = self._mass[:items]
        return np.minimum(np.searchsorted(mass, uniform * mass[-1], side="right"), items - 1)
