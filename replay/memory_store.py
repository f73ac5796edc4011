"""A replay store in the memory of the process: packed rows and latents, `[slots * chunk]`, filled in place."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from replay.checkpoint import Lineage
from replay.index import UNIFORM, Index
from replay.layout import Batch, views
from replay.reserved import reserve
from replay.selection import SelectionConfig
from replay.step import Rows, Schema, check_rows
from replay.store import Store, check_latents, check_priorities

_INDEX_BYTES = 8  # an item's entry in the ring


class MemoryStore(Store):
    """See `replay.store.Store`.

    `length` is the number of steps of an item, `capacity` the number of items, `capacity_gb` a bound on the payload
    (1e9 bytes); at least one bound is needed. `streams` is how many streams write at the same time: the memory planned
    for `capacity` has room for their partly filled chunks, and more streams than that cost old items, never memory.
    """

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
        for name, value in (("length", length), ("chunk_length", chunk_length), ("streams", streams)):
            if value < 1:
                raise ValueError(f"MemoryStore {name} is {value}, allowed 1 or more; raise it.")
        if not capacity and not capacity_gb:
            raise ValueError("MemoryStore has no bound: give capacity (items), capacity_gb, or both.")
        self.schema, self.length, self.chunk_length, self.online = schema, length, chunk_length, online
        self.selection = selection
        self._lock = threading.Lock()
        self._grown = threading.Condition(self._lock)
        self._all = schema.all
        self.slot_bytes = chunk_length * (schema.nbytes + _INDEX_BYTES + selection.step_bytes)
        per_stream = -(-(length - 1) // chunk_length) + 1  # the chunks an unfinished sequence may touch, and a new one
        bounds = [-(-capacity // chunk_length) + per_stream * streams] if capacity else []
        if capacity_gb:
            bounds.append(int(capacity_gb * 1e9 / self.slot_bytes))
        self.slots = min(bounds)
        if self.slots < per_stream * streams:
            need = per_stream * streams
            raise ValueError(
                f"capacity_gb {capacity_gb} holds {self.slots} chunks of {chunk_length} steps, {streams} streams need "
                f"{need}; allow at least {need * self.slot_bytes / 1e9:.3g} GB, or lower chunk_length."
            )
        self._capacity = capacity or self.slots * chunk_length
        self._reset()

    def _reset(self) -> None:
        self._index = Index(
            length=self.length,
            chunk_length=self.chunk_length,
            slots=self.slots,
            capacity=self._capacity,
            online=self.online,
            selection=self.selection,
        )
        self._lineage = Lineage()
        steps = self.slots * self.chunk_length
        self._rows, self._latents = (reserve((steps,), t) for t in (self.schema.row_dtype, self.schema.latent_dtype))
        self._data = views(self._rows) | views(self._latents)
        self._counters = {"inserted": 0, "sampled": 0, "sampled_online": 0, "written_back": 0}

    @property
    def max_gb(self) -> float:
        """Gigabytes (1e9 bytes) this store takes at most."""
        return self.slots * self.slot_bytes / 1e9

    def append(self, stream: int, first_step_id: int, rows: Mapping[str, np.ndarray]) -> int:
        checked, n = check_rows(self._all, rows)
        new = 0
        with self._lock:
            for address, row, count in self._index.extend(stream, first_step_id, n):
                for key, value in checked.items():
                    self._data[key][address : address + count] = value[row : row + count]
                new += count
            self._counters["inserted"] += new
            if new:
                self._grown.notify_all()
        return new

    def sample_into(self, out: Batch, rng: np.random.Generator, timeout: float = 60.0, online: bool = True) -> None:
        n, length = out.rows.shape
        with self._lock:
            self._wait_for_items(timeout)
            starts, fresh = self._index.draw(n, rng, online)
            out.keys[:] = self._index.keys(starts, length)
            gather(self._rows, self._index.addresses(starts, length), out.rows)
            gather(self._latents, starts, out.latents)
            self._counters["sampled"] += n * length
            self._counters["sampled_online"] += fresh

    def available(self) -> tuple[int, int]:
        with self._lock:
            return len(self._index), len(self._index.queue)

    def write_back(self, keys: np.ndarray, latents: Mapping[str, np.ndarray]) -> int:
        where, checked = check_latents(self.schema, keys, latents)
        written = 0
        with self._lock:
            for i, (stream, first) in enumerate(where):
                for address, row, count in self._index.spans(stream, first, keys.shape[1]):
                    for key, value in checked.items():
                        self._data[key][address : address + count] = value[i, row : row + count]
                    written += count
            self._counters["written_back"] += written
        return written

    def set_priority(self, keys: np.ndarray, values: np.ndarray) -> int:
        where = check_priorities(keys, values)
        with self._lock:
            return sum(self._index.prioritize(*start, row) for start, row in zip(where, values, strict=True))

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        with self._lock:
            spans = list(self._index.spans(stream, first_step_id, n))
            if sum(count for _, _, count in spans) < n:
                known = self._index.streams.get(stream)
                state = f"is at step {known.next}" if known else "is unknown"
                raise ValueError(
                    f"Steps {first_step_id} to {first_step_id + n - 1} of stream {stream} are not all in replay: the "
                    f"stream {state}, {sum(count for _, _, count in spans)} of {n} are stored; read newer steps."
                )
            steps = np.concatenate([np.arange(a, a + count) for a, _, count in spans] or [np.empty(0, np.int64)])
            return {key: data[steps] for key, data in self._data.items()}

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
        """Counts since the store was made; `gb` is what is in use, `age` how many steps ago the mean item came."""
        with self._lock:
            index = self._index
            return {
                "items": len(index),
                "steps": sum(len(s.stored(self.chunk_length)) for s in index.streams.values()),
                "streams": len(index.streams),
                "chunks": index.used_slots,
                "queue": len(index.queue),
                "gb": index.used_slots * self.slot_bytes / 1e9,
                "max_gb": self.max_gb,
                "evicted": index.evicted,
                "age": len(index) / 2,
                **self._counters,
            }

    def checkpoint(self, directory: Path) -> None:
        with self._lock:
            self._lineage.save(Path(directory), self.schema, self._settings(), self._index, self._data, self._counters)

    def restore(self, directory: Path) -> None:
        with self._lock:
            self._reset()
            try:
                self._lineage.load(
                    Path(directory), self.schema, self._settings(), self._index, self._data, self._counters
                )
            except BaseException:
                self._reset()  # empty rather than half full
                raise
            self._grown.notify_all()

    def clear(self) -> None:
        with self._lock:
            self._reset()

    def _settings(self) -> dict[str, int]:
        return {"length": self.length, "chunk_length": self.chunk_length}

    def _wait_for_items(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not len(self._index):
            left = deadline - time.monotonic()
            if left <= 0 or not self._grown.wait(left):
                raise TimeoutError(
                    f"Sampling waited {timeout:g} s for the first sequence of {self.length} steps: replay holds "
                    f"{self._counters['inserted']} steps in {len(self._index.streams)} streams. Are the actors writing?"
                )


def gather(data: np.ndarray, steps: np.ndarray, out: np.ndarray) -> None:
    """Elements of `data` at `steps`, one copy each, into contiguous memory."""
    if data.dtype.itemsize:  # bytes alone: numpy would look at every part of a structured element
        raw = np.dtype((np.void, data.dtype.itemsize))
        np.take(data.view(raw), steps, 0, out.view(raw), "clip")  # clip: the default mode copies once more
