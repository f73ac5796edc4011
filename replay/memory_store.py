"""A replay store in the memory of the process: packed rows and latents, `[slots * chunk]`, filled in place."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from replay.checkpoint import Lineage, verify
from replay.indexed_store import IndexedStore
from replay.layout import Batch, views
from replay.reserved import reserve
from replay.step import Rows, check_rows
from replay.store import check_latents


class MemoryStore(IndexedStore):
    """See `replay.store.Store` and `replay.indexed_store.IndexedStore`."""

    def _begin(self) -> None:
        super()._begin()
        self._lineage = Lineage()
        steps = self.slots * self.chunk_length
        self._rows, self._latents = (reserve((steps,), t) for t in (self.schema.row_dtype, self.schema.latent_dtype))
        self._data = views(self._rows) | views(self._latents)

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

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        with self._lock:
            spans = self._spans(stream, first_step_id, n)
            steps = np.concatenate([np.arange(a, a + count) for a, _, count in spans] or [np.empty(0, np.int64)])
            return {key: data[steps] for key, data in self._data.items()}

    def checkpoint(self, directory: Path) -> None:
        with self._lock:
            self._lineage.save(Path(directory), self.schema, self._settings(), self._index, self._data, self._counters)

    def verify(self, directory: Path) -> None:
        verify(Path(directory), self.schema, self._settings(), self._index)

    def restore(self, directory: Path) -> None:
        with self._lock:
            before = vars(self).copy()
            self._begin()
            try:
                self._lineage.load(
                    Path(directory), self.schema, self._settings(), self._index, self._data, self._counters
                )
            except BaseException:
                vars(self).update(before)
                raise
            self._grown.notify_all()

    def clear(self) -> None:
        with self._lock:
            self._begin()


def gather(data: np.ndarray, steps: np.ndarray, out: np.ndarray) -> None:
    """Elements of `data` at `steps`, one copy each, into contiguous memory."""
    if data.dtype.itemsize:  # bytes alone: numpy would look at every part of a structured element
        raw = np.dtype((np.void, data.dtype.itemsize))
        np.take(data.view(raw), steps, 0, out.view(raw), "clip")  # clip: the default mode copies once more
