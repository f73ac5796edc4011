"""A replay checkpoint (replay/checkpoint.py) as something to read from, without loading it: chunks come by mapping."""

import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from replay.checkpoint import sealed_name, verified
from replay.reader import Finding
from replay.step import Rows, Schema

_BLOCK = 8 << 20


class Snapshot:
    """Streams and steps of one checkpointed store; see `replay.reader.Reader`.

    All files are open from the start, so that a run that prunes its old checkpoints meanwhile takes nothing away.
    """

    kind = "checkpoint of replay in memory"

    def __init__(self, directory: Path) -> None:
        self.directory, self.where = Path(directory), str(directory)
        content = verified(self.directory)
        self.schema = Schema.from_json(content["schema"])
        self.length, self.chunk_length = (int(content["settings"][key]) for key in ("length", "chunk_length"))
        self.counters: dict[str, Any] = content["counters"]
        self.files: dict[str, dict[str, int]] = content["files"]
        try:
            self._open = {name: safe_open(self.directory / name, "numpy") for name in self.files}
            state = self._open["state.safetensors"]
            arrays = {key: state.get_tensor(key) for key in state.keys()}  # noqa: SIM118
            self.written = (self.directory / "index.json").stat().st_mtime
        except (OSError, SafetensorError, KeyError) as error:
            raise ValueError(f"Replay checkpoint {self.directory} is damaged: {error}.") from error
        self.items, self.waiting = len(arrays["items"]), len(arrays["queue"])
        self._begin = {id: (begin, next) for id, next, begin, _, _ in arrays["streams"].tolist()}
        chunks = [(stream, chunk) for stream, chunk in arrays["chunks"].tolist()]
        sealed = {(s, c): (sealed_name(number), row) for s, c, number, row in arrays["sealed"].tolist()}
        self._fields = self._places("open", [c for c in chunks if c not in sealed]) | sealed
        self._latents = self._places("latents", chunks)

    def streams(self) -> dict[int, range]:
        first: dict[int, int] = {}
        for stream, chunk in sorted(self._fields):
            first.setdefault(stream, chunk * self.chunk_length)
        return {id: range(max(begin, first.get(id, next)), next) for id, (begin, next) in self._begin.items()}

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        stored = self.streams().get(stream, range(0))
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
            parts.append(self._take(self._fields, (stream, chunk), self.schema.fields, place, until))
            parts[-1] |= self._take(self._latents, (stream, chunk), self.schema.latents, place, until)
            position += until - place
        return {key: np.concatenate([part[key] for part in parts]) for key in self.schema.all}

    def facts(self) -> dict[str, float]:
        known = ("inserted", "evicted", "sampled", "sampled_online", "written_back")
        return {
            "items": self.items, "queue": self.waiting, "chunks": len(self._fields), "chunk_length": self.chunk_length,
            "gb": sum(file["bytes"] for file in self.files.values()) / 1e9, "newest": self.written,
            **{key: self.counters[key] for key in known if key in self.counters},
        }  # fmt: skip

    def health(self, verify: bool) -> Iterator[Finding]:
        gone = [chunk for chunk in self._fields if self.schema.latents and chunk not in self._latents]
        if gone:
            yield Finding(False, f"{len(gone)} of {len(self._fields)} chunks have no latents")
        if not verify:
            return
        begun, bad = time.monotonic(), list(self.damage())
        if not self.directory.exists():
            yield Finding(True, "a newer checkpoint of the run has replaced this one: it was not checked")
            return
        yield from (Finding(False, line) for line in bad)
        if not bad:
            took = time.monotonic() - begun
            yield Finding(True, f"{len(self.files)} files have the checksums they were written with ({took:.1f} s)")

    def close(self) -> None:
        self._open.clear()

    def damage(self) -> Iterator[str]:
        """Reads every file; one line for each that is not what was written."""
        for name, expected in self.files.items():
            size = crc = 0
            try:
                with open(self.directory / name, "rb") as file:
                    while block := file.read(_BLOCK):
                        size, crc = size + len(block), zlib.crc32(block, crc)
            except OSError as error:
                yield f"{name} cannot be read: {error.strerror or error}"
                continue
            if (size, crc) != (expected["bytes"], expected["crc32"]):
                yield f"{name} has {size} bytes and CRC-32 {crc}, expected {expected['bytes']} and {expected['crc32']}"

    def _take(
        self, places: dict[tuple[int, int], tuple[str, int]], chunk: tuple[int, int], keys: Any, start: int, stop: int
    ) -> Rows:
        if not keys:
            return {}
        name, row = places[chunk]
        return {key: self._open[name].get_slice(key)[row, start:stop] for key in keys}

    def _places(self, kind: str, chunks: list[tuple[int, int]]) -> dict[tuple[int, int], tuple[str, int]]:
        """File and row of chunks that were written in this order into `kind`-0, `kind`-1, ..."""
        places: dict[tuple[int, int], tuple[str, int]] = {}
        number, left = 0, iter(chunks)
        while (name := f"{kind}-{number}.safetensors") in self._open:
            file = self._open[name]
            rows = file.get_slice(next(iter(file.keys()))).get_shape()[0]
            places |= {chunk: (name, row) for row, chunk in zip(range(rows), left, strict=False)}
            number += 1
        return places
