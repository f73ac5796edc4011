"""The chunks of an open disk store: which slot of the index has which, and their content, in memory or in files."""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from replay.disk import latent_rows
from replay.disk.chunk_files import Chunk, ChunkFiles
from replay.disk.compressed_rows import CompressedRows
from replay.files.checked_files import DamagedError
from replay.step import Rows

_MAPS = 20_000  # chunks mapped at a time, two files each: the kernel allows a process 65,530 mappings by default


class ChunkTable:
    """Rows are read without a lock: stored rows never change, and evicted ones stay until their last reader is done.
    `lost` is called with chunks that turn out to be damaged; they stay in their slots."""

    def __init__(self, files: ChunkFiles, slots: int, lost: Callable[[Chunk, DamagedError], None]) -> None:
        self.files, self._lost = files, lost
        self._of: list[Chunk | None] = [None] * slots
        self.sealed = 0  # chunks that are in files
        self._mapped: deque[Chunk] = deque()
        self.quiet = threading.Lock()  # held while latents are written

    def __getitem__(self, slot: int) -> Chunk:
        chunk = self._of[slot]
        assert chunk is not None, slot
        return chunk

    def values(self) -> list[Chunk]:
        return [chunk for chunk in self._of if chunk]

    def put(self, slot: int, chunk: Chunk) -> None:
        self._of[slot] = chunk
        self.sealed += chunk.sealed

    def open(self, slot: int, stream: int, step: int) -> Chunk:
        """The chunk in memory that a stream's next step belongs to."""
        chunk = self._of[slot]
        if chunk is None:
            chunk = self._of[slot] = self.files.new(stream, step // self.files.chunk_length, step)
        return chunk

    def drop(self, slot: int) -> Chunk | None:
        """Forget and return an evicted chunk, None if nothing was ever written to it; the caller removes its files."""
        chunk, self._of[slot] = self._of[slot], None
        if chunk:
            chunk.dropped = True
            self.sealed -= chunk.sealed
            if chunk.sealed:
                chunk.rows = chunk.latents = None
        return chunk

    def settle(self, chunk: Chunk) -> None:
        """A chunk's latents are in their file: refresh them there from now on. Comes before its rows are published."""
        with self.quiet:
            if chunk.touched and not chunk.settled:
                assert chunk.latents is not None, chunk.name
                self.files.write_latents(chunk, 0, chunk.latents)
            chunk.latents, chunk.settled = None, True

    def seal(self, chunk: Chunk) -> None:
        """A chunk is safe in its files: release its memory."""
        chunk.rows, chunk.keys, chunk.sealed = None, {}, True
        self.sealed += not chunk.dropped

    def rows(self, chunk: Chunk) -> np.ndarray | CompressedRows | None:
        """Rows `[C, stride]`, mapped if needed; None if they are damaged."""
        if chunk.rows is None and not chunk.damaged:
            try:
                chunk.rows = self.files.map(chunk)
            except DamagedError as error:
                self.lose(chunk, error)
                return None
            self._mapped.append(chunk)
            if len(self._mapped) > _MAPS:
                oldest = self._mapped.popleft()
                oldest.rows = oldest.latents = None
        return chunk.rows

    def is_whole(self, chunk: Chunk, rows: np.ndarray | CompressedRows | None) -> bool:
        """Whether its rows are intact; they are verified when they are first used."""
        return self.check(chunk) and rows is not None

    def check(self, chunk: Chunk) -> bool:
        """Verify a chunk unless that was done since the store was opened; returns whether it is intact."""
        if not chunk.checked and not chunk.damaged:
            try:
                self.files.check(chunk)
                chunk.checked = True
            except DamagedError as error:
                if not chunk.dropped:  # else its file has gone
                    self.lose(chunk, error)
        return chunk.checked

    def lose(self, chunk: Chunk, error: DamagedError) -> None:
        if not chunk.damaged:
            chunk.damaged, chunk.rows = True, None
            self._lost(chunk, error)

    def read_latents(self, chunk: Chunk, place: int, out: np.ndarray) -> bool:
        """Fill rows `[n, stride]`, perhaps torn while they are being written; False: the chunk was evicted."""
        memory = chunk.latents
        if memory is None:
            with suppress(DamagedError):
                memory = self.files.map_latents(chunk)
                chunk.latents = memory if chunk.rows is not None else None  # both are released together
        if memory is not None:
            out[:] = memory[place : place + len(out)]
            return True
        return self.files.read_latents(chunk, place, out) or not chunk.dropped

    def settled(self, chunk: Chunk, place: int, out: np.ndarray) -> int:
        """read_latents() while nobody writes, with stale rows set to zeros; returns how many are."""
        with self.quiet:
            self.read_latents(chunk, place, out)
        return _blank(out)

    def write_latents(self, chunk: Chunk, place: int, rows: np.ndarray) -> int:
        """Replace rows `[n, stride]`; returns how many: 0 if the chunk was evicted or is damaged."""
        with self.quiet:
            return self._write(chunk, place, rows)

    def change_latents(self, chunk: Chunk, place: int, n: int, values: Rows) -> int:
        """Replace some of the keys `{key: [n ...]}` of n steps; returns how many."""
        rows = np.empty((n, self.files.latent_stride), np.uint8)
        with self.quiet:
            self.read_latents(chunk, place, rows)
            _blank(rows)
            keys = latent_rows.content(self.files.schema, rows)
            for key, value in values.items():
                keys[key][:] = value
            latent_rows.sign(rows)
            return self._write(chunk, place, rows)

    def _write(self, chunk: Chunk, place: int, rows: np.ndarray) -> int:
        if chunk.damaged:
            return 0
        if not chunk.settled:
            assert chunk.latents is not None, chunk.name
            chunk.latents[place : place + len(rows)] = rows
            chunk.touched = True
            return len(rows)
        try:
            self.files.write_latents(chunk, place, rows)
        except FileNotFoundError:
            if chunk.dropped:
                return 0
            self.files.make_latents(chunk)
            self.files.write_latents(chunk, place, rows)
        return len(rows)


def _blank(rows: np.ndarray) -> int:
    """Set stale rows to zeros; returns how many."""
    stale = latent_rows.stale(rows)
    rows[stale] = 0
    return int(stale.sum())
