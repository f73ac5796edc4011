"""What stores with an index in this process share: bounds and bookkeeping, everything but the payload."""

import threading
import time
from collections.abc import Sequence

import numpy as np

from replay.config import SelectionConfig
from replay.indexing.index import UNIFORM, Index
from replay.indexing.room import Room, most_items
from replay.step import Schema
from replay.store import Store, check_priorities

_INDEX_BYTES = 8  # an item's entry in the ring


def plan(
    kind: str, schema: Schema, *, length: int, capacity: int | None, capacity_gb: float | None, chunk_length: int,
    streams: int, selection: SelectionConfig, step_bytes: int,
) -> Room:  # fmt: skip
    """The room of a store of this kind, which needs `step_bytes` of its own for each step. ValueError: no bound, or one
    too small for this many streams."""
    for name, value in (("length", length), ("chunk_length", chunk_length), ("streams", streams)):
        if value < 1:
            raise ValueError(f"{kind} {name} is {value}, allowed 1 or more; raise it.")
    if not capacity and not capacity_gb:
        raise ValueError(f"{kind} has no bound: give capacity (items), capacity_gb, or both.")
    slot_bytes = chunk_length * (schema.nbytes + _INDEX_BYTES + selection.step_bytes + step_bytes)
    per_stream = -(-(length - 1) // chunk_length) + 1  # the chunks an unfinished sequence may touch, and a new one
    bounds = [-(-capacity // chunk_length) + per_stream * streams] if capacity else []
    if capacity_gb:
        bounds.append(int(capacity_gb * 1e9 / slot_bytes))
    slots = min(bounds)
    if slots < per_stream * streams:
        need = per_stream * streams
        raise ValueError(
            f"capacity_gb {capacity_gb} holds {slots} chunks of {chunk_length} steps, but {streams} streams need "
            f"{need}; allow at least {need * slot_bytes / 1e9:.3g} GB, or lower chunk_length."
        )
    return Room(
        length=length, chunk_length=chunk_length, slots=slots, slot_bytes=slot_bytes,
        capacity=capacity or slots * chunk_length,
    )  # fmt: skip


class IndexedStore(Store):
    """A bounded index under a lock, and counters; subclasses store the steps at the index's addresses.

    `length` is the number of steps of an item, `capacity` the number of items, `capacity_gb` a bound on the payload
    (1e9 bytes); at least one bound is needed. `streams` is the number of streams written at the same time: the room for
    `capacity` includes their partly filled chunks. More streams than that evict old items; they take no more room.
    """

    step_bytes = 0
    """Bytes the store needs for a step besides its row, its latents and the index."""

    def __init__(
        self,
        schema: Schema,
        *,
        length: int,
        capacity: int | None = None,
        capacity_gb: float | None = None,
        chunk_length: int = 256,
        streams: int = 64,
        online: bool = True,
        selection: SelectionConfig = UNIFORM,
    ) -> None:
        room = plan(
            type(self).__name__, schema, length=length, capacity=capacity, capacity_gb=capacity_gb,
            chunk_length=chunk_length, streams=streams, selection=selection, step_bytes=self.step_bytes,
        )  # fmt: skip
        self.schema, self.length, self.chunk_length, self.online = schema, length, chunk_length, online
        self.selection = selection
        self._saving = threading.Lock()  # taken before _lock, to save or replace the whole state
        self._lock = threading.Lock()
        self._grown = threading.Condition(self._lock)
        self.slot_bytes, self.slots, self._capacity = room.slot_bytes, room.slots, room.capacity
        self._begin()

    def _begin(self) -> None:
        """Start empty."""
        self._index = Index(
            length=self.length,
            chunk_length=self.chunk_length,
            slots=self.slots,
            capacity=self._capacity,
            online=self.online,
            selection=self.selection,
        )
        self._counters = {"inserted": 0, "sampled": 0, "sampled_online": 0, "written_back": 0}

    @property
    def max_gb(self) -> float:
        """The most gigabytes (1e9 bytes) this store can take."""
        return self.slots * self.slot_bytes / 1e9

    def begin(self, streams: Sequence[int], writer: int) -> None:
        with self._lock:
            for stream in streams:
                self._index.begin(stream, writer)

    def available(self) -> tuple[int, int]:
        with self._lock:
            return len(self._index), len(self._index.queue)

    def room(self, streams: Sequence[int]) -> int:
        return most_items(
            len(streams), length=self.length, chunk_length=self.chunk_length, slots=self.slots, capacity=self._capacity
        )

    def set_priority(self, keys: np.ndarray, values: np.ndarray) -> int:
        where = check_priorities(keys, values)
        with self._lock:
            return sum(self._index.prioritize(*start, row) for start, row in zip(where, values, strict=True))

    def streams(self) -> dict[int, range]:
        with self._lock:
            return {stream.id: stream.stored(self.chunk_length) for stream in self._index.streams.values()}

    def items(self) -> np.ndarray:
        """Keys `[items, 2]` of the start steps of all items, oldest first."""
        with self._lock:
            return self._index.items()

    def __len__(self) -> int:
        with self._lock:
            return len(self._index)

    def stats(self) -> dict[str, float]:
        """Counts since the store was made; `gb` is the size in use, `age` the mean age of the items in steps."""
        with self._lock:
            index = self._index
            return {
                "items": len(index),
                "steps": sum(len(s.stored(self.chunk_length)) for s in index.streams.values()),
                "streams": len(index.streams),
                "chunks": index.addresses.used_slots,
                "queue": len(index.queue),
                "gb": index.addresses.used_slots * self.slot_bytes / 1e9,
                "max_gb": self.max_gb,
                "evicted": index.evicted,
                "age": len(index) / 2,
                **self._counters,
            }

    def _settings(self) -> dict[str, int]:
        return {"length": self.length, "chunk_length": self.chunk_length}

    def _spans(self, stream: int, first_step_id: int, n: int) -> list[tuple[int, int, int]]:
        """(address, row, count) of n steps; ValueError: not all of them are stored."""
        spans = list(self._index.addresses.spans(stream, first_step_id, n))
        if sum(count for _, _, count in spans) < n:
            known = self._index.streams.get(stream)
            state = f"is at step {known.next}" if known else "is unknown"
            raise ValueError(
                f"Steps {first_step_id} to {first_step_id + n - 1} of stream {stream} are not all in replay: the "
                f"stream {state}, {sum(count for _, _, count in spans)} of {n} are stored; read newer steps."
            )
        return spans

    def _wait_for_items(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not len(self._index):
            left = deadline - time.monotonic()
            if left <= 0 or not self._grown.wait(left):
                raise TimeoutError(
                    f"Sampling waited {timeout:g} s for the first sequence of {self.length} steps: replay holds "
                    f"{self._counters['inserted']} steps in {len(self._index.streams)} streams. Are the actors writing?"
                )
