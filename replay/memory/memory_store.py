"""A replay store in the memory of the process: packed rows and latents, `[slots * chunk]`, filled in place."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from replay.indexing.indexed_store import IndexedStore
from replay.indexing.tracked import Tracked
from replay.layout import Batch, PackedRows, pack_rows, raw, views
from replay.memory.lineage import Lineage, verify
from replay.reserved import reserve
from replay.step import Rows
from replay.store import Block, check_latents

_PATIENCE = 600.0  # seconds that a checkpoint waits for the one before it


class MemoryStore(IndexedStore):
    """See `replay.store.Store` and `replay.indexing.indexed_store.IndexedStore`."""

    step_bytes = 12  # the numbers of the checkpoint files with its row, latents and priority

    def _begin(self) -> None:
        super()._begin()
        self._lineage = Lineage()
        steps = self.slots * self.chunk_length
        self._rows, self._latents = (reserve((steps,), t) for t in (self.schema.row_dtype, self.schema.latent_dtype))
        self._data = views(self._rows) | views(self._latents)
        self._whole = raw(self._rows), raw(self._latents)
        values = {"latents": self._latents} if self.schema.latents else {}
        if self._index.priorities:
            values["priorities"] = self._index.priorities.of_steps
        self._steps = {
            kind: Tracked(array, self.chunk_length) for kind, array in {**values, "rows": self._rows}.items()
        }
        self._refresh = self._steps["latents"].replace if self.schema.latents else lambda address, count: None
        if self._index.priorities:
            self._index.priorities.replacing = self._steps["priorities"].replace
        self._index.addresses.released = self._vacate

    def _vacate(self, slot: int) -> None:
        for tracked in self._steps.values():
            tracked.vacate(slot)

    def append_checked(self, blocks: Sequence[Block]) -> list[int]:
        packed = [(stream, first, pack_rows(self.schema, rows)) for stream, first, rows in blocks]
        new: list[int] = []
        with self._lock:
            try:
                for block in packed:
                    new.append(self._append(*block))
            finally:
                self._counters["inserted"] += sum(new)
                self._grown.notify_all()
        return new

    def _append(self, stream: int, first_step_id: int, packed: PackedRows) -> int:
        (rows, latents), (all_rows, all_latents), new = packed.raw, self._whole, 0
        for address, row, n in self._index.extend(stream, first_step_id, len(rows)):
            all_rows[address : address + n] = rows[row : row + n]
            all_latents[address : address + n] = latents[row : row + n]
            new += n
        return new

    def sample_into(self, out: Batch, rng: np.random.Generator, timeout: float = 60.0, online: bool = True) -> None:
        n, length = out.rows.shape
        with self._lock:
            self._wait_for_items(timeout)
            starts, fresh = self._index.draw(n, rng, online)
            out.keys[:] = self._index.addresses.keys(starts, length)
            gather(self._rows, self._index.addresses.of_sequences(starts, length), out.rows)
            gather(self._latents, starts, out.latents)
            self._counters["sampled"] += n * length
            self._counters["sampled_online"] += fresh

    def write_back(self, keys: np.ndarray, latents: Mapping[str, np.ndarray]) -> int:
        where, checked = check_latents(self.schema, keys, latents)
        written = 0
        with self._lock:
            for i, (stream, first) in enumerate(where):
                for address, row, count in self._index.addresses.spans(stream, first, keys.shape[1]):
                    self._refresh(address, count)
                    for key, value in checked.items():
                        self._data[key][address : address + count] = value[i, row : row + count]
                    written += count
            self._counters["written_back"] += written
        return written

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        with self._lock:
            spans = self._spans(stream, first_step_id, n)
            steps = np.concatenate([np.arange(a, a + count) for a, _, count in spans] or [np.empty(0, np.int64)])
            return {key: data[steps] for key, data in self._data.items()}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._saving.acquire(timeout=_PATIENCE):
            raise TimeoutError(f"Replay waited {_PATIENCE:g} s for another checkpoint to finish: does the disk hang?")
        try:
            yield
        finally:
            self._saving.release()

    def checkpoint(self, directory: Path) -> None:
        about = {"schema": self.schema.to_json(), "settings": self._settings()}
        with self._alone():
            self._lineage.save(Path(directory), about, self._lock, self._index, self._steps, self._counters)

    def verify(self, directory: Path) -> None:
        verify(Path(directory), self.schema, self._settings(), self._index)

    def restore(self, directory: Path) -> None:
        with self._alone(), self._lock:
            before = vars(self).copy()
            self._begin()
            try:
                self._lineage.load(
                    Path(directory), self.schema, self._settings(), self._index, self._steps, self._counters
                )
            except BaseException:
                vars(self).update(before)
                raise
            self._grown.notify_all()

    def clear(self) -> None:
        with self._alone(), self._lock:
            self._begin()


def gather(data: np.ndarray, steps: np.ndarray, out: np.ndarray) -> None:
    """Elements of `data` at `steps`, one copy each, into contiguous memory."""
    if data.dtype.itemsize:
        np.take(raw(data), steps, 0, raw(out), "clip")  # clip: the default mode copies once more
