"""Where the steps of sequences lie in a disk store's chunks, and copying them out, without the store's lock."""

from typing import NamedTuple

import numpy as np

from replay.disk import latent_rows
from replay.disk.chunk_files import Chunk
from replay.disk.chunk_table import ChunkTable
from replay.disk.compressed_rows import CompressedRows
from replay.indexing.index import Index


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


def copy_rows(chunks: ChunkTable, sequences: list[list[Part]], out: np.ndarray, where: np.ndarray) -> np.ndarray:
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


def copy_latents(
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
