"""The memory-copy ceiling: what no replay in this process can beat."""

import os
from collections.abc import Callable
from functools import partial

import numpy as np

from replay.layout import Batch, new_batch, pack, unpack
from replay.reserved import reserve
from replay.store import Block
from tests.benchmarks.replay_systems import BATCH, BLOCK, LENGTH, VECTORS, Job, System, resident
from tests.benchmarks.replay_work import Content

_BYTE = np.dtype(np.uint8)


class Ceiling(System):
    """One copy a sequence, at random places of an array much larger than the cache, rows side by side.

    It copies what a batch holds: rows of all columns, latents of the first; `whole_rows` copies latents of all columns.
    Array and batches come from the same allocators as the stores'. Places are drawn, and keys filled in, untimed.
    """

    def __init__(self, content: Content, steps: int) -> None:
        super().__init__("ceiling", self, content, kept=partial(resident, os.getpid()))
        self.each = steps // len(content.streams)  # rows of one stream: a ring
        assert self.each % (4 * BLOCK) == 0, f"{self.each} steps a stream are not whole blocks"
        self._row, self._latent = content.schema.row_dtype, content.schema.latent_dtype
        rows = len(content.streams) * self.each
        self._rows, self._latents = (reserve((rows * t.itemsize,), _BYTE) for t in (self._row, self._latent))
        self._reused = new_batch(content.schema, BATCH, LENGTH)

    def samplers(self) -> dict[str, Callable[[], Job]]:
        return {"fresh": self.fresh, "reused": self.reused, "whole_rows": self.whole_rows}

    def fresh(self) -> Job:
        places, keys = self._draw()
        return Job(lambda: self._copy(new_batch(self.content.schema, BATCH, LENGTH), places), 1, self._checked(keys))

    def reused(self) -> Job:
        places, keys = self._draw()
        return Job(lambda: self._copy(self._reused, places), 1, self._checked(keys))

    def whole_rows(self) -> Job:
        """As the figures of peers were taken: as many bytes as if every column's latents were copied."""
        stride = self._row.itemsize + self._latent.itemsize
        starts = (self.rng.integers(len(self._rows) // stride - LENGTH, size=BATCH) * stride).tolist()

        def run() -> np.ndarray:
            out = np.empty((BATCH, LENGTH * stride), _BYTE)
            for i, start in enumerate(starts):
                out[i] = self._rows[start : start + LENGTH * stride]
            return out

        def check(out: np.ndarray) -> None:
            for i, start in enumerate(starts):
                assert (out[i] == self._rows[start : start + LENGTH * stride]).all(), "memory copies wrongly"

        return Job(run, 1, check)

    def add(self) -> Job:
        return self.append()

    def append(self) -> Job:
        """One copy a block, of rows that lie packed."""
        work = [copy for blocks in self.content.blocks(VECTORS, BLOCK) for copy in self._packed(blocks)]
        return Job(lambda: self._write(work), VECTORS * len(self.content.streams))

    def append_checked(self, blocks: list[Block]) -> None:
        self._write(self._packed(blocks))

    def refresh(self) -> Job:
        """Copies of a batch's latents, one a sequence."""
        places, keys = self._draw()
        latents = self.content.refreshed(keys)
        each = [
            pack(self._latent, {key: value[i] for key, value in latents.items()}, LENGTH).view(_BYTE)
            for i in range(BATCH)
        ]

        def run() -> None:
            for place, rows in zip(places, each, strict=True):
                start = place * self._latent.itemsize
                self._latents[start : start + len(rows)] = rows

        return Job(run, 1)

    def _write(self, blocks: list[tuple[int, np.ndarray, int, np.ndarray]]) -> None:
        for start, rows, first, latents in blocks:
            self._rows[start : start + len(rows)] = rows
            self._latents[first : first + len(latents)] = latents

    def _copy(self, out: Batch, places: list[int]) -> Batch:
        stride, latent = self._row.itemsize, self._latent.itemsize
        rows = out.rows.view(_BYTE)
        latents = out.latents.view(_BYTE).reshape(BATCH, latent)
        for i, place in enumerate(places):
            rows[i] = self._rows[place * stride : (place + LENGTH) * stride]
            latents[i] = self._latents[place * latent : (place + 1) * latent]
        return out

    def _checked(self, keys: np.ndarray) -> Callable[[Batch], None]:
        def check(batch: Batch) -> None:
            batch.keys[:] = keys
            self.content.check(unpack(batch))

        return check

    def _draw(self) -> tuple[list[int], np.ndarray]:
        """Places of first rows, and keys `[B T 2]`; no sequence runs over the end of a ring, or over where it began."""
        head, places = self.content.next % self.each, list[int]()
        keys = np.empty((BATCH, LENGTH, 2), np.int64)
        while len(places) < BATCH:
            slot = int(self.rng.integers(len(self.content.streams)))
            place = int(self.rng.integers(self.each - LENGTH + 1))
            if not place < head < place + LENGTH:
                keys[len(places), :, 0] = self.content.streams[slot]
                first = self.content.next - head + place - (self.each if place >= head else 0)
                keys[len(places), :, 1] = np.arange(first, first + LENGTH)
                places.append(slot * self.each + place)
        return places, keys

    def _packed(self, blocks: list[Block]) -> list[tuple[int, np.ndarray, int, np.ndarray]]:
        packed = []
        for slot, (_, first, rows) in enumerate(blocks):
            place = slot * self.each + first % self.each
            n = len(rows["is_first"])
            row, latent = (pack(t, rows, n).view(_BYTE) for t in (self._row, self._latent))
            packed.append((place * self._row.itemsize, row, place * self._latent.itemsize, latent))
        return packed
