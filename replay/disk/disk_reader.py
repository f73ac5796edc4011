"""Reads a disk replay, whether a run is using it or not: nothing is locked, written or repaired."""

import fcntl
import os
import re
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from replay.counted import counted
from replay.disk import latent_rows
from replay.disk.chunk_files import HEADER_BYTES, Chunk, ChunkFiles, Header
from replay.disk.compressed_rows import CompressedRows, require
from replay.disk.manifest import FORMAT, NAME, Content, read_manifest
from replay.disk.reopening import what_is_lost
from replay.files.checked_files import DamagedError
from replay.layout import views
from replay.reading.episodes import MissingStepsError
from replay.reading.reader import Finding
from replay.step import Rows, Schema

_NAME = re.compile(r"(\d+)-(\d+)\.(rows|open)")
_MAPS = 64  # chunks mapped at a time
_SAID = 10  # damaged chunks listed one by one


class Piece(NamedTuple):
    """Steps first .. stop - 1 of a stream in one file; `chunk` holds them if it is not `sealed`."""

    first: int
    stop: int
    number: int
    chunk: Chunk


class DiskReader:
    """The streams of one directory of `replay.disk.disk_store`; see `replay.reading.reader.Reader`.

    Chunks are verified when they are first read; a damaged one counts as missing. While a run uses the directory, the
    newest steps of its open chunks are in that run's memory only. ValueError: there is no disk replay.
    """

    kind = "replay on disk"

    def __init__(self, directory: Path) -> None:
        self.directory, self.where = Path(directory), str(directory)
        content, store = self._manifest()
        self.schema, self.length = Schema.from_json(store["schema"]), int(store["length"])
        self.chunk_length, self.capacity = int(store["chunk_length"]), int(store["capacity"])
        self.max_gb = float(store["max_gb"])
        self.files = ChunkFiles(self.directory / "chunks", self.schema, self.chunk_length)
        self.holder = lock_holder(self.directory)
        self.content, self.stale = content, -1
        self._checked: set[tuple[int, int]] = set()
        self._maps: OrderedDict[tuple[int, int], np.ndarray | CompressedRows] = OrderedDict()
        self._unreadable: list[str] = []
        self._damaged: dict[tuple[int, int], str] = {}
        self._pieces = self._find(content)

    def streams(self) -> dict[int, range]:
        return {stream: range(pieces[0].first, pieces[-1].stop) for stream, pieces in self._pieces.items()}

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        rows = np.empty((n, self.files.row_stride), np.uint8)
        latents = np.empty((n, self.files.latent_stride), np.uint8)
        stored = self.streams().get(stream, range(0))
        stop = first_step_id + n
        if n < 1 or not stored.start <= first_step_id < stop <= stored.stop:
            raise ValueError(
                f"Steps {first_step_id} to {stop - 1} of stream {stream} are not all in {self.directory}: it has "
                f"{stored.start} to {stored.stop - 1}."
            )
        position = first_step_id
        for piece in self._pieces[stream]:
            if piece.stop <= position or position == stop:
                continue
            if position < piece.first:
                raise self._missing(stream, position, piece.first)
            try:
                source = self._rows(stream, piece)
            except DamagedError:
                raise self._missing(stream, position, piece.stop) from None
            place, count = position - piece.number * self.chunk_length, min(piece.stop, stop) - position
            here = slice(position - first_step_id, position - first_step_id + count)
            rows[here] = source[place : place + count]
            self._read_latents(stream, piece, place, latents[here])
            position += count
        latents[latent_rows.stale(latents)] = 0
        return views(rows.view(self.schema.row_dtype)[:, 0]) | latent_rows.content(self.schema, latents)

    def facts(self) -> dict[str, float]:
        sizes, times = [], []
        for folder in (self.directory / "chunks", self.directory):
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_file() and (folder.name == "chunks" or entry.name == NAME):
                        with suppress(FileNotFoundError):  # evicted meanwhile
                            status = entry.stat()
                            sizes.append(status.st_size)
                            times.append(status.st_mtime)
        items = sum(max(0, len(steps) - self.length + 1) for steps in self.streams().values())
        known = ("inserted", "evicted", "sampled", "sampled_online", "written_back")
        facts: dict[str, float] = {
            "items": items, "chunks": sum(map(len, self._pieces.values())), "chunk_length": self.chunk_length,
            "gb": sum(sizes) / 1e9, "max_gb": self.max_gb, "capacity": self.capacity,
            "newest": max(times, default=0.0), "oldest": min(times, default=0.0),
            **{key: self.content.counts[key] for key in known if key in self.content.counts},
        }  # fmt: skip
        return facts | ({"stale": self.stale} if self.stale >= 0 else {})

    def health(self, verify: bool) -> Iterator[Finding]:
        if self.holder:
            yield Finding(
                None, f"process {self.holder} is using it: the newest steps of its open chunks are in its memory only"
            )
        elif not self.content.counts.get("closed"):
            yield Finding(None, f"it was not closed: {what_is_lost(self.content)}")
        if self.content.broken:
            yield Finding(
                None,
                f"{self.content.broken} of {self.content.lines} lines of the manifest are torn or damaged; the chunk "
                "files' own headers are used instead",
            )
        notes = list(self._verify()) if verify else []
        yield from (Finding(False, text) for text in self.losses())
        yield from notes

    def losses(self) -> list[str]:
        out = list(self._unreadable)
        aside = sorted(path.name for path in (self.directory / "chunks").glob("*.damaged"))
        if aside:
            out.append(f"damaged and set aside: {counted(len(aside), 'chunk')}, such as {aside[0]}")
        holes = sum(
            after.first - before.stop
            for pieces in self._pieces.values() for before, after in zip(pieces, pieces[1:], strict=False)
        )  # fmt: skip
        if holes:
            out.append(f"missing in the middle of streams: {counted(holes, 'step')}")
        bad = list(self._damaged.values())
        more = [f"and {counted(len(bad) - _SAID, 'more damaged chunk')}"] if len(bad) > _SAID else []
        return out + bad[:_SAID] + more

    def refresh(self) -> None:
        holder = lock_holder(self.directory)
        if self.holder or holder:
            self.holder, self.content = holder, self._manifest()[0]
            self._unreadable.clear()
            self._pieces = self._find(self.content)

    def close(self) -> None:
        self._maps.clear()

    def _manifest(self) -> tuple[Content, Mapping[str, Any]]:
        content = read_manifest(self.directory)
        if content is None or content.store is None or content.store.get("format") != FORMAT:
            chunks = (self.directory / "chunks").is_dir()
            remedy = "; the next run that opens it writes a new one from its chunk files" if chunks else ""
            raise ValueError(f"{self.directory} has no readable manifest of a disk replay ({FORMAT}){remedy}.")
        return content, content.store

    def _verify(self) -> Iterator[Finding]:
        begun, good, rows, stale = time.monotonic(), 0, 0, 0
        for stream, pieces in self._pieces.items():
            for piece in pieces:
                count = piece.stop - piece.first
                try:
                    self._rows(stream, piece)
                except DamagedError:
                    continue
                good, rows = good + 1, rows + count
                latents = np.empty((count, self.files.latent_stride), np.uint8)
                self._read_latents(stream, piece, piece.first - piece.number * self.chunk_length, latents)
                stale += int(latent_rows.stale(latents).sum())
        self.stale = stale
        yield Finding(True, f"checksums match: {counted(good, 'chunk')} ({time.monotonic() - begun:.1f} s)")
        if self.schema.latents:
            note = f"stale latents: {stale:,} of {rows:,}, read as zeros until the learner refreshes them"
            yield Finding(None, note) if stale else Finding(True, f"intact latents: {rows:,} of {rows:,}")

    def _rows(self, stream: int, piece: Piece) -> np.ndarray | CompressedRows:
        """All rows `[C, stride]` of a piece's chunk; DamagedError."""
        if not piece.chunk.sealed:
            assert piece.chunk.rows is not None
            return piece.chunk.rows
        id = (stream, piece.number)
        if id not in self._maps:
            try:
                rows = self.files.map(piece.chunk)
                if id not in self._checked:
                    self.files.check(piece.chunk)
            except DamagedError as error:
                if self.holder is None or (self.files.directory / f"{piece.chunk.name}.rows").exists():
                    self._damaged[id] = str(error)  # else evicted meanwhile
                raise
            self._checked.add(id)
            self._maps[id] = rows
            if len(self._maps) > _MAPS:
                self._maps.popitem(last=False)
        return self._maps[id]

    def _read_latents(self, stream: int, piece: Piece, place: int, out: np.ndarray) -> None:
        if not piece.chunk.sealed:
            assert piece.chunk.latents is not None
            out[:] = piece.chunk.latents[place : place + len(out)]
        else:
            self.files.read_latents(piece.chunk, place, out)

    def _find(self, content: Content) -> dict[int, list[Piece]]:
        """The pieces of each stream in order, as opening the store would find them."""
        names: dict[str, dict[tuple[int, int], str]] = {"rows": {}, "open": {}}
        with os.scandir(self.directory / "chunks") as entries:
            for entry in entries:
                match = _NAME.fullmatch(entry.name)
                if match and (id := (int(match[1]), int(match[2]))) not in content.gone:
                    names[match[3]][id] = entry.name
        if not self.holder and (lost := [id for id in content.chunks if id not in names["rows"]]):
            self._unreadable.append(f"{len(lost)} chunk files are missing, such as {lost[0][0]}-{lost[0][1]}.rows")
        pieces: dict[int, list[Piece]] = {}
        for (stream, number), name in names["rows"].items():
            try:
                header = content.chunks.get((stream, number)) or self._header(name, (stream, number))
                size = HEADER_BYTES + header.nbytes
                if (there := (self.files.directory / name).stat().st_size) != size:
                    raise DamagedError(f"{name}: it has {there} bytes, expected {size}")
            except FileNotFoundError:  # evicted meanwhile
                continue
            except DamagedError as error:
                self._unreadable.append(str(error))
                continue
            if header.nbytes < self.files.row_bytes:
                require()
            pieces.setdefault(stream, []).append(Piece(header.first, header.stop, number, self.files.sealed(header)))
        for (stream, number), name in names["open"].items():
            if number <= max((piece.number for piece in pieces.get(stream, ())), default=-1):
                continue
            try:
                chunk, stop = self.files.read_open(name)
            except FileNotFoundError:
                continue
            except DamagedError as error:
                self._unreadable.append(str(error))
                continue
            pieces.setdefault(stream, []).append(Piece(chunk.first, stop, number, chunk))
        return {stream: self._newest(sorted(some)) for stream, some in sorted(pieces.items())}

    def _newest(self, pieces: list[Piece]) -> list[Piece]:
        """The newest pieces, back to where the stream began anew after its steps were dropped: inside a chunk."""
        begin = len(pieces) - 1
        while begin and not (pieces[begin].first % self.chunk_length and pieces[begin].first != pieces[begin - 1].stop):
            begin -= 1
        return pieces[begin:]

    def _header(self, name: str, id: tuple[int, int]) -> Header:
        header = self.files.header(name)
        if (header.stream, header.chunk) != id:
            raise DamagedError(f"{name}: it holds chunk {header.chunk} of stream {header.stream}")
        return header

    def _missing(self, stream: int, start: int, stop: int) -> MissingStepsError:
        return MissingStepsError(
            f"Steps {start} to {stop - 1} of stream {stream} in {self.directory} are lost.", start, stop
        )


def lock_holder(directory: Path) -> str | None:
    """The id of the process that uses the directory, None if there is none."""
    try:
        file = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(file, 20, 0).decode(errors="replace") or "unknown"
    finally:
        os.close(file)  # and the lock with it, at once
    return None
