"""The contract every replay store keeps, whether in the process, on disk, behind Ray actors or on Redis."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from replay.step import Rows, Schema

Sample = tuple[Rows, np.ndarray]


@runtime_checkable
class Store(Protocol):
    """Streams of steps in, sequences out.

    Every step that still has `length - 1` successors in its stream starts one item. Items leave oldest first. All
    methods may be called from any thread. Sampling depends on the content and on the generator passed, on nothing else.
    """

    schema: Schema
    length: int

    def append(self, stream: int, first_step_id: int, rows: Mapping[str, np.ndarray]) -> int:
        """Add rows `[n, ...]`; steps that are known already are ignored. Returns how many were new.

        ValueError: a key, dtype or shape the schema does not have; a gap before `first_step_id`.
        """
        ...

    def sample(
        self, n: int, length: int, rng: np.random.Generator, timeout: float = 60.0, online: bool = True
    ) -> Sample:
        """A batch and its step keys int64 `[n, length, 2]`: waiting online sequences first, then uniform over items.

        Fields are `[n, length, ...]`, latents `[n, ...]` of column 0. `is_first` of column 0 is set; `is_last` is set
        wherever the next column is first. TimeoutError: no item appeared within `timeout` seconds.
        """
        ...

    def write_back(self, keys: np.ndarray, latents: Mapping[str, np.ndarray]) -> int:
        """Replace latents `[n, T, ...]` at keys `[n, T, 2]`, evicted steps aside. Returns how many got written."""
        ...

    def set_priority(self, keys: np.ndarray, values: np.ndarray) -> int:
        """Priorities `[n, T]` of the items that start at keys `[n, T, 2]`. Returns how many the store makes use of."""
        ...

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        """Rows `[n, ...]` as stored, latents included; ValueError names the steps that are not there."""
        ...

    def streams(self) -> dict[int, range]:
        """The steps each stream has stored; the range's end is the step it continues with."""
        ...

    def __len__(self) -> int:
        """Number of items."""
        ...

    def stats(self) -> dict[str, float]: ...

    def checkpoint(self, directory: Path) -> None:
        """Write the whole state into a new directory, which appears complete or not at all."""
        ...

    def restore(self, directory: Path) -> None:
        """Replace the whole state; ValueError, and an empty store: damaged files, another schema, another length."""
        ...

    def clear(self) -> None:
        """Forget all streams, items and counts."""
        ...
