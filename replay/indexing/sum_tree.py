"""Draws leaves with probability proportional to their weight: leaves in blocks, their sums in blocks, up to one block.

Writes are cheap: the sums above the written leaves are recomputed before the next draw, all at once. A sum depends on
the leaves below it alone, not on the order in which they were written: trees with equal leaves draw equally.
"""

from itertools import pairwise

import numpy as np

from replay.reserved import reserve

_BLOCK = 64
_BELOW_ONE = np.nextafter(1.0, 0.0)


class SumTree:
    """`size` weights of 0 or more, all 0 at first; memory is used only where one was written."""

    def __init__(self, size: int) -> None:
        self._levels: list[np.ndarray] = []
        while not self._levels or size > 1:
            blocks = -(-size // _BLOCK)
            self._levels.append(reserve((blocks * _BLOCK,), np.dtype(np.float64)))
            size = blocks
        self.leaves = self._levels[0]
        self._leaf = self.leaves.data.cast("B").cast("d")  # several times faster for single elements
        self._changed: set[int] = set()  # blocks of leaves

    def __setitem__(self, leaf: int, weight: float) -> None:
        self._leaf[leaf] = weight
        self._changed.add(leaf // _BLOCK)

    def fill(self, first: int, weights: np.ndarray) -> None:
        """Set the leaves from `first` on."""
        self.leaves[first : first + len(weights)] = weights
        self._changed.update(range(first // _BLOCK, (first + len(weights) - 1) // _BLOCK + 1))

    def clear(self, leaves: np.ndarray) -> None:
        """Set these leaves to 0."""
        self.leaves[leaves] = 0.0
        self._changed.update((leaves // _BLOCK).tolist())

    @property
    def total(self) -> float:
        """Sum of all weights."""
        self._sum_up()
        return float(self._levels[-1].sum())

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        """Leaves `[n]` for numbers `[n]` in [0, 1); a leaf of weight 0 is drawn only if all are 0."""
        self._sum_up()
        node, within = np.zeros(len(uniform), np.int64), uniform
        rows = np.arange(len(uniform))
        for level in reversed(self._levels):
            end = np.cumsum(level.reshape(-1, _BLOCK)[node], 1)
            target = within * end[:, -1]  # of the sum as computed here, so that rounding cannot lead past it
            child = np.minimum((end <= target[:, None]).sum(1), (end < end[:, -1:]).sum(1))
            begin = np.where(child > 0, end[rows, child - 1], 0.0)
            width = end[rows, child] - begin
            within = np.divide(target - begin, width, out=np.zeros_like(target), where=width > 0)
            within = np.minimum(within, _BELOW_ONE)
            node = node * _BLOCK + child
        return node

    def _sum_up(self) -> None:
        if not self._changed:
            return
        blocks = np.sort(np.fromiter(self._changed, np.int64, len(self._changed)))
        self._changed.clear()
        for below, above in pairwise(self._levels):
            above[blocks] = below.reshape(-1, _BLOCK)[blocks].sum(1)
            blocks = np.unique(blocks // _BLOCK)
