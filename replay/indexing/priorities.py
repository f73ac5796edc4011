"""Priorities of steps, and the weights of items that follow from them, by address.

Legend: L steps an item; an item's address is that of its first step.
"""

from collections.abc import Callable, Iterator

import numpy as np

from replay.config import SelectionConfig
from replay.indexing.sum_tree import SumTree
from replay.reserved import reserve

Spans = Callable[[int, int, int], Iterator[tuple[int, int, int]]]


class Priorities:
    """Weights of the items that an index reports.

    An item with a new step has no finite priority yet: such items are `unknown`, and drawn first, all equally likely.
    `items(stream)` gives the start steps of a stream's items, `spans(stream, first, n)` the addresses of its steps.
    """

    def __init__(
        self, config: SelectionConfig, steps: int, length: int, items: Callable[[int], range], spans: Spans
    ) -> None:
        self._config, self._length, self._items, self._spans = config, length, items, spans
        self._initial = np.float32(config.initial**config.exponent)
        self.of_steps = reserve((steps,), np.dtype(np.float32))  # already raised to the exponent
        self._known, self._unknown = SumTree(steps), SumTree(steps)
        self._new: dict[int, int] = {}  # stream -> its first item that has no weight yet
        self.replacing: Callable[[int, int], None] = lambda address, count: None
        """Called with address and count before priorities are replaced."""

    def begin(self, address: int, count: int) -> None:
        """New steps were appended here."""
        self.of_steps[address : address + count] = self._initial

    def add(self, stream: int, first: int) -> None:
        """A stream's items from start step `first` on are new."""
        self._new.setdefault(stream, first)

    def remove(self, address: int) -> None:
        """An item was evicted."""
        self._unknown[address] = 0.0
        self._known[address] = 0.0

    def remove_all(self, addresses: np.ndarray) -> None:
        """These items were evicted."""
        self._unknown.clear(addresses)
        self._known.clear(addresses)

    def set(self, stream: int, first: int, values: np.ndarray) -> int:
        """Set the priorities of a stream's steps from `first` on; returns how many of the steps are stored."""
        stored = 0
        for address, row, count in self._spans(stream, first, len(values)):
            some = np.asarray(values[row : row + count], np.float64)
            self.replacing(address, count)
            self.of_steps[address : address + count] = some**self._config.exponent
            stored += count
        if stored:
            self._weigh(stream, first - self._length + 1, first + len(values))
        return stored

    def zero(self, stream: int, start: int) -> None:
        """Set the priorities of an item's steps to 0."""
        self.set(stream, start, np.zeros(self._length))

    def draw(self, uniform: np.ndarray) -> np.ndarray | None:
        """Addresses `[n]` of items for numbers `[n]` in [0, 1); None if no item has a weight."""
        for stream, first in self._new.items():
            self._weigh(stream, first, self._items(stream).stop)
        self._new.clear()
        for tree in (self._unknown, self._known):
            if tree.total > 0:
                return tree.draw(uniform)
        return None

    def load(self, slots: list[int], chunk_length: int, saved: np.ndarray | None, streams: list[int]) -> None:
        """Load priorities `[slots, C]` of the steps in these slots; None: all are new."""
        self.of_steps.reshape(-1, chunk_length)[slots] = self._initial if saved is None else saved
        self._new = {stream: self._items(stream).start for stream in streams}

    def _weigh(self, stream: int, first: int, stop: int) -> None:
        """Recompute the weights of the items that start at a stream's steps `first .. stop - 1`."""
        items = self._items(stream)
        first, stop = max(first, items.start), min(stop, items.stop)
        if first >= stop:
            return
        spans = self._spans(stream, first, stop - first + self._length - 1)
        steps = np.concatenate([self.of_steps[address : address + count] for address, _, count in spans])
        weights = weights_of(self._config, steps, self._length)
        unknown = np.isinf(weights)
        known = np.where(unknown, 0.0, weights)
        for address, row, count in self._spans(stream, first, stop - first):
            self._unknown.fill(address, unknown[row : row + count])
            self._known.fill(address, known[row : row + count])


def weights_of(config: SelectionConfig, steps: np.ndarray, length: int) -> np.ndarray:
    """Weights `[n]` of the items that start at the first n of consecutive steps with these `[n + L - 1]` priorities,
    already raised to the exponent: maxfrac * max + (1 - maxfrac) * mean, as in the official program."""
    mean = _over_windows(np.add, steps.astype(np.float64), length) / length
    return config.maxfrac * _over_windows(np.maximum, steps, length) + (1 - config.maxfrac) * mean


def _over_windows(combine: np.ufunc, values: np.ndarray, length: int) -> np.ndarray:
    """`combine` over every window of `length` values, by doubling: each window in the same order, wherever it lies."""
    n, size, done = len(values) - length + 1, 1, 0
    out: np.ndarray | None = None
    block = values  # block[i] covers values i .. i + size - 1
    while True:
        if length & size:
            part = block[done : done + n]
            out, done = part if out is None else combine(out, part), done + size
        if done == length:
            assert out is not None
            return out
        block = combine(block[:-size], block[size:])
        size *= 2
