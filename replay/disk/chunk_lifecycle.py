"""A chunk's way through a disk store: filled in memory, kept while it fills, sealed to files when full, evicted."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import numpy as np

from replay.disk.chunk_files import Chunk, Header
from replay.disk.chunk_table import ChunkTable
from replay.files.whole_file import sync_directory
from replay.indexing.index import Index
from replay.step import Rows

Submit = Callable[[Literal["seal", "drop"], Chunk], None]


class ChunkLifecycle:
    """Moves the chunks of an index from one stage to the next, and has the sealer (`submit`) do what needs the disk.

    `copied`, `sealed` and `make_room` are for the sealer's thread and take the store's lock; whoever calls any other
    method holds it.
    """

    def __init__(
        self, index: Index, chunks: ChunkTable, lock: threading.Lock, submit: Submit, keep_seconds: float
    ) -> None:
        self._index, self._chunks, self._lock, self._submit = index, chunks, lock, submit
        self._files, self._length = chunks.files, chunks.files.chunk_length
        self._keep_seconds, self._keep_at = keep_seconds, time.monotonic() + keep_seconds
        index.addresses.released = self._release

    def take_over(self, found: Iterable[tuple[Chunk, int]], ends: Mapping[int, int]) -> None:
        """Fill a new index with the chunks found in a directory, each with the step it stops at, and with the streams
        that have none, each with the step it continues with. None of their sequences goes to the online queue."""
        online, self._index.online = self._index.online, False
        for chunk, stop in found:
            self._chunks.put(self._index.adopt(*chunk.id, chunk.first, stop), chunk)
            if not chunk.sealed and stop == (chunk.number + 1) * self._length:
                self._submit("seal", chunk)
        for stream, step in ends.items():
            if stream not in self._index.streams:
                self._index.know(stream, step)
        self._index.online = online

    def place(self, chunks: Iterable[Chunk]) -> None:
        """Put the chunks of a checkpoint where the index, which was restored from it, has them."""
        for chunk in chunks:
            self._chunks.put(self._index.streams[chunk.stream].slots[chunk.number], chunk)

    def fill(self, stream: int, first: int, rows: Rows, latents: np.ndarray, serial: int) -> int:
        """Add at most as many rows as fill one chunk, and have full chunks sealed; returns how many rows were new.
        `serial` is that of the last chunk sealed."""
        new, full = 0, []
        for address, row, count in self._index.extend(stream, first, len(latents)):
            slot, place = divmod(address, self._length)
            chunk = self._chunks.open(slot, stream, first + row)
            for key, value in rows.items():
                chunk.keys[key][place : place + count] = value[row : row + count]
            assert chunk.latents is not None, chunk.name
            chunk.latents[place : place + count] = latents[row : row + count]
            chunk.serial = serial
            if place + count == self._length:
                full.append(chunk)
            new += count
        for chunk in full:
            if not chunk.dropped:
                chunk.filed = True
                self._submit("seal", chunk)
        return new

    def to_keep(self) -> list[Chunk]:
        """Every `keep_seconds` the chunks that have gone on since they were kept last, else none."""
        if not self._keep_seconds or time.monotonic() < self._keep_at:
            return []
        self._keep_at = time.monotonic() + self._keep_seconds
        return [chunk for chunk in self._chunks.values() if self._stop(chunk) > chunk.kept]

    def write_open(self) -> dict[int, int]:
        """Write the chunks in memory to files, as they are; returns the next step of each stream without chunks."""
        for chunk in self._chunks.values():
            if not chunk.sealed:
                stop = min((chunk.number + 1) * self._length, self._index.streams[chunk.stream].next)
                self._files.write_open(*self._files.copy(chunk, stop))
        sync_directory(self._files.directory)
        return {stream.id: stream.next for stream in self._index.streams.values() if not stream.slots}

    def _stop(self, chunk: Chunk) -> int:
        """The step at which a chunk that is filling continues, 0 for other chunks."""
        if chunk.sealed or chunk.dropped:
            return 0
        stop = self._index.streams[chunk.stream].next
        return stop if stop < (chunk.number + 1) * self._length else 0

    def _release(self, slot: int) -> None:
        """The index has evicted the chunk in this slot."""
        chunk = self._chunks.drop(slot)
        if chunk and chunk.filed:
            self._submit("drop", chunk)

    def copied(self, chunk: Chunk) -> tuple[Header, np.ndarray] | None:
        """What to write of a chunk to keep it; None if it is full or evicted by now, or has not gone on."""
        with self._lock:
            stop = self._stop(chunk)
            if stop <= chunk.kept:
                return None
            chunk.filed = True  # evicting it removes the file
            return self._files.copy(chunk, stop)

    def sealed(self, chunk: Chunk) -> None:
        """A chunk is safe in its files."""
        with self._lock:
            self._chunks.seal(chunk)

    def make_room(self) -> bool:
        """Evict until a chunk that has files has left; False: none has files."""
        with self._lock:
            before = self._chunks.sealed
            while before and self._chunks.sealed == before and self._index.evict_oldest():
                pass
            return self._chunks.sealed < before
