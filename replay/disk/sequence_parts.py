"""Where the steps of sequences lie in a disk store's chunks, and copying them out, without the store's lock."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from replay.disk import latent_rows
from replay.disk.chunk_files import Chunk
from replay.disk.chunk_table import ChunkTable
from replay.disk.compressed_rows import CompressedRows
from replay.files.checked_files import DamagedError
from replay.indexing.index import Index
from replay.layout import Batch, views
from replay.step import Rows


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


def plan(chunks: ChunkTable, index: Index, starts: np.ndarray, length: int) -> list[list[Part]]:
    """The parts of the sequences that start at addresses `[n]`. The store's lock is held."""
    step = chunks.files.chunk_length
    slots, places = np.divmod(starts, step)
    addresses = index.addresses.of_sequences(starts, length) if (places > step - length).any() else None
    sequences = []
    for i, (slot, place) in enumerate(zip(slots.tolist(), places.tolist(), strict=True)):
        parts, column = [], 0
        while True:
            chunk = chunks[slot]
            count = min(step - place, length - column)
            parts.append(Part(chunk, chunks.rows(chunk), place, column, count))
            column += count
            if column == length:
                break
            assert addresses is not None
            slot, place = int(addresses[i, column]) // step, 0
        sequences.append(parts)
    return sequences


def copy_sequences(
    chunks: ChunkTable, sequences: list[list[Part]], out: Batch, where: np.ndarray
) -> tuple[np.ndarray, int]:
    """Copy sequences to rows `where` `[n]` of a batch, stale latents as zeros. Returns which were copied, bool `[n]`
    (not those that are damaged, or were evicted meanwhile), and how many latents were stale."""
    whole = _copy_rows(chunks, sequences, out.rows, where)
    there, stale = _copy_latents(chunks, sequences, out.latents, where)
    return whole & there, stale


def _copy_rows(chunks: ChunkTable, sequences: list[list[Part]], out: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Copy sequences to their places in the rows `[n T]` of a batch; tells which are whole, bool `[len(where)]`."""
    raw = out.view(np.uint8).reshape(*out.shape, -1)
    whole = np.ones(len(where), bool)
    for i, parts in enumerate(sequences):
        if all(chunks.is_whole(part.chunk, part.rows) for part in parts):
            for part in parts:
                part.copy(raw[where[i]])
        else:
            whole[i] = False
    return whole


def _copy_latents(
    chunks: ChunkTable, sequences: list[list[Part]], out: np.ndarray, where: np.ndarray
) -> tuple[np.ndarray, int]:
    """Copy the latents of column 0 to their places in those `[n]` of a batch, zeros where they are stale; tells which
    were not evicted meanwhile, bool `[len(where)]`, and how many were stale."""
    there = np.ones(len(where), bool)
    if not chunks.files.latent_stride:
        return there, 0
    rows = np.empty((len(where), chunks.files.latent_stride), np.uint8)
    for i, parts in enumerate(sequences):
        there[i] = chunks.read_latents(parts[0].chunk, parts[0].place, rows[i : i + 1])
    lost = 0
    for i in np.flatnonzero(latent_rows.stale(rows) & there).tolist():  # perhaps just being written
        lost += chunks.settled(sequences[i][0].chunk, sequences[i][0].place, rows[i : i + 1])
    raw = out.view(np.uint8).reshape(len(out), -1)
    raw[where] = rows[:, : raw.shape[1]]
    return there, lost


def find_parts(chunks: ChunkTable, spans: Iterable[tuple[int, int, int]]) -> list[Part]:
    """The parts of one sequence at these (address, row, count). The store's lock is held."""
    parts = []
    for address, row, count in spans:
        slot, place = divmod(address, chunks.files.chunk_length)
        parts.append(Part(chunks[slot], chunks.rows(chunks[slot]), place, row, count))
    return parts


def read_parts(chunks: ChunkTable, parts: list[Part], n: int) -> Rows:
    """Rows `[n, ...]` of a sequence, latents included; DamagedError names the chunk."""
    rows = np.empty((n, chunks.files.row_stride), np.uint8)
    latents = np.empty((n, chunks.files.latent_stride), np.uint8)
    for part in parts:
        if not chunks.is_whole(part.chunk, part.rows):
            raise DamagedError(part.chunk.name)
        part.copy(rows)
        if latents.size:
            chunks.settled(part.chunk, part.place, latents[part.column : part.column + part.n])
    schema = chunks.files.schema
    return views(rows.view(schema.row_dtype)[:, 0]) | latent_rows.content(schema, latents)


def find_places(
    chunks: ChunkTable, index: Index, starts: Iterable[tuple[int, int]], length: int
) -> list[tuple[Chunk, int, int, int]]:
    """(chunk, place, row, count) of the stored steps of sequences that start at these (stream, step), whose steps are
    rows `[n T]`. The store's lock is held."""
    places = []
    for i, (stream, first) in enumerate(starts):
        for address, row, count in index.addresses.spans(stream, first, length):
            slot, place = divmod(address, chunks.files.chunk_length)
            places.append((chunks[slot], place, i * length + row, count))
    return places


def write_latents(chunks: ChunkTable, places: Iterable[tuple[Chunk, int, int, int]], latents: Rows) -> int:
    """Refresh latents `{key: [n, T, ...]}` where find_places() found them; returns how many steps': not those of chunks
    that are damaged or were evicted meanwhile."""
    schema = chunks.files.schema
    flat = {key: value.reshape(-1, *value.shape[2:]) for key, value in latents.items()}
    whole = latents.keys() == schema.latents.keys()
    packed = latent_rows.packed(schema, flat, len(next(iter(flat.values())))) if whole else None
    written = 0
    for chunk, place, row, count in places:
        if packed is not None:
            written += chunks.write_latents(chunk, place, packed[row : row + count])
        else:
            values = {key: value[row : row + count] for key, value in flat.items()}
            written += chunks.change_latents(chunk, place, count, values)
    return written
