"""Reads a memory store's checkpoint without loading it: its files are mapped into memory."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from replay.counted import counted
from replay.files.checked_files import CheckedFiles, DamagedError
from replay.files.checkpoint import verified
from replay.memory.checkpoint_contents import FORMATS, SPANS, STATE, Contents
from replay.reading.episodes import MissingStepsError
from replay.reading.reader import Finding
from replay.step import Field, Rows, Schema


class CheckpointReader:
    """Streams and steps of one checkpointed store; see `replay.reading.reader.Reader`.

    Steps in a damaged file count as missing; latents in one are read as zeros, as stale ones are.
    """

    kind = "checkpoint of replay in memory"

    def __init__(self, directory: Path) -> None:
        self.directory, self.where = Path(directory), str(directory)
        content = verified(self.directory, *FORMATS)
        self.schema = Schema.from_json(content["schema"])
        self.length, self.chunk_length = (int(content["settings"][key]) for key in ("length", "chunk_length"))
        self.counters: dict[str, Any] = content["counters"]
        self.sizes: dict[str, dict[str, int]] = content["files"]
        self.files = CheckedFiles(self.directory, self.sizes)
        try:
            arrays = self.files.arrays(STATE)
            self.written = (self.directory / "index.json").stat().st_mtime
        except (OSError, DamagedError) as error:
            raise ValueError(f"Replay checkpoint {self.directory} is damaged: {error}.") from error
        self.items = int(self.counters["created"]) - int(self.counters["evicted"])
        self.waiting = len(arrays["queue"])
        self._chunks = list(map(tuple, arrays["chunks"].tolist()))
        first: dict[int, int] = {}
        for stream, chunk in self._chunks:
            first.setdefault(stream, chunk * self.chunk_length)
        self._streams = {
            id: range(max(begin, first.get(id, next)), next) for id, next, begin, _, _ in arrays["streams"].tolist()
        }
        self._contents = Contents(content, arrays)
        self._fields, self._latents = self._places("rows"), self._places("latents")
        for file in (*self._contents.of("items"), *self._contents.of("priorities")):
            self.files.is_whole(file.name)  # not read here, but verified all the same

    def streams(self) -> dict[int, range]:
        return dict(self._streams)

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        stored = self._streams.get(stream, range(0))
        if n < 1 or not stored.start <= first_step_id <= first_step_id + n <= stored.stop:
            raise ValueError(
                f"Steps {first_step_id} to {first_step_id + n - 1} of stream {stream} are not all in {self.directory}: "
                f"it has {stored.start} to {stored.stop - 1}."
            )
        parts: list[Rows] = []
        position, stop = first_step_id, first_step_id + n
        while position < stop:
            chunk, place = divmod(position, self.chunk_length)
            until = min(self.chunk_length, place + stop - position)
            rows, latents = (places[stream, chunk][place:until] for places in (self._fields, self._latents))
            lost = self._lost(rows)
            if lost.any():
                first = position + int(lost.argmax())
                last = first + int(np.append(~lost[first - position :], True).argmax())
                raise MissingStepsError(
                    f"Steps {first} to {last - 1} of stream {stream} in {self.directory} are damaged.", first, last
                )
            parts.append(self._read(self.schema.fields, rows) | self._read(self.schema.latents, latents))
            position += until - place
        return {key: np.concatenate([part[key] for part in parts]) for key in self.schema.all}

    def facts(self) -> dict[str, float]:
        known = ("inserted", "evicted", "sampled", "sampled_online", "written_back")
        return {
            "items": self.items, "queue": self.waiting, "chunks": len(self._chunks), "chunk_length": self.chunk_length,
            "gb": sum(file["bytes"] for file in self.sizes.values()) / 1e9, "newest": self.written,
            **{key: self.counters[key] for key in known if key in self.counters},
        }  # fmt: skip

    def health(self, verify: bool) -> Iterator[Finding]:
        gone = [chunk for chunk in self._chunks if self.schema.latents and chunk not in self._latents]
        if gone:
            yield Finding(False, f"chunks without latents: {len(gone)} of {len(self._chunks)}")
        begun = time.monotonic()
        if verify:
            self.files.check_all()
        bad = self.losses()
        yield from (Finding(False, line) for line in bad)
        if verify and not bad:
            took = time.monotonic() - begun
            yield Finding(True, f"checksums match: {counted(len(self.sizes), 'file')} ({took:.1f} s)")

    def losses(self) -> list[str]:
        return list(self.files.damaged.values())

    def refresh(self) -> None:
        if not (self.directory / "index.json").exists():  # a checkpoint never changes, but a newer one may replace it
            raise ValueError(f"{self.directory} is gone.")

    def close(self) -> None:
        self.files.close()

    def _lost(self, where: np.ndarray) -> np.ndarray:
        """Which of these steps are in no intact file."""
        lost: np.ndarray = where[:, 0] < 0
        for number in np.unique(where[~lost, 0]).tolist():
            if not self.files.is_whole(self._contents.files[number].name):
                lost |= where[:, 0] == number
        return lost

    def _read(self, fields: Mapping[str, Field], where: np.ndarray) -> Rows:
        """Steps, zeros for those that are lost; as many at a time as lie side by side."""
        out = {key: np.zeros((len(where), *field.shape), field.dtype) for key, field in fields.items()}
        there = ~self._lost(where)
        apart = (np.diff(where[:, 0]) != 0) | (np.diff(where[:, 1]) != 1) | (there[1:] != there[:-1])
        edges = [0, *(np.flatnonzero(apart) + 1).tolist(), len(where)]
        for first, stop in zip(edges[:-1], edges[1:], strict=True):
            file, row = where[first].tolist()
            at: tuple[int | slice, ...] = (slice(row, row + stop - first),)
            if self._contents.in_chunks:
                at = (row // self.chunk_length, slice(row % self.chunk_length, row % self.chunk_length + stop - first))
            for key, value in out.items() if there[first] else ():
                value[first:stop] = self.files.part(self._contents.files[file].name, key, *at)
        return out

    def _places(self, kind: str) -> defaultdict[tuple[int, int], np.ndarray]:
        """Number of the file, -1 for none, and row `[C 2]` of the steps of each chunk."""
        places: defaultdict[tuple[int, int], np.ndarray] = defaultdict(lambda: np.full((self.chunk_length, 2), -1))
        for file in self._contents.of(kind):
            if self._contents.in_chunks:
                spans = self._contents.chunks(file, self.files.rows(file.name))
            else:
                spans = self.files.unchecked(file.name, SPANS, self.sizes[file.name]["spans_crc32"])
            row, number = 0, self._contents.files.index(file)
            for stream, first, n in spans.tolist():
                chunk, place = divmod(first, self.chunk_length)
                places[stream, chunk][place : place + n] = np.stack([np.full(n, number), np.arange(row, row + n)], 1)
                row += n
        return places
