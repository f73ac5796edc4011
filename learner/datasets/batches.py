"""Seeded batches without end. Batch k depends on nothing but the dataset, the seed and k: resuming needs no more than
the count of updates, and threads change only the speed."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import numpy as np

from learner.datasets.dataset import Dataset, Example, UnreadableError
from replay.counted import counted

_ORDER, _DRAWS = 0, 1  # what a generator is for
_IN_A_ROW = 32  # unreadable examples: with a tenth of them unreadable, this happens once in 1e32 examples


class Unreadable:
    """What could not be read: at most a tenth of a dataset, or training stops. Safe for threads."""

    def __init__(self, size: int, share: float = 0.1, named: int = 10) -> None:
        self.size, self.share, self.named = size, share, named
        self.reasons: dict[str, str] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, error: UnreadableError, in_a_row: int) -> None:
        """Count one. ValueError: too many are unreadable."""
        with self._lock:
            self.reasons.setdefault(error.name, error.reason)
            if len(self.reasons) > self.share * self.size or in_a_row >= _IN_A_ROW:
                raise ValueError(
                    f"{len(self.reasons)} of {counted(self.size, 'example')} cannot be read, more than "
                    f"{self.share:.0%} may not: {self._names()}. Mend or delete them; where "
                    "recordings are too short, ask for clips of fewer frames or a smaller stride."
                ) from error

    def describe(self) -> str:
        """The count and the first names, one line; empty if all could be read."""
        with self._lock:
            return f"unreadable and skipped: {len(self.reasons)}: {self._names()}" if self.reasons else ""

    def _names(self) -> str:
        first = [f"{name} ({reason})" for name, reason in list(self.reasons.items())[: self.named]]
        more = len(self.reasons) - len(first)
        return "; ".join(first) + (f"; and {more} more" if more else "")


class Batches:
    """Batches of `size` examples for process `rank` of `world_size`; every pass shows each example once, in a new
    order.

    A live dataset has no passes: its examples are drawn uniformly. `threads` read `ahead` batches in advance; 0: none.
    """

    def __init__(
        self, dataset: Dataset, *, size: int, seed: int, rank: int = 0, world_size: int = 1, threads: int = 2,
        ahead: int = 2, unreadable: Unreadable | None = None,
    ) -> None:  # fmt: skip
        if size < 1 or not 0 <= rank < world_size or threads < 0 or ahead < 1:
            raise ValueError(
                f"Batches need size >= 1, 0 <= rank < world_size, threads >= 0 and ahead >= 1, got size={size}, "
                f"rank={rank}, world_size={world_size}, threads={threads}, ahead={ahead}."
            )
        self.dataset, self.size, self.seed = dataset, size, seed
        self.rank, self.world_size, self.threads, self.ahead = rank, world_size, threads, ahead
        self.unreadable = Unreadable(len(dataset)) if unreadable is None else unreadable
        self._orders: dict[int, np.ndarray] = {}
        self._lock = Lock()

    def batch(self, number: int) -> Example:
        """Batch `number`, from 0: the keys of an example with a leading axis `[B]`."""
        return _stack([self._example(n) for n in self._numbers(number)])

    def chosen(self, number: int) -> list[int]:
        """The numbers in the dataset of the examples of batch `number`, before any that cannot be read are replaced."""
        return [self._index(n, np.random.default_rng([_DRAWS, self.seed, n])) for n in self._numbers(number)]

    def after(self, number: int = 0) -> Generator[Example]:
        """Batches `number`, `number + 1`, ..."""
        if not self.threads:
            while True:
                yield self.batch(number)
                number += 1
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="examples")
        coming: deque[list[Future[Example]]] = deque()
        try:
            while True:
                while len(coming) <= self.ahead:
                    coming.append([pool.submit(self._example, n) for n in self._numbers(number)])
                    number += 1
                yield _stack([future.result() for future in coming.popleft()])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _numbers(self, batch: int) -> range:
        first = (batch * self.world_size + self.rank) * self.size
        return range(first, first + self.size)

    def _example(self, number: int) -> Example:
        rng = np.random.default_rng([_DRAWS, self.seed, number])
        index = self._index(number, rng)
        for in_a_row in range(1, _IN_A_ROW + 1):
            try:
                return self.dataset.example(index, rng)
            except UnreadableError as error:
                self.unreadable.add(error, in_a_row)
                index = int(rng.integers(len(self.dataset)))
        raise AssertionError(f"example {number} of {self.dataset.describe()} was refused without an error")

    def _index(self, number: int, rng: np.random.Generator) -> int:
        if self.dataset.live:
            return int(rng.integers(len(self.dataset)))
        turn, place = divmod(number, len(self.dataset))
        with self._lock:
            if turn not in self._orders:
                self._orders = {t: order for t, order in self._orders.items() if t >= turn - 1}
                self._orders[turn] = np.random.default_rng([_ORDER, self.seed, turn]).permutation(len(self.dataset))
            return int(self._orders[turn][place])


def _stack(examples: list[Example]) -> Example:
    try:
        return {key: np.stack([example[key] for example in examples]) for key in examples[0]}
    except (ValueError, KeyError) as error:
        shapes = sorted({str({key: list(value.shape) for key, value in example.items()}) for example in examples})
        raise ValueError(
            f"Examples of one batch have different keys or shapes: {' and '.join(shapes[:3])}. Give a size to which "
            "all frames are resized, and keys that every part of the dataset has."
        ) from error
