"""Sampling from a replay on Redis: the mirror's index draws, the bytes are received directly into the batch."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from replay.config import SelectionConfig
from replay.indexing.index import Index
from replay.layout import Batch
from replay.redis.redis_batch import ChunkReader
from replay.redis.redis_damage import Damage
from replay.redis.redis_mirror import Mirror
from replay.redis.redis_replay import RedisReplay
from replay.redis.redis_script import MissingReplayError

_POLL = 0.02


class Sampler:
    """One thread at a time samples, the others wait."""

    def __init__(
        self,
        replay: RedisReplay,
        chunks: ChunkReader,
        damage: Damage,
        *,
        online: bool,
        selection: SelectionConfig,
        note: Callable[[str], None],
    ) -> None:
        self._replay, self._chunks, self._damage, self._online = replay, chunks, damage, online
        self._mirror = Mirror(replay, online=online, selection=selection, note=note)
        self.lock = threading.Lock()
        """Held while a batch is drawn."""
        self.counters = {"sampled": 0, "sampled_online": 0, "stale": 0}

    @contextmanager
    def index(self) -> Iterator[Index]:
        """The index, up to date with the server, locked until the end of the block."""
        with self.lock:
            yield self._synced()

    def queued(self) -> int:
        """Sequences in the online queue; 0 if nothing samples."""
        if not (self._online and (self._replay.made or self._mirror.index)):
            return 0
        with self.index() as index:
            return len(index.queue)

    def sample_into(self, out: Batch, rng: np.random.Generator, timeout: float, online: bool) -> None:
        deadline = time.monotonic() + timeout
        while True:
            with self.index() as index:
                items = len(index)
                if items and self._fill(out, rng, online, deadline):
                    return
                counts = self._mirror.counts
            if time.monotonic() >= deadline:
                assert counts is not None
                raise TimeoutError(
                    f"Sampling waited {timeout:g} s for the first sequence of {self._replay.layout.length} steps: "
                    f"replay on Redis {self._replay.label} received {counts.inserted} steps in {counts.streams} "
                    "streams. Are the actors writing?"
                )
            if not items:
                time.sleep(min(_POLL, timeout))

    def forget_counts(self) -> None:
        self.counters = dict.fromkeys(self.counters, 0)

    def _synced(self) -> Index:
        while True:
            try:
                return self._mirror.sync()
            except MissingReplayError:
                self._replay.begin_anew()

    def _fill(self, out: Batch, rng: np.random.Generator, online: bool, deadline: float) -> bool:
        """Draw and receive a batch; False: what came may not be what was drawn, or goes faster than it can be read."""
        mirror, index = self._mirror, self._mirror.index
        assert index is not None and mirror.counts is not None
        n, length = out.rows.shape
        starts, fresh = index.draw(n, rng, online)
        out.keys[:] = index.addresses.keys(starts, length)
        handed = [(stream, step) for stream, step in out.keys[:fresh, 0].tolist()]
        missing = np.arange(n)
        while True:
            whole, stale, life = self._chunks.sequences(out, missing)
            self._damage.look_for_foreign_values()
            if life != mirror.counts.life or not mirror.current:
                index.queue.give_back(handed)
                return False
            self.counters["stale"] += stale
            missing = missing[~whole]
            if not len(missing):
                break
            index = self._synced()  # the missing ones were evicted meanwhile
            self._damage.look_for_lost_bytes(index, out.keys[missing, 0])
            if not len(index) or time.monotonic() >= deadline:
                return False
            out.keys[missing] = index.addresses.keys(index.draw(len(missing), rng, False)[0], length)
        self.counters["sampled"] += n * length
        self.counters["sampled_online"] += fresh
        return True
