"""The files of one chunk, C steps of one stream.

    <stream>-<chunk>.rows       header, then C packed rows, compressed or not: synced and renamed, never changed again
    <stream>-<chunk>.latents    C rows of latents, each with its checksum: refreshed in place
    <stream>-<chunk>.open       header, then the rows and latents as of when it was last kept, or closed
    *.tmp, *.damaged            what a crash interrupted; what failed its checksum, kept for inspection

Files are mapped for reading only, and only once complete: a full disk raises OSError, and does not kill the process.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from replay.buffers import Buffers
from replay.disk import latent_rows
from replay.disk.compressed_rows import CompressedRows, compress, require
from replay.files.checked_files import DamagedError
from replay.files.mapped import map_file
from replay.files.whole_file import sync_directory, synced
from replay.layout import views
from replay.step import Schema

_HEADER = struct.Struct("<8sIIqqqqqqII")  # 72 bytes
HEADER_BYTES = _HEADER.size
_MAGIC = b"nxchunk1"
_CHUNK_BYTES, _CHUNK_STEPS = 4 << 20, 1024  # at most, if no chunk length is given


class Header(NamedTuple):
    """The file has steps first .. stop - 1 of a chunk. `serial` numbers chunks in the order they were sealed; an open
    one has that of the last chunk sealed before it was added to. `nbytes` follow the header: fewer than the rows if
    they are compressed."""

    stream: int
    chunk: int
    first: int
    stop: int
    serial: int
    nbytes: int
    crc: int  # of everything after the header


class Chunk:
    """A chunk of a store: in memory until it is `sealed` to files, whose `rows` are then mapped when needed."""

    __slots__ = (
        "checked", "crc", "damaged", "dropped", "filed", "first", "kept", "keys", "latents", "nbytes", "number",
        "rows", "sealed", "serial", "settled", "stream", "touched",
    )  # fmt: skip

    def __init__(self, stream: int, number: int, first: int) -> None:
        self.stream, self.number, self.first = stream, number, first
        self.rows: np.ndarray | CompressedRows | None = None  # bytes [C, stride]
        self.latents: np.ndarray | None = None  # bytes [C, stride]; once settled, they are only read here
        self.keys: dict[str, np.ndarray] = {}  # views of the rows, while steps are added
        self.serial = self.nbytes = self.crc = 0  # as in the header
        self.settled = False  # its latents are refreshed in their file from now on
        self.sealed = False
        self.checked = False  # verified against its checksum since the store was opened
        self.damaged = False
        self.dropped = False
        self.touched = False  # latents were refreshed while they were being written to their file
        self.filed = False  # it has files, or will have them soon
        self.kept = 0  # its `.open` file goes up to this step

    @property
    def name(self) -> str:
        return f"{self.stream}-{self.number}"

    @property
    def id(self) -> tuple[int, int]:
        return self.stream, self.number


class ChunkFiles:
    """A directory of chunk files. Threads may call any methods at the same time, but not for the same chunk."""

    def __init__(self, directory: Path, schema: Schema, chunk_length: int, compression: str = "") -> None:
        self.directory, self.schema, self.chunk_length = directory, schema, chunk_length
        if compression not in ("", "lz4"):
            raise ValueError(f"Replay compression is {compression!r}, allowed 'lz4', or '' for none.")
        if compression:
            require()
        self._compress = bool(compression)
        self.row_stride, self.latent_stride = schema.row_dtype.itemsize, latent_rows.stride(schema)
        self.row_bytes = chunk_length * self.row_stride  # of a chunk, not compressed
        self._rows, self._latents = (Buffers(chunk_length, stride) for stride in (self.row_stride, self.latent_stride))
        self._path = str(directory)

    def path(self, chunk: Chunk, suffix: str) -> Path:
        return self.directory / f"{chunk.name}.{suffix}"

    def new(self, stream: int, number: int, first: int) -> Chunk:
        """A chunk in memory, to be filled from step `first` on."""
        chunk = Chunk(stream, number, first)
        chunk.rows, chunk.latents = rows, _ = self._rows.take(), self._latents.take()
        chunk.keys = views(rows.view(self.schema.row_dtype)[:, 0])
        chunk.checked = True
        return chunk

    def sealed(self, header: Header) -> Chunk:
        """The chunk of a file `.rows` with this header."""
        chunk = Chunk(header.stream, header.chunk, header.first)
        chunk.serial, chunk.nbytes, chunk.crc = header.serial, header.nbytes, header.crc
        chunk.settled = chunk.sealed = chunk.filed = True
        return chunk

    def header_of(self, chunk: Chunk) -> Header:
        """The header of a full chunk."""
        stop = (chunk.number + 1) * self.chunk_length
        return Header(chunk.stream, chunk.number, chunk.first, stop, chunk.serial, chunk.nbytes, chunk.crc)

    def write(self, chunk: Chunk) -> None:
        """Write a full chunk; its rows are synced under a temporary name. OSError: nothing new is left behind."""
        assert isinstance(chunk.rows, np.ndarray), chunk.name
        content = compress(chunk.rows) if self._compress else None
        content = chunk.rows if content is None else content
        chunk.nbytes, chunk.crc = content.size, zlib.crc32(content.data)
        try:
            if not chunk.settled:  # first: a crash leaves latents without rows, which opening removes
                self.make_latents(chunk, chunk.latents)
            with self._open(f"{chunk.name}.rows.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
                write_all(file, self._pack(self.header_of(chunk)))
                write_all(file, content)
                os.fsync(file)
        except BaseException:
            self.unlink(f"{chunk.name}.rows.tmp")
            if not chunk.settled:
                self.unlink(f"{chunk.name}.latents")
            raise

    def publish(self, chunks: list[Chunk]) -> None:
        """Give written chunks their final names."""
        for chunk in chunks:
            os.rename(self.directory / f"{chunk.name}.rows.tmp", self.directory / f"{chunk.name}.rows")
        sync_directory(self.directory)

    def remove(self, chunk: Chunk) -> None:
        for suffix in ("rows", "latents", "open", "rows.tmp", "rows.damaged", "open.damaged"):
            self.unlink(f"{chunk.name}.{suffix}")

    def unlink(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.directory / name)

    def is_shared(self, chunk: Chunk) -> bool:
        """Whether removing its rows frees no space, because a checkpoint has a link to them."""
        with suppress(FileNotFoundError):
            return os.stat(self.path(chunk, "rows")).st_nlink > 1
        return False

    def set_aside(self, name: str) -> None:
        """Keep a damaged file under another name, and delete the latents that go with it."""
        with suppress(FileNotFoundError):
            os.rename(self.directory / name, self.directory / f"{name}.damaged")
        self.unlink(f"{Path(name).stem}.latents")

    def map(self, chunk: Chunk) -> np.ndarray | CompressedRows:
        """Rows `[C, stride]` of a sealed chunk, not verified. DamagedError: the file is missing or incomplete."""
        try:
            with self._open(f"{chunk.name}.rows", os.O_RDONLY) as file:
                content = map_file(file, HEADER_BYTES + chunk.nbytes)[HEADER_BYTES:]
        except (FileNotFoundError, ValueError) as error:
            raise DamagedError(f"{chunk.name}.rows: {error}") from error
        if chunk.nbytes < self.row_bytes:
            return CompressedRows(content, self.chunk_length, self.row_stride)
        return content.reshape(self.chunk_length, self.row_stride)

    def check(self, chunk: Chunk) -> None:
        """Read the rows of a sealed chunk and compare them with its checksum; DamagedError."""
        name, crc, part = f"{chunk.name}.rows", 0, bytearray(1 << 20)
        try:
            with self._open(name, os.O_RDONLY) as file:  # not mapped: a bad sector is an error here, not a signal
                os.lseek(file, HEADER_BYTES, os.SEEK_SET)
                while count := os.readv(file, [part]):
                    crc = zlib.crc32(memoryview(part)[:count], crc)
        except OSError as error:
            raise DamagedError(f"{name}: {error}") from error
        if crc != chunk.crc:
            raise DamagedError(f"{name}: its content fails its checksum")

    def map_latents(self, chunk: Chunk) -> np.ndarray:
        """Latents `[C, stride]` of a sealed chunk, read-only, changing as they are written. DamagedError."""
        try:
            with self._open(f"{chunk.name}.latents", os.O_RDONLY) as file:
                content = map_file(file, self.chunk_length * self.latent_stride)
        except (FileNotFoundError, ValueError) as error:
            raise DamagedError(f"{chunk.name}.latents: {error}") from error
        return content.reshape(self.chunk_length, self.latent_stride)

    def header(self, name: str) -> Header:
        """A file's header; DamagedError: it is not a chunk file, or has another schema or chunk length."""
        return self.headed(name)[0]

    def headed(self, name: str, *, whole: bool = False) -> tuple[Header, bytes]:
        """A file's header and, if `whole`, everything after it, verified."""
        with self._open(name, os.O_RDONLY) as file:
            head = os.read(file, HEADER_BYTES)
            content = b"".join(iter(lambda: os.read(file, 1 << 24), b"")) if whole else b""
        if len(head) < HEADER_BYTES or zlib.crc32(head[:-4]) != _HEADER.unpack(head)[-1]:
            raise DamagedError(f"{name}: its header fails its checksum")
        magic, schema, chunk_length, *fields, _ = _HEADER.unpack(head)
        header = Header(*fields)
        if magic != _MAGIC or (schema, chunk_length) != (schema_crc(self.schema), self.chunk_length):
            raise DamagedError(f"{name}: it was written with another schema or chunk length ({chunk_length})")
        if whole and zlib.crc32(content) != header.crc:
            raise DamagedError(f"{name}: its content fails its checksum")
        return header, content

    def copy(self, chunk: Chunk, stop: int) -> tuple[Header, np.ndarray]:
        """Rows and latents of a chunk in memory up to step `stop`, and a header for them without the checksum."""
        assert isinstance(chunk.rows, np.ndarray), chunk.name
        count = stop - chunk.number * self.chunk_length
        latents = np.zeros((self.chunk_length, self.latent_stride), np.uint8) if chunk.settled else chunk.latents
        assert latents is not None, chunk.name
        if chunk.settled:
            self.read_latents(chunk, 0, latents)
        content = np.concatenate([chunk.rows[:count].reshape(-1), latents[:count].reshape(-1)])
        return Header(chunk.stream, chunk.number, chunk.first, stop, chunk.serial, content.size, 0), content

    def write_open(self, header: Header, content: np.ndarray) -> None:
        """Write what copy() returned. OSError: the file written before is still there."""
        name = f"{header.stream}-{header.chunk}.open"
        try:
            with self._open(f"{name}.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
                write_all(file, self._pack(header._replace(crc=zlib.crc32(content.data))))
                write_all(file, content)
                os.fsync(file)
        except BaseException:
            self.unlink(f"{name}.tmp")
            raise
        os.rename(self.directory / f"{name}.tmp", self.directory / name)

    def read_open(self, name: str) -> tuple[Chunk, int]:
        """The chunk that write_open() wrote, and the step it continues with; DamagedError."""
        header, content = self.headed(name, whole=True)
        count = header.stop - header.chunk * self.chunk_length
        if not 0 < count <= self.chunk_length or len(content) != count * (self.row_stride + self.latent_stride):
            raise DamagedError(f"{name}: it has {len(content)} bytes for {count} steps")
        chunk = self.new(header.stream, header.chunk, header.first)
        assert isinstance(chunk.rows, np.ndarray) and chunk.latents is not None, chunk.name
        rows, latents = np.split(np.frombuffer(content, np.uint8), [count * self.row_stride])
        chunk.rows[:count] = rows.reshape(count, self.row_stride)
        chunk.latents[:count] = latents.reshape(count, self.latent_stride)
        chunk.filed, chunk.serial, chunk.kept = True, header.serial, header.stop
        return chunk, header.stop

    def read_latents(self, chunk: Chunk, place: int, out: np.ndarray) -> bool:
        """Fill rows `[n, stride]`; past the end of the file with zeros, which are stale. False: there is no file."""
        if not out.size:
            return True
        got = there = 0
        with suppress(FileNotFoundError), self._open(f"{chunk.name}.latents", os.O_RDONLY) as file:
            got, there = os.preadv(file, [out.reshape(-1).data], place * self.latent_stride), 1
        out.reshape(-1)[got:] = 0
        return bool(there)

    def write_latents(self, chunk: Chunk, place: int, rows: np.ndarray) -> None:
        """Replace rows `[n, stride]`. FileNotFoundError: there is no file."""
        with self._open(f"{chunk.name}.latents", os.O_WRONLY) as file:
            write_all(file, rows, place * self.latent_stride)

    def make_latents(self, chunk: Chunk, rows: np.ndarray | None = None) -> None:
        """Write the whole file of latents `[C, stride]`, stale ones if none are given."""
        if not self.latent_stride:
            return
        try:
            with self._open(f"{chunk.name}.latents", os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
                write_all(file, np.zeros((self.chunk_length, self.latent_stride), np.uint8) if rows is None else rows)
        except BaseException:
            self.unlink(f"{chunk.name}.latents")
            raise

    def _pack(self, header: Header) -> bytes:
        content = _HEADER.pack(_MAGIC, schema_crc(self.schema), self.chunk_length, *header, 0)[:-4]
        return content + struct.pack("<I", zlib.crc32(content))

    @contextmanager
    def _open(self, name: str, flags: int) -> Iterator[int]:
        file = os.open(os.path.join(self._path, name), flags | os.O_CLOEXEC, 0o644)
        try:
            yield file
        finally:
            os.close(file)


def schema_crc(schema: Schema) -> int:
    """What identifies a schema in a file's header."""
    return zlib.crc32(json.dumps(schema.to_json()).encode())


def stored_chunk_length(directory: Path, schema: Schema) -> int:
    """Steps of a chunk in the files of a directory, 0 if there are none; ValueError: they have another schema."""
    for path in sorted(directory.glob("*.rows")):
        with open(path, "rb") as file:
            head = file.read(HEADER_BYTES)
        if len(head) == HEADER_BYTES and head.startswith(_MAGIC) and zlib.crc32(head[:-4]) == _HEADER.unpack(head)[-1]:
            _, schema_of_file, chunk_length, *_ = _HEADER.unpack(head)
            if schema_of_file != schema_crc(schema):
                raise ValueError(f"{path} holds steps of another schema; choose another directory.")
            return int(chunk_length)
    return 0


def suitable_chunk_length(schema: Schema, capacity: int | None, capacity_gb: float | None, streams: int) -> int:
    """default_chunk_length() of a store with these bounds."""
    room = min(capacity or 1 << 62, int((capacity_gb or 1e9) * 1e9 / (schema.nbytes + 8)))
    return default_chunk_length(schema, room, streams)


def default_chunk_length(schema: Schema, room: int, streams: int) -> int:
    """Steps of a chunk with about 4 MB of rows; fewer if replay has little room."""
    suitable = min(_CHUNK_BYTES // schema.row_dtype.itemsize, _CHUNK_STEPS)
    return max(1, min(suitable, max(32, room // (4 * streams))))


def share(source: Path, target: Path) -> None:
    """Hard-link a file that never changes; copy and sync it if it cannot be linked."""
    try:
        os.link(source, target)
    except OSError as error:
        if isinstance(error, FileNotFoundError | FileExistsError):
            raise
        with source.open("rb") as old, synced(target) as new:
            while part := old.read(1 << 24):
                new.write(part)


def write_all(file: int, content: bytes | np.ndarray, offset: int | None = None) -> None:
    """Write everything, at `offset` or the file's position: one call may write less on a disk that is filling up."""
    left = memoryview(content).cast("B") if isinstance(content, bytes) else content.reshape(-1).data
    while len(left):
        if offset is None:
            left = left[os.write(file, left) :]
        else:
            done = os.pwrite(file, left, offset)
            left, offset = left[done:], offset + done
