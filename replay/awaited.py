"""A store that could not be opened yet: every call retries opening it, and is forwarded once that has worked."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from replay.layout import Batch
from replay.step import Rows, Schema
from replay.store import Block, ShardDownError, Store


class AwaitedStore(Store):
    """Stands in for a shard whose server is down when a process starts. `open` raises ShardDownError until the server
    is up, or ValueError if it is up but unusable."""

    def __init__(self, open: Callable[[], Store], schema: Schema, length: int, durable: bool) -> None:
        self.schema, self.length, self.durable = schema, length, durable
        self._open = open
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._closed = False

    @property
    def _there(self) -> Store:
        with self._lock:
            if self._store is None:
                try:
                    self._store = self._open()
                except ValueError as error:
                    raise ShardDownError(str(error)) from error
                if self._closed:  # meanwhile
                    self._store.close()
            return self._store

    def begin(self, streams: Sequence[int], writer: int) -> None:
        self._there.begin(streams, writer)

    def append_checked(self, blocks: Sequence[Block]) -> list[int]:
        return self._there.append_checked(blocks)

    def sample_into(self, out: Batch, rng: np.random.Generator, timeout: float = 60.0, online: bool = True) -> None:
        self._there.sample_into(out, rng, timeout, online)

    def available(self) -> tuple[int, int]:
        return self._there.available()

    def room(self, streams: Sequence[int]) -> int:
        return self._there.room(streams)

    def write_back(self, keys: np.ndarray, latents: Mapping[str, np.ndarray]) -> int:
        return self._there.write_back(keys, latents)

    def set_priority(self, keys: np.ndarray, values: np.ndarray) -> int:
        return self._there.set_priority(keys, values)

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        return self._there.read(stream, first_step_id, n)

    def streams(self) -> dict[int, range]:
        return self._there.streams()

    def __len__(self) -> int:
        return len(self._there)

    def ready(self) -> int:
        return self._there.ready()

    def stats(self) -> dict[str, float]:
        return self._there.stats()

    def checkpoint(self, directory: Path) -> None:
        self._there.checkpoint(directory)

    def verify(self, directory: Path) -> None:
        self._there.verify(directory)

    def restore(self, directory: Path) -> None:
        self._there.restore(directory)

    def clear(self) -> None:
        self._there.clear()

    def close(self) -> None:
        self._closed = True
        if self._store is not None:
            self._store.close()
