"""The contract of every replay store, whether in the process, on disk, in Ray actors or on Redis."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import numpy as np

from replay.errors import NexusError
from replay.keys import sequences
from replay.layout import Batch, new_batch, unpack
from replay.step import Rows, Schema, check_rows

Sample = tuple[Rows, np.ndarray]
Block = tuple[int, int, Mapping[str, np.ndarray]]
"""Stream, first step, rows `[n, ...]`."""


class StreamError(ValueError):
    """Nothing can be written to `stream`; its writer continues with a new one."""

    def __init__(self, message: str, stream: int) -> None:
        super().__init__(message, stream)
        self.stream = stream

    def __str__(self) -> str:
        return str(self.args[0])


class GapError(StreamError):
    """Steps of `stream` are missing before those given: the store has lost them, or they were never sent."""


class StreamExistsError(StreamError):
    """`stream` cannot begin because another writer has begun it."""

    @classmethod
    def at(cls, stream: int, step: int) -> Self:
        return cls(
            f"Stream {stream} cannot begin: another writer has begun it, it continues at step {step}. "
            "Use a stream id that was never used.",
            stream,
        )


class ShardDownError(NexusError, ConnectionError):
    """A store behind a connection does not answer or cannot be used; the message names it and the reason."""


@runtime_checkable
class Store(Protocol):
    """Streams of steps in, sequences out.

    Every step that still has `length - 1` successors in its stream starts one item. Items leave oldest first. All
    methods may be called from any thread. Sampling depends only on the content and on the generator passed.
    """

    schema: Schema
    length: int
    durable: bool = False
    """The content outlives the process."""

    @abstractmethod
    def begin(self, streams: Sequence[int], writer: int) -> None:
        """Claim new streams for the writer with this random number; it may claim them again until it appends.

        StreamExistsError: one of them exists already; the others may be claimed or not. GapError: the shard of one is
        down. A stream that was not claimed begins with its first append.
        """
        ...

    def append(self, stream: int, first_step_id: int, rows: Mapping[str, np.ndarray]) -> int:
        """Check and add rows `[n, ...]`; steps that are stored already are ignored. Returns how many were new.

        ValueError: a key, dtype or shape differs from the schema. GapError: a gap before `first_step_id`.
        """
        checked, _ = self.schema.check(rows)
        return self.append_checked([(stream, first_step_id, checked)])[0]

    @abstractmethod
    def append_checked(self, blocks: Sequence[Block]) -> list[int]:
        """`append` for several blocks, in fewer round trips if there are any, of rows that `Schema.check` has checked,
        as `Writer` does when it takes them: anything else would be stored wrongly. After a GapError the other blocks
        may or may not be stored; all may be passed again."""
        ...

    def sample(
        self, n: int, length: int, rng: np.random.Generator, timeout: float = 60.0, online: bool = True
    ) -> Sample:
        """A batch and its step keys int64 `[n, length, 2]`: first the online queue, then drawn by the selection.

        Fields are `[n, length, ...]`, latents `[n, ...]` of column 0, all views of one packed buffer.
        `is_first` of column 0 is set; `is_last` is set if the next column is first. TimeoutError: no item
        appeared within `timeout` seconds.
        """
        if n < 1 or not 1 <= length <= self.length:
            raise ValueError(f"sample({n}, {length}): allowed are n >= 1 and a length of 1 to {self.length}.")
        batch = new_batch(self.schema, n, length)
        self.sample_into(batch, rng, timeout, online)
        return unpack(batch)

    @abstractmethod
    def sample_into(self, out: Batch, rng: np.random.Generator, timeout: float = 60.0, online: bool = True) -> None:
        """Fill a batch with what `sample` draws, flags as written."""
        ...

    @abstractmethod
    def available(self) -> tuple[int, int]:
        """Number of items, and of sequences in the online queue."""
        ...

    @abstractmethod
    def room(self, streams: Sequence[int]) -> int:
        """The most items that these streams can have at a time if only they write, all at the same rate."""
        ...

    @abstractmethod
    def write_back(self, keys: np.ndarray, latents: Mapping[str, np.ndarray]) -> int:
        """Replace latents `[n, T, ...]` at keys `[n, T, 2]`, evicted steps aside. Returns how many got written."""
        ...

    @abstractmethod
    def set_priority(self, keys: np.ndarray, values: np.ndarray) -> int:
        """Set priorities `[n, T]` of the steps with keys `[n, T, 2]`. Returns how many were set: 0 if the selection
        does not use priorities."""
        ...

    @abstractmethod
    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        """Rows `[n, ...]` as stored, with latents; ValueError names the steps if not all are stored."""
        ...

    @abstractmethod
    def streams(self) -> dict[int, range]:
        """The stored steps of each stream; the range's end is the step it continues with."""
        ...

    @abstractmethod
    def __len__(self) -> int:
        """Number of items."""
        ...

    def ready(self) -> int:
        """Number of items if the store can be read and written; otherwise an exception with the reason."""
        return len(self)

    @abstractmethod
    def stats(self) -> dict[str, float]: ...

    @abstractmethod
    def checkpoint(self, directory: Path) -> None:
        """Write the whole state into a new directory, which appears complete or not at all."""
        ...

    @abstractmethod
    def verify(self, directory: Path) -> None:
        """Read a checkpoint without changing anything; ValueError: damaged files, another schema or length."""
        ...

    @abstractmethod
    def restore(self, directory: Path) -> None:
        """Replace the whole state; ValueError as from `verify`, and the store is unchanged."""
        ...

    @abstractmethod
    def clear(self) -> None:
        """Delete all streams, items and counts."""
        ...

    def close(self) -> None:
        """Release files and connections; the content of a durable store stays."""
        return None


def check_latents(
    schema: Schema, keys: np.ndarray, latents: Mapping[str, np.ndarray]
) -> tuple[list[tuple[int, int]], Rows]:
    """(stream, first step) of each row of keys, and the latents `[n, T, ...]`; ValueError if their shapes differ."""
    unknown = sorted(set(latents) - set(schema.latents))
    if unknown:
        raise ValueError(f"Keys {unknown} cannot be written back; the latents are {sorted(schema.latents)}.")
    where = sequences(keys)
    checked, _ = check_rows({key: schema.latents[key] for key in latents}, latents, leading=2)
    shape = next(iter(checked.values())).shape[:2]
    if shape != keys.shape[:2]:
        raise ValueError(f"Latents are {list(shape)} + ..., the keys {list(keys.shape)}; pass one of each per step.")
    return where, checked


def check_priorities(keys: np.ndarray, values: np.ndarray) -> list[tuple[int, int]]:
    """(stream, first step) of each row of keys; ValueError: not one value per step, or one is negative or NaN."""
    where = sequences(keys)
    if np.shape(values) != keys.shape[:2]:
        raise ValueError(f"Priorities are {list(np.shape(values))}, the keys {list(keys.shape)}; pass one per step.")
    if not (np.asarray(values) >= 0).all():
        raise ValueError(f"Priorities must be 0 or more, got {np.min(values)}; use the magnitude of the loss.")
    return where
