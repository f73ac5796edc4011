"""A durable replay store in a directory: larger than memory, and there again when the process is gone."""

import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from replay.config import SelectionConfig
from replay.counted import counted
from replay.disk import disk_checkpoint, latent_rows
from replay.disk.chunk_files import Chunk, ChunkFiles, Header, suitable_chunk_length
from replay.disk.chunk_table import ChunkTable
from replay.disk.directory_lock import lock_directory
from replay.disk.manifest import FORMAT, Content, read_manifest
from replay.disk.reopening import check_stored, take_over, what_is_lost
from replay.disk.sealing import Sealer
from replay.disk.sequence_parts import Part, copy_latents, copy_rows, plan
from replay.files.checked_files import DamagedError
from replay.files.whole_file import sync_directory
from replay.indexing.index import UNIFORM
from replay.indexing.index_state import state_of
from replay.indexing.indexed_store import IndexedStore
from replay.layout import Batch, views
from replay.step import Rows, Schema, check_rows
from replay.store import check_latents

_REDRAWS = 200
_ASIDE = "restoring"  # the folder of what is about to replace the chunks


class DiskStore(IndexedStore):
    """See `IndexedStore` (`capacity_gb` is a bound on the disk) and `replay.disk.chunk_files`.

    A chunk is in memory while it fills, and until it is written, synced and listed in the manifest; twice `streams`
    chunks are there at most. Those that still fill are kept every `keep_seconds`, while steps come in: written as they
    are, in the background. So a process that is killed loses the steps of the last `keep_seconds`, of how long the
    writing takes, and the latents of the chunks that filled; with 0 it loses these chunks. After close() nothing is
    lost. Latents are not synced: those that a crash tore are read as zeros and counted as `stale`.

    Opening reads no payload: a chunk is checked when it is first touched, and set aside when it is damaged; its
    sequences are then not drawn any more. Items come back in the order their chunks were sealed in, and none of them
    waits in the online queue. What happened is said through `note` in one line each. `chunk_length` 0 takes that of the
    directory, or a suitable one. Appending waits `timeout` seconds for a disk that is too slow. `compression` ("lz4")
    is that of chunks written from now on; bounds and `gb` count them as if they had none.
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
            raise ValueError(f"DiskStore keep_seconds is {keep_seconds}, allowed 0 (at close alone) or more; raise it.")
        self.directory, self.note, self._timeout = Path(directory), note, timeout
        self._keep_seconds, self._keep_at = keep_seconds, time.monotonic() + keep_seconds
        (self.directory / "chunks").mkdir(parents=True, exist_ok=True)
        self._unlock = weakref.finalize(self, os.close, lock_directory(self.directory))
        self._closed = False
        try:
            shutil.rmtree(self.directory / _ASIDE, ignore_errors=True)  # of a process that was killed
            content = read_manifest(self.directory)
            stored = check_stored(self.directory, content, schema, chunk_length)
            chunk_length = stored or chunk_length or suitable_chunk_length(schema, capacity, capacity_gb, streams)
            self.files = ChunkFiles(self.directory / "chunks", schema, chunk_length, compression)
            super().__init__(
                schema, length=length, capacity=capacity, capacity_gb=capacity_gb, chunk_length=chunk_length,
                streams=streams, online=online, selection=selection,
            )  # fmt: skip
            self._writing = threading.Lock()  # taken before _lock, by those who add or replace content
            self._reopen(content, streams)
        except BaseException:
            self._unlock()
            raise

    def _begin(self) -> None:
        super()._begin()
        self._counters["stale"] = 0
        self._index.addresses.released = self._release
        self._chunks = ChunkTable(self.files, self.slots, self._lose)
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
            sealed=self._sealed, copied=self._copied, evict=self._evict_for_room, counts=self._counts, note=self.note,
        )  # fmt: skip
        with self._lock:
            self._counters |= {key: counts.get(key, 0) for key in self._counters}
            self._index.ring.created = self._index.ring.evicted = counts.get("evicted", 0)
            self._index.online = False  # what is stored is no news
            for chunk, stop in found:
                self._chunks.put(self._index.adopt(*chunk.id, chunk.first, stop), chunk)
                if not chunk.sealed and stop == (chunk.number + 1) * self.chunk_length:
                    self._sealer.submit("seal", chunk)
            for stream, step in (content.ends if content else {}).items():
                if stream not in self._index.streams:
                    self._index.know(stream, step)
            self._index.online = self.online
        if content:
            chunks = self._index.addresses.used_slots
            self.note(
                f"Replay {self.directory} has {counted(len(self._index), 'sequence')} in "
                f"{counted(chunks, 'chunk')} of {counted(len(self._index.streams), 'stream')} again"
                + ("." if counts.get("closed") else f"; it was not closed, {what_is_lost(content)}.")
            )

    # --- steps in

    def append(self, stream: int, first_step_id: int, rows: Mapping[str, np.ndarray]) -> int:
        """See `replay.store.Store`; OSError, perhaps after some of the rows: full chunks cannot be written, the disk
        is full and nothing older is left to evict. TimeoutError: they are not written in time."""
        checked, n = check_rows(self._all, rows)
        latents, step = latent_rows.packed(self.schema, checked, n), self.chunk_length
        fields = {key: checked[key] for key in self.schema.fields}
        with self._changing():
            if n <= step:
                return self._append(stream, first_step_id, fields, latents)
            return sum(
                self._append(
                    stream,
                    first_step_id + i,
                    {key: value[i : i + step] for key, value in fields.items()},
                    latents[i : i + step],
                )
                for i in range(0, n, step)
            )

    def _append(self, stream: int, first: int, rows: Rows, latents: np.ndarray) -> int:
        """Add at most as many rows as fill one chunk."""
        self._sealer.wait_for_room(self._timeout)
        new, full = 0, []
        with self._lock:
            for address, row, count in self._index.extend(stream, first, len(latents)):
                slot, place = divmod(address, self.chunk_length)
                chunk = self._chunks.open(slot, stream, first + row)
                for key, value in rows.items():
                    chunk.keys[key][place : place + count] = value[row : row + count]
                assert chunk.latents is not None, chunk.name
                chunk.latents[place : place + count] = latents[row : row + count]
                chunk.serial = self._sealer.serial
                if place + count == self.chunk_length:
                    full.append(chunk)
                new += count
            for chunk in full:
                if not chunk.dropped:
                    chunk.filed = True
                    self._sealer.submit("seal", chunk)
            self._counters["inserted"] += new
            if new:
                self._grown.notify_all()
            if self._keep_seconds and time.monotonic() >= self._keep_at:
                self._sealer.keep([chunk for chunk in self._chunks.values() if self._stop(chunk) > chunk.kept])
                self._keep_at = time.monotonic() + self._keep_seconds
        return new

    def _stop(self, chunk: Chunk) -> int:
        """The step a chunk that fills goes on with, 0 for others. The lock is held."""
        if chunk.sealed or chunk.dropped:
            return 0
        stop = self._index.streams[chunk.stream].next
        return stop if stop < (chunk.number + 1) * self.chunk_length else 0

    def _copied(self, chunk: Chunk) -> tuple[Header, np.ndarray] | None:
        """What is to be kept of a chunk that fills, None if it does no more."""
        with self._lock:
            stop = self._stop(chunk)
            if stop <= chunk.kept:
                return None
            chunk.filed = True  # evicting it removes the file
            return self.files.copy(chunk, stop)

    def _release(self, slot: int) -> None:
        """The index, and with it the lock's holder, has evicted a chunk."""
        chunk = self._chunks.drop(slot)
        if chunk and chunk.filed:
            self._sealer.submit("drop", chunk)

    def _sealed(self, chunk: Chunk) -> None:
        with self._lock:
            self._chunks.seal(chunk)

    def _lose(self, chunk: Chunk, error: DamagedError) -> None:
        self._sealer.submit("lose", chunk)
        self.note(f"Replay {self.directory}: chunk set aside, its sequences are lost, {error}.")

    def _evict_for_room(self) -> bool:
        """Evict until a chunk has left that has files; False where none has."""
        with self._lock:
            before = self._chunks.sealed
            while before and self._chunks.sealed == before and self._index.evict_oldest():
                pass
            return self._chunks.sealed < before

    def _counts(self) -> dict[str, int]:
        return {**self._counters, "evicted": self._index.evicted}

    # --- sequences out

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
            whole = copy_rows(self._chunks, sequences, out.rows, left)
            there, stale = copy_latents(self._chunks, sequences, out.latents, left)
            if stale:
                with self._lock:
                    self._counters["stale"] += stale
            left = left[~(whole & there)]
            if not len(left):
                return
        raise OSError(
            f"Replay {self.directory}: what was drawn was damaged or evicted, {_REDRAWS} times in a row; see the lines "
            "about its chunks, and delete the directory if they are lost."
        )

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        rows = np.empty((n, self.files.row_stride), np.uint8)
        latents = np.empty((n, self.files.latent_stride), np.uint8)
        with self._lock:
            parts = []
            for address, row, count in self._spans(stream, first_step_id, n):
                slot, place = divmod(address, self.chunk_length)
                parts.append(Part(self._chunks[slot], self._chunks.rows(self._chunks[slot]), place, row, count))
        for part in parts:
            if not self._chunks.is_whole(part.chunk, part.rows):
                raise ValueError(
                    f"Steps {first_step_id} to {first_step_id + n - 1} of stream {stream} are not all in replay: chunk "
                    f"{part.chunk.name} is damaged; read other steps."
                )
            part.copy(rows)
            if latents.size:
                self._chunks.settled(part.chunk, part.place, latents[part.column : part.column + part.n])
        return views(rows.view(self.schema.row_dtype)[:, 0]) | latent_rows.content(self.schema, latents)

    def write_back(self, keys: np.ndarray, latents: Mapping[str, np.ndarray]) -> int:
        where, checked = check_latents(self.schema, keys, latents)
        n, length = keys.shape[:2]
        flat = {key: value.reshape(n * length, *value.shape[2:]) for key, value in checked.items()}
        whole = checked.keys() == self.schema.latents.keys()
        packed = latent_rows.packed(self.schema, flat, n * length) if whole else None
        written = 0
        with self._lock:
            if self._closed:
                raise ValueError(f"Replay {self.directory} was closed; open it again to write latents back.")
            spans = []
            for i, (stream, first) in enumerate(where):
                for address, row, count in self._index.addresses.spans(stream, first, length):
                    slot, place = divmod(address, self.chunk_length)
                    spans.append((self._chunks[slot], place, i * length + row, count))
        for chunk, place, row, count in spans:
            if packed is not None:
                written += self._chunks.write_latents(chunk, place, packed[row : row + count])
            else:
                values = {key: value[row : row + count] for key, value in flat.items()}
                written += self._chunks.change_latents(chunk, place, count, values)
        with self._lock:
            self._counters["written_back"] += written
        return written

    # --- its life

    @contextmanager
    def _changing(self) -> Iterator[None]:
        if not self._writing.acquire(timeout=self._timeout):
            raise TimeoutError(
                f"Replay {self.directory} was busy for {self._timeout:g} s with what others append, save or restore."
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
        for chunk in found:  # no checkpoint holds what nobody has looked at since the store was opened
            self._chunks.check(chunk)
        with self._changing():
            self._sealer.drain()
            with self._chunks.quiet:  # sampling goes on, whoever adds or refreshes waits
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
        """See `replay.store.Store`. OSError where the disk has no room for both states: the store is as it was."""
        with self._changing():
            content, arrays = self._load(Path(directory))
            aside = ChunkFiles(self.directory / _ASIDE, self.schema, self.chunk_length)
            aside.directory.mkdir()
            try:  # whatever can fail, before the old state goes
                chunks = disk_checkpoint.unpack(Path(directory), aside, content, arrays)
            except BaseException as error:
                shutil.rmtree(aside.directory, ignore_errors=True)
                if not isinstance(error, OSError):
                    raise
                raise OSError(
                    error.errno,
                    f"{error.strerror}: replay {self.directory} cannot take in {directory} beside what it holds, which "
                    "stays; free some space",
                ) from error
            self._wipe()
            for path in aside.directory.iterdir():
                path.rename(self.files.directory / path.name)
            aside.directory.rmdir()
            with self._lock:
                self._index.load(arrays, content["counters"])
                self._counters = {key: int(content["counters"][key]) for key in self._counters}
                for chunk in chunks:
                    self._chunks.put(self._index.streams[chunk.stream].slots[chunk.number], chunk)
                self._previous.follow(Path(directory), content["files"])
                self._sealer.adopt([chunk for chunk in chunks if chunk.sealed and not chunk.damaged])
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
        """Write what is in memory, and give the directory free. OSError: it could not all be written."""
        with self._writing:
            if self._closed:
                return
            try:
                try:
                    self._sealer.drain()
                finally:
                    self._write_open()
            finally:
                self._closed = True
                self._sealer.manifest.close()
                self._unlock()

    def _write_open(self) -> None:
        with self._lock:
            streams = self._index.streams
            for chunk in self._chunks.values():
                if not chunk.sealed:
                    stop = min((chunk.number + 1) * self.chunk_length, streams[chunk.stream].next)
                    self.files.write_open(*self.files.copy(chunk, stop))
            sync_directory(self.files.directory)
            ends = {stream.id: stream.next for stream in streams.values() if not stream.slots}
            self._sealer.manifest.end(ends, self._counts() | {"closed": 1})
