"""A durable replay store in a directory: larger than memory, and there again when the process is gone."""

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from replay import disk_checkpoint, latent_rows
from replay.chunk_files import Chunk, ChunkFiles, DamagedError, default_chunk_length, sync_directory
from replay.chunk_table import ChunkTable
from replay.compressed_rows import CompressedRows
from replay.directory_lock import lock_directory
from replay.index import UNIFORM
from replay.indexed_store import IndexedStore
from replay.layout import Batch, views
from replay.manifest import FORMAT, Content, read_manifest
from replay.reopening import check_stored, take_over
from replay.sealing import Sealer
from replay.selection import SelectionConfig
from replay.step import Rows, Schema, check_rows
from replay.store import check_latents

_REDRAWS = 200


class Part(NamedTuple):
    """n columns of a sequence, from `column` on, lie in `rows` of a chunk from `place` on."""

    chunk: Chunk
    rows: np.ndarray | CompressedRows | None
    place: int
    column: int
    n: int

    def copy(self, out: np.ndarray) -> None:
        """Into its columns of out `[T, stride]`."""
        assert self.rows is not None, self.chunk.name
        out[self.column : self.column + self.n] = self.rows[self.place : self.place + self.n]


class DiskStore(IndexedStore):
    """See `replay.indexed_store.IndexedStore` (`capacity_gb` is a bound on the disk) and `replay.chunk_files`.

    A chunk is in memory while it fills, and until it is written, synced and listed in the manifest; twice `streams`
    chunks are there at most. A process that is killed loses what was in memory: the open chunk of each stream, and the
    full ones of the last moment. After close() nothing is lost. Latents are not synced: those that a crash tore are
    read as zeros and counted as `stale`.

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
        note: Callable[[str], None] = lambda line: None,
        timeout: float = 120.0,
    ) -> None:
        self.directory, self.note, self._timeout = Path(directory), note, timeout
        (self.directory / "chunks").mkdir(parents=True, exist_ok=True)
        self._unlock = weakref.finalize(self, os.close, lock_directory(self.directory))
        self._closed = False
        try:
            content = read_manifest(self.directory)
            stored = check_stored(self.directory, content, schema, chunk_length)
            room = min(capacity or 1 << 62, int((capacity_gb or 1e9) * 1e9 / (schema.nbytes + 8)))
            chunk_length = stored or chunk_length or default_chunk_length(schema, room, streams)
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
        self._index.released = self._release
        self._chunks = ChunkTable(self.files, self.slots, self._lose)
        self._previous = disk_checkpoint.Previous()

    def _reopen(self, content: Content | None, streams: int) -> None:
        store = {
            "format": FORMAT, "schema": self.schema.to_json(), "chunk_length": self.chunk_length,
            "length": self.length, "capacity": self._capacity, "max_gb": self.max_gb,
        }  # fmt: skip
        found, manifest = take_over(self.files, content or Content(), store, self.note)
        counts = content.counts if content else {}
        self._sealer = Sealer(
            self.files, manifest, waiting=max(8, streams), settled=lambda chunk: self._chunks.settle(chunk),
            sealed=self._sealed, evict=self._evict_for_room, counts=self._counts, note=self.note,
        )  # fmt: skip
        with self._lock:
            self._counters |= {key: counts.get(key, 0) for key in self._counters}
            self._index.created = self._index.evicted = counts.get("evicted", 0)
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
            self.note(
                f"Replay {self.directory}: {len(self._index)} sequences in {self._index.used_slots} chunks of "
                f"{len(self._index.streams)} streams are there again"
                + ("." if counts.get("closed") else "; it was not closed, steps that were in no full chunk are lost.")
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
        return new

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
                out.keys[left] = self._index.keys(starts, length)
                plan = self._plan(starts, length)
                self._counters["sampled"] += 0 if attempt else n * length
                self._counters["sampled_online"] += fresh
            whole = self._copy_rows(out, left, plan) & self._copy_latents(out, left, plan)
            left = left[~whole]
            if not len(left):
                return
        raise OSError(
            f"Replay {self.directory}: what was drawn was damaged or evicted, {_REDRAWS} times in a row; see the lines "
            "about its chunks, and delete the directory if they are lost."
        )

    def _plan(self, starts: np.ndarray, length: int) -> list[list[Part]]:
        """Where the steps of the sequences lie that start at addresses `[n]`. The lock is held."""
        slots, places = np.divmod(starts, self.chunk_length)
        addresses = self._index.addresses(starts, length) if (places > self.chunk_length - length).any() else None
        plan = []
        for i, (slot, place) in enumerate(zip(slots.tolist(), places.tolist(), strict=True)):
            parts, column = [], 0
            while True:
                chunk = self._chunks[slot]
                count = min(self.chunk_length - place, length - column)
                parts.append(Part(chunk, self._chunks.rows(chunk), place, column, count))
                column += count
                if column == length:
                    break
                assert addresses is not None
                slot, place = int(addresses[i, column]) // self.chunk_length, 0
            plan.append(parts)
        return plan

    def _copy_rows(self, out: Batch, where: np.ndarray, plan: list[list[Part]]) -> np.ndarray:
        """Copy sequences to their places in the batch; tells which are whole, bool `[n]`."""
        raw = out.rows.view(np.uint8).reshape(*out.rows.shape, -1)
        whole = np.ones(len(where), bool)
        for i, parts in enumerate(plan):
            if all(self._chunks.is_whole(part.chunk, part.rows) for part in parts):
                for part in parts:
                    part.copy(raw[where[i]])
            else:
                whole[i] = False
        return whole

    def _copy_latents(self, out: Batch, where: np.ndarray, plan: list[list[Part]]) -> np.ndarray:
        """Copy the latents of column 0, zeros where they are stale; tells which were not evicted meanwhile."""
        there = np.ones(len(where), bool)
        if not self.files.latent_stride:
            return there
        rows = np.empty((len(where), self.files.latent_stride), np.uint8)
        for i, parts in enumerate(plan):
            there[i] = self._chunks.read_latents(parts[0].chunk, parts[0].place, rows[i : i + 1])
        lost = 0
        for i in np.flatnonzero(latent_rows.stale(rows) & there).tolist():  # perhaps just being written
            lost += self._chunks.settled(plan[i][0].chunk, plan[i][0].place, rows[i : i + 1])
        if lost:
            with self._lock:
                self._counters["stale"] += lost
        raw = out.latents.view(np.uint8).reshape(len(out.latents), -1)
        raw[where] = rows[:, : raw.shape[1]]
        return there

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
                for address, row, count in self._index.spans(stream, first, length):
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
        with self._changing():
            self._sealer.drain()
            with self._lock, self._chunks.quiet:
                chunks = {chunk.id: chunk for chunk in self._chunks.values()}
                disk_checkpoint.save(
                    Path(directory), self._previous, self.files, self._index, chunks, self._settings(), self._counters
                )

    def restore(self, directory: Path) -> None:
        with self._changing():
            try:
                content, arrays = disk_checkpoint.load(Path(directory), self.files, self._settings())
                self._wipe()
                with self._lock:
                    self._index.load(arrays, content["counters"])
                    self._counters = {key: int(content["counters"][key]) for key in self._counters}
                    chunks = disk_checkpoint.unpack(Path(directory), self.files, content, arrays)
                    for chunk in chunks:
                        self._chunks.put(self._index.streams[chunk.stream].slots[chunk.number], chunk)
                    self._previous.follow(Path(directory), content["files"])
                    self._sealer.adopt([chunk for chunk in chunks if chunk.sealed and not chunk.damaged])
                    self._grown.notify_all()
            except BaseException:
                self._wipe()  # empty rather than half full
                raise

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
                    self.files.write_open(chunk, stop)
            sync_directory(self.files.directory)
            ends = {stream.id: stream.next for stream in streams.values() if not stream.slots}
            self._sealer.manifest.end(ends, self._counts() | {"closed": 1})
