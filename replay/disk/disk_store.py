"""A durable replay store in a directory: it may be larger than memory, and outlives the process."""

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from replay.config import SelectionConfig
from replay.disk import disk_checkpoint, latent_rows
from replay.disk.chunk_files import Chunk, ChunkFiles, suitable_chunk_length
from replay.disk.chunk_lifecycle import ChunkLifecycle
from replay.disk.chunk_table import ChunkTable
from replay.disk.directory_lock import lock_directory
from replay.disk.manifest import FORMAT, Content, read_manifest
from replay.disk.reopening import check_stored, describe, take_over
from replay.disk.restoring import Restoring
from replay.disk.sealing import Sealer
from replay.disk.sequence_parts import copy_sequences, find_parts, find_places, plan, read_parts, write_latents
from replay.files.checked_files import DamagedError
from replay.indexing.index import UNIFORM
from replay.indexing.index_state import state_of
from replay.indexing.indexed_store import IndexedStore
from replay.layout import Batch
from replay.step import Rows, Schema, row_count
from replay.store import Block, check_latents

_REDRAWS = 200  # before sampling gives up


class DiskStore(IndexedStore):
    """See `IndexedStore` (`capacity_gb` is a bound on the disk) and `replay.disk.chunk_files`.

    A chunk is in memory while it fills, and until it is written, synced and listed in the manifest; at most twice
    `streams` chunks are. Those that are filling are kept every `keep_seconds` while steps come in: written as they are,
    in the background. So a process that is killed loses the steps of the last `keep_seconds`, plus those of the time
    that writing takes, and the latents of the chunks that were filling; with 0 it loses these chunks too. After close()
    nothing is lost. Latents are not synced: those that a crash tore are read as zeros and counted as `stale`.

    Opening reads no payload: a chunk is verified when it is first used, and set aside if it is damaged; its sequences
    are then no longer drawn. Items come back in the order their chunks were sealed in, and none of them is in the
    online queue. `note` is called with a line about everything that happens. `chunk_length` 0 takes that of the
    directory, or a suitable one. Appending waits up to `timeout` seconds for a slow disk. `compression` ("lz4") applies
    to chunks written from now on; bounds and `gb` count them as if they were not compressed.
    """

    durable = True

    def __init__(
        self,
        directory: str | Path,
        schema: Schema,
        *,
        length: int,
        capacity: int | None = None,
        capacity_gb: float | None = None,
        chunk_length: int = 0,
        streams: int = 64,
        online: bool = True,
        selection: SelectionConfig = UNIFORM,
        compression: str = "",
        keep_seconds: float = 10.0,
        note: Callable[[str], None] = lambda line: None,
        timeout: float = 120.0,
    ) -> None:
        if not keep_seconds >= 0:
            raise ValueError(f"DiskStore keep_seconds is {keep_seconds}, allowed 0 (only at close) or more; raise it.")
        self.directory, self.note, self._timeout = Path(directory), note, timeout
        self._keep_seconds = keep_seconds
        (self.directory / "chunks").mkdir(parents=True, exist_ok=True)
        self._unlock = weakref.finalize(self, os.close, lock_directory(self.directory))
        self._closed = False
        try:
            content = read_manifest(self.directory)
            stored = check_stored(self.directory, content, schema, chunk_length)
            chunk_length = stored or chunk_length or suitable_chunk_length(schema, capacity, capacity_gb, streams)
            self.files = ChunkFiles(self.directory / "chunks", schema, chunk_length, compression)
            self._restoring = Restoring(self.files)
            self._restoring.discard()
            super().__init__(
                schema, length=length, capacity=capacity, capacity_gb=capacity_gb, chunk_length=chunk_length,
                streams=streams, online=online, selection=selection,
            )  # fmt: skip
            self._writing = threading.Lock()  # taken before _lock, to add or replace content
            self._reopen(content, streams)
        except BaseException:
            self._unlock()
            raise

    def _begin(self) -> None:
        super()._begin()
        self._counters["stale"] = 0
        self._chunks = ChunkTable(self.files, self.slots, self._lose)
        self._lifecycle = ChunkLifecycle(
            self._index, self._chunks, self._lock, lambda kind, chunk: self._sealer.submit(kind, chunk),
            self._keep_seconds,
        )  # fmt: skip
        self._previous = disk_checkpoint.Previous()

    def _reopen(self, content: Content | None, streams: int) -> None:
        store = {
            "format": FORMAT, "schema": self.schema.to_json(), "chunk_length": self.chunk_length,
            "length": self.length, "capacity": self._capacity, "max_gb": self.max_gb,
            "keep_seconds": self._keep_seconds,
        }  # fmt: skip
        found, manifest = take_over(self.files, content or Content(), store, self.note)
        counts = content.counts if content else {}
        self._sealer = Sealer(
            self.files, manifest, waiting=max(8, streams), settled=lambda chunk: self._chunks.settle(chunk),
            sealed=lambda chunk: self._lifecycle.sealed(chunk), copied=lambda chunk: self._lifecycle.copied(chunk),
            evict=lambda: self._lifecycle.make_room(), counts=self._counts, note=self.note,
        )  # fmt: skip
        with self._lock:
            self._counters |= {key: counts.get(key, 0) for key in self._counters}
            self._index.ring.created = self._index.ring.evicted = counts.get("evicted", 0)
            self._lifecycle.take_over(found, content.ends if content else {})
        if content:
            self.note(f"Replay {self.directory} has {describe(self._index, content)}.")

    def append_checked(self, blocks: Sequence[Block]) -> list[int]:
        """See `replay.store.Store`; OSError, perhaps after some of the rows: a chunk cannot be written, or the disk
        is full and nothing older is left to evict. TimeoutError: they are not written in time."""
        return [self._append_block(*block) for block in blocks]

    def _append_block(self, stream: int, first_step_id: int, rows: Mapping[str, np.ndarray]) -> int:
        n, step = row_count(rows), self.chunk_length
        latents = latent_rows.packed(self.schema, rows, n)
        fields = {key: rows[key] for key in self.schema.fields}
        with self._changing():
            new = 0
            for i in range(0, max(1, n), step):
                part = {key: value[i : i + step] for key, value in fields.items()}
                new += self._append(stream, first_step_id + i, part, latents[i : i + step])
            return new

    def _append(self, stream: int, first: int, rows: Rows, latents: np.ndarray) -> int:
        """Add at most as many rows as fill one chunk."""
        self._sealer.wait_for_room(self._timeout)
        with self._lock:
            new = self._lifecycle.fill(stream, first, rows, latents, self._sealer.serial)
            self._counters["inserted"] += new
            if new:
                self._grown.notify_all()
            if chunks := self._lifecycle.to_keep():
                self._sealer.keep(chunks)
        return new

    def _lose(self, chunk: Chunk, error: DamagedError) -> None:
        self._sealer.submit("lose", chunk)
        self.note(f"Replay {self.directory}: chunk set aside, its sequences are lost, {error}.")

    def _counts(self) -> dict[str, int]:
        return {**self._counters, "evicted": self._index.evicted}

    def sample_into(self, out: Batch, rng: np.random.Generator, timeout: float = 60.0, online: bool = True) -> None:
        n, length = out.rows.shape
        left = np.arange(n)
        for attempt in range(_REDRAWS):
            with self._lock:
                self._wait_for_items(timeout)
                starts, fresh = self._index.draw(len(left), rng, online)
                out.keys[left] = self._index.addresses.keys(starts, length)
                sequences = plan(self._chunks, self._index, starts, length)
                self._counters["sampled"] += 0 if attempt else n * length
                self._counters["sampled_online"] += fresh
            copied, stale = copy_sequences(self._chunks, sequences, out, left)
            if stale:
                with self._lock:
                    self._counters["stale"] += stale
            left = left[~copied]
            if not len(left):
                return
        raise OSError(
            f"Replay {self.directory}: every sequence drawn was damaged or evicted, {_REDRAWS} times in a row; see the "
            "messages about its chunks, and delete the directory if they are lost."
        )

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        with self._lock:
            parts = find_parts(self._chunks, self._spans(stream, first_step_id, n))
        try:
            return read_parts(self._chunks, parts, n)
        except DamagedError as error:
            raise ValueError(
                f"Steps {first_step_id} to {first_step_id + n - 1} of stream {stream} are not all in replay: chunk "
                f"{error} is damaged; read other steps."
            ) from None

    def write_back(self, keys: np.ndarray, latents: Mapping[str, np.ndarray]) -> int:
        where, checked = check_latents(self.schema, keys, latents)
        with self._lock:
            if self._closed:
                raise ValueError(f"Replay {self.directory} was closed; open it again to write latents back.")
            places = find_places(self._chunks, self._index, where, keys.shape[1])
        written = write_latents(self._chunks, places, checked)
        with self._lock:
            self._counters["written_back"] += written
        return written

    @contextmanager
    def _changing(self) -> Iterator[None]:
        if not self._writing.acquire(timeout=self._timeout):
            raise TimeoutError(
                f"Replay {self.directory} was busy for {self._timeout:g} s: others append, save or restore."
            )
        try:
            if self._closed:
                raise ValueError(f"Replay {self.directory} was closed; open it again to change it.")
            yield
        finally:
            self._writing.release()

    def checkpoint(self, directory: Path) -> None:
        with self._lock:
            found = self._chunks.values()
        for chunk in found:  # a checkpoint has no chunk that was not verified since the store was opened
            self._chunks.check(chunk)
        with self._changing():
            self._sealer.drain()
            with self._chunks.quiet:  # sampling goes on, appends and refreshes wait
                with self._lock:
                    arrays, counts = state_of(self._index)
                    chunks = {chunk.id: chunk for chunk in self._chunks.values()}
                    counters = self._counters | counts
                disk_checkpoint.save(
                    Path(directory), self._previous, self.files, arrays, chunks, self._settings(), counters,
                    self._chunks.lose,
                )  # fmt: skip

    def verify(self, directory: Path) -> None:
        self._load(Path(directory))

    def _load(self, directory: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        content, arrays = disk_checkpoint.load(directory, self.files, self._settings())
        self._index.require_room(arrays)
        return content, arrays

    def restore(self, directory: Path) -> None:
        """See `replay.store.Store`. OSError: the disk has no room for both states; the store is as it was."""
        with self._changing():
            content, arrays = self._load(Path(directory))
            chunks = self._restoring.unpack(Path(directory), content, arrays)
            self._wipe()
            self._restoring.move_in()
            with self._lock:
                self._index.load(arrays, content["counters"])
                self._counters = {key: int(content["counters"][key]) for key in self._counters}
                self._lifecycle.place(chunks)
                self._previous.follow(Path(directory), content["files"])
                self._sealer.adopt(chunks, keep=self._keep_seconds > 0)
                self._grown.notify_all()

    def clear(self) -> None:
        with self._changing():
            self._wipe()

    def _wipe(self) -> None:
        with self._lock:
            for chunk in self._chunks.values():
                chunk.dropped = True
            self._begin()
            self._sealer.submit("wipe")
        self._sealer.drain()

    def close(self) -> None:
        """Write what is in memory, and unlock the directory. OSError: not everything could be written."""
        with self._writing:
            if self._closed:
                return
            try:
                try:
                    self._sealer.drain()
                finally:
                    with self._lock:
                        ends = self._lifecycle.write_open()
                        self._sealer.manifest.end(ends, self._counts() | {"closed": 1})
            finally:
                self._closed = True
                self._sealer.manifest.close()
                self._unlock()
