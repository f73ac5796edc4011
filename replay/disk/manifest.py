"""The append-only list of a disk store's chunks: a text file, one line with its own checksum for each event.

    1d3e9a01 store {"format": ..., "schema": ..., "chunk_length": ..., ...}
    77a0c1f2 chunk <stream> <chunk> <first step> <stop> <serial> <bytes> <crc of them>    sealed
    04be8c55 gone <stream> <chunk>                                                    evicted, or damaged
    9c2f61d8 ends <stream> <step>                                                     a stream without chunks
    5f00b7e3 counts {"inserted": ..., ...}

Reading keeps every intact line and counts the others. In the end the files that exist decide (replay.disk.reopening).
"""

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replay.disk.chunk_files import Header, write_all
from replay.files.whole_file import sync_directory

FORMAT = "nexus-replay-disk-1"
NAME = "manifest"
_SLACK = 1000  # lines beyond twice those needed, after which the file is rewritten


@dataclass
class Content:
    """The content of a manifest."""

    store: dict[str, Any] | None = None
    chunks: dict[tuple[int, int], Header] = field(default_factory=dict)
    gone: set[tuple[int, int]] = field(default_factory=set)
    ends: dict[int, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    lines: int = 0
    broken: int = 0

    def take(self, line: str) -> None:
        """Apply one line; ValueError, IndexError: it is not a line of this format."""
        kind, rest = line.split(" ", 1)
        if kind == "store":
            self.store = json.loads(rest)
        elif kind == "counts":
            self.counts = json.loads(rest)
        elif kind == "ends":
            stream, step = map(int, rest.split())
            self.ends[stream] = step
        elif kind == "gone":
            stream, chunk = map(int, rest.split())
            self.chunks.pop((stream, chunk), None)
            self.gone.add((stream, chunk))
        elif kind == "chunk":
            header = Header(*map(int, rest.split()))
            self.chunks[header.stream, header.chunk] = header
            self.gone.discard((header.stream, header.chunk))
        else:
            raise ValueError(f"unknown line {kind!r}")


def read_manifest(directory: Path) -> Content | None:
    """The content of a directory's manifest, None if there is none. The store may be in use.

    ValueError: it cannot be read.
    """
    try:
        raw = (directory / NAME).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{directory / NAME} cannot be read: {error.strerror}.") from error
    content = Content()
    for line in raw.split(b"\n")[:-1] + [raw.rpartition(b"\n")[2]] * (not raw.endswith(b"\n") and bool(raw)):
        content.lines += 1
        try:
            if line[:9] != b"%08x " % zlib.crc32(line[9:]):
                raise ValueError("checksum")
            content.take(line[9:].decode())
        except (ValueError, RecursionError, TypeError, IndexError):
            content.broken += 1
    return content


class Manifest:
    """Appends to a directory's manifest. OSError: nothing was added to the file."""

    def __init__(self, directory: Path, content: Content) -> None:
        self.directory, self.content = directory, content
        self._file = -1
        self.rewrite()

    def seal(self, headers: Iterable[Header], counts: Mapping[str, int]) -> None:
        lines = [f"chunk {' '.join(map(str, header))}" for header in headers]
        self._append([*lines, f"counts {json.dumps(dict(counts))}"], sync=True)

    def drop(self, chunks: Iterable[tuple[int, int]]) -> None:
        """Chunks whose files are about to be removed."""
        if lines := [f"gone {stream} {chunk}" for stream, chunk in chunks]:
            self._append(lines, sync=False)

    def end(self, streams: Mapping[int, int], counts: Mapping[str, int]) -> None:
        """Streams without chunks, and the step each continues with."""
        lines = [f"ends {stream} {step}" for stream, step in streams.items()]
        self._append([*lines, f"counts {json.dumps(dict(counts))}"], sync=True)

    def wipe(self) -> None:
        """Forget all chunks."""
        self.content = Content(store=self.content.store)
        self.rewrite()

    def rewrite(self) -> None:
        """Replace the file atomically by one with only what still holds."""
        held = self.content
        lines = [f"store {json.dumps(held.store)}", f"counts {json.dumps(held.counts)}"]
        lines += [f"chunk {' '.join(map(str, header))}" for header in held.chunks.values()]
        lines += [f"ends {stream} {step}" for stream, step in held.ends.items()]
        temporary = self.directory / f"{NAME}.tmp"
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            write_all(file, (raw := _signed(lines)))
            os.fsync(file)
            os.rename(temporary, self.directory / NAME)
        except BaseException:
            os.close(file)
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        sync_directory(self.directory)
        self.close()
        self._file, self._size = file, len(raw)
        self.content = Content(held.store, held.chunks, set(), held.ends, held.counts, len(lines))

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        self.close()

    def _append(self, lines: list[str], sync: bool) -> None:
        raw = _signed(lines)
        try:
            write_all(self._file, raw)
            if sync:
                os.fdatasync(self._file)
        except BaseException:
            os.ftruncate(self._file, self._size)  # half a line would spoil the next one
            raise
        self._size += len(raw)
        for line in lines:
            self.content.take(line)
        self.content.lines += len(lines)
        if self.content.lines > 2 * (len(self.content.chunks) + len(self.content.ends)) + _SLACK:
            with suppress(OSError):  # a full disk: it is not urgent
                self.rewrite()


def _signed(lines: Iterable[str]) -> bytes:
    return "".join(f"{zlib.crc32(line.encode()):08x} {line}\n" for line in lines).encode()
