"""A replay checkpoint (replay/checkpoint.py) as something to read from, without loading it: chunks come by mapping."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from replay.checked_files import CheckedFiles
from replay.checkpoint import sealed_name, verified
from replay.chunk_files import DamagedError
from replay.episodes import MissingStepsError
from replay.reader import Finding
from replay.step import Rows, Schema


class Snapshot:
    """Streams and steps of one checkpointed store; see `replay.reader.Reader`.

    Steps in a damaged file are as good as missing, latents in one are zeros, as stale ones are.
    """

    kind = "checkpoint of replay in memory"

    def __init__(self, directory: Path) -> None:
        self.directory, self.where = Path(directory), str(directory)
        content = verified(self.directory)
        self.schema = Schema.from_json(content["schema"])
        self.length, self.chunk_length = (int(content["settings"][key]) for key in ("length", "chunk_length"))
        self.counters: dict[str, Any] = content["counters"]
        self.sizes: dict[str, dict[str, int]] = content["files"]
        self.files = CheckedFiles(self.directory, self.sizes)
        try:
            arrays = self.files.arrays("state.safetensors")
            self.written = (self.directory / "index.json").stat().st_mtime
        except (OSError, DamagedError) as error:
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
            until_step = position + until - place
            try:
                part = self._take(self._fields, (stream, chunk), self.schema.fields, place, until)
            except DamagedError:
                raise MissingStepsError(
                    f"Steps {position} to {until_step - 1} of stream {stream} in {self.directory} are damaged.",
                    position, (chunk + 1) * self.chunk_length,
                ) from None  # fmt: skip
            try:
                part |= self._take(self._latents, (stream, chunk), self.schema.latents, place, until)
            except (DamagedError, KeyError):
                fields = self.schema.latents.items()
                part |= {key: np.zeros((until - place, *field.shape), field.dtype) for key, field in fields}
            parts.append(part)
            position = until_step
        return {key: np.concatenate([part[key] for part in parts]) for key in self.schema.all}

    def facts(self) -> dict[str, float]:
        known = ("inserted", "evicted", "sampled", "sampled_online", "written_back")
        return {
            "items": self.items, "queue": self.waiting, "chunks": len(self._fields), "chunk_length": self.chunk_length,
            "gb": sum(file["bytes"] for file in self.sizes.values()) / 1e9, "newest": self.written,
            **{key: self.counters[key] for key in known if key in self.counters},
        }  # fmt: skip

    def health(self, verify: bool) -> Iterator[Finding]:
        gone = [chunk for chunk in self._fields if self.schema.latents and chunk not in self._latents]
        if gone:
            yield Finding(False, f"{len(gone)} of {len(self._fields)} chunks have no latents")
        begun = time.monotonic()
        if verify:
            self.files.check_all()
        bad = self.losses()
        yield from (Finding(False, line) for line in bad)
        if verify and not bad:
            took = time.monotonic() - begun
            yield Finding(True, f"{len(self.sizes)} files have the checksums they were written with ({took:.1f} s)")

    def losses(self) -> list[str]:
        return list(self.files.damaged.values())

    def close(self) -> None:
        self.files.close()

    def _take(
        self, places: dict[tuple[int, int], tuple[str, int]], chunk: tuple[int, int], keys: Any, start: int, stop: int
    ) -> Rows:
        if not keys:
            return {}
        name, row = places[chunk]
        return {key: self.files.part(name, key, row, slice(start, stop)) for key in keys}

    def _places(self, kind: str, chunks: list[tuple[int, int]]) -> dict[tuple[int, int], tuple[str, int]]:
        """File and row of chunks that were written in this order into `kind`-0, `kind`-1, ..., each but the last file
        as many as the first."""
        names: list[str] = []
        while (name := f"{kind}-{len(names)}.safetensors") in self.files:
            names.append(name)
        rows = [self.files.rows(name) for name in names]
        if None in rows:  # damaged beyond its header: by what the others have
            each = next((n for n in rows[:-1] if n), None)
            each = each or -(-(len(chunks) - (rows[-1] or 0)) // max(1, len(rows) - 1))
            rows = [n or each for n in rows]
        places = ((name, row) for name, n in zip(names, rows, strict=True) for row in range(n or 0))
        return dict(zip(chunks, places, strict=False))
