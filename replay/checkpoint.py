"""A store's state on disk: sealed chunks in files that later checkpoints hard-link, all else written anew.

    index.json                 settings, schema, counters, size and CRC-32 of every other file, CRC-32 of itself
    state.safetensors          streams, items, queue and the place of every chunk
    open-N.safetensors         chunks that are still filling
    sealed-N.safetensors       full chunks, fields only; N counts on from checkpoint to checkpoint
    latents-N.safetensors      latents of all chunks, for the learner refreshes them

The directory is made under a temporary name, synced and renamed, so that it is complete or absent.
"""

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors.numpy import load as decode
from safetensors.numpy import save as encode

from replay.index import Index
from replay.step import Schema

FORMAT = "nexus-replay-1"
_PART_BYTES = 128 << 20  # of one file: it passes through memory as a whole
_ChunkId = tuple[int, int]  # stream, chunk
T = TypeVar("T")


class Lineage:
    """Saves and loads one store, and remembers which sealed chunks the last checkpoint holds in which file."""

    def __init__(self) -> None:
        self._last: int | None = None  # descriptor of the last checkpoint's directory: it survives renaming
        self._sealed: dict[_ChunkId, tuple[int, int]] = {}  # (number of the file, row in it)
        self._files: dict[int, dict[str, int]] = {}
        self._number = 0

    def save(
        self,
        directory: Path,
        schema: Schema,
        settings: Mapping[str, int],
        index: Index,
        data: Mapping[str, np.ndarray],
        counters: Mapping[str, int],
    ) -> None:
        with new_directory(directory) as part:
            content = self._fill(part, schema, index, data)
            content["settings"] = dict(settings)
            content["counters"] |= counters
            write_index(part, content)
        self._follow(directory)

    def _fill(self, part: Path, schema: Schema, index: Index, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Write everything but the index.json, and return what goes into that."""
        chunks = _Chunks(index, data)
        sealed = {c for c in chunks.slot if index.streams[c[0]].next >= (c[1] + 1) * index.chunk_length}
        files = self._link(part, sealed)
        newly = [c for c in chunks.slot if c in sealed and c not in self._sealed]
        for ids in parts(newly, chunks.bytes(schema.fields)):
            self._number += 1
            self._files[self._number] = write_file(part / sealed_name(self._number), chunks.take(ids, schema.fields))
            self._sealed |= {c: (self._number, row) for row, c in enumerate(ids)}
            files[sealed_name(self._number)] = self._files[self._number]
        everything = list(chunks.slot)
        unsealed = [c for c in everything if c not in sealed]
        for name, ids, keys in (("open", unsealed, schema.fields), ("latents", everything, schema.latents)):
            for i, some in enumerate(parts(ids, chunks.bytes(keys)) if keys else ()):
                files[f"{name}-{i}.safetensors"] = write_file(part / f"{name}-{i}.safetensors", chunks.take(some, keys))
        arrays, counts = index.state()
        places = [(*c, *self._sealed[c]) for c in everything if c in sealed]
        arrays["sealed"] = np.array(places, np.int64).reshape(-1, 4)
        files["state.safetensors"] = write_file(part / "state.safetensors", arrays)
        return {
            "format": FORMAT,
            "schema": schema.to_json(),
            "counters": counts,
            "number": self._number,
            "files": files,
        }

    def load(
        self,
        directory: Path,
        schema: Schema,
        settings: Mapping[str, int],
        index: Index,
        data: Mapping[str, np.ndarray],
        counters: dict[str, int],
    ) -> None:
        content = verified_alike(directory, FORMAT, schema, settings)
        files: dict[str, Any] = content["files"]
        arrays = read_file(directory, "state.safetensors", files)
        index.load(arrays, content["counters"])
        counters |= {key: int(content["counters"][key]) for key in counters}
        chunks = _Chunks(index, data)
        self._number = int(content["number"])
        self._sealed = {(s, c): (number, row) for s, c, number, row in arrays["sealed"].tolist()}
        self._files = {number: files[sealed_name(number)] for number, _ in self._sealed.values()}
        for number in sorted(self._files):
            rows = {c: row for c, (n, row) in self._sealed.items() if n == number}
            chunks.put(rows, read_file(directory, sealed_name(number), files))
        everything = list(chunks.slot)
        for name, ids in (("open", [c for c in everything if c not in self._sealed]), ("latents", everything)):
            done = 0
            while f"{name}-{(i := done)}.safetensors" in files:
                part = read_file(directory, f"{name}-{i}.safetensors", files)
                some = ids[: len(next(iter(part.values())))]
                chunks.put({c: row for row, c in enumerate(some)}, part)
                ids = ids[len(some) :]
                done += 1
        self._follow(directory)

    def _link(self, part: Path, sealed: set[_ChunkId]) -> dict[str, dict[str, int]]:
        """Hard-link the files that still hold a sealed chunk; what cannot be linked will be written again."""
        self._sealed = {c: place for c, place in self._sealed.items() if c in sealed}
        if self._last is None:
            self._sealed = {}
        linked: dict[str, dict[str, int]] = {}
        for number in sorted({number for number, _ in self._sealed.values()}):
            try:
                os.link(sealed_name(number), part / sealed_name(number), src_dir_fd=self._last)
                linked[sealed_name(number)] = self._files[number]
            except OSError:  # the last checkpoint was deleted, or lies on another file system
                self._sealed = {c: place for c, place in self._sealed.items() if place[0] != number}
        return linked

    def _follow(self, directory: Path) -> None:
        if self._last is not None:
            os.close(self._last)
        self._last = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    def __del__(self) -> None:
        if self._last is not None:
            os.close(self._last)


def verify(directory: Path, schema: Schema, settings: Mapping[str, int], index: Index) -> None:
    """Read all of a checkpoint; ValueError where Lineage.load() into a store like this would raise one."""
    files = verified_alike(directory, FORMAT, schema, settings)["files"]
    for name in files:
        read_file(directory, name, files)
    index.require_room(read_file(directory, "state.safetensors", files))


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """A temporary directory to fill, which takes the name `directory` when the block ends well, and goes when not."""
    if directory.exists():
        raise ValueError(f"Replay checkpoint {directory} exists; checkpoints are written to a new directory.")
    part = directory.with_name(f"{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        _sync(part)
        part.rename(directory)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    _sync(directory.parent)


class _Chunks:
    """The chunks of a store as `[C, ...]` pieces of its arrays."""

    def __init__(self, index: Index, data: Mapping[str, np.ndarray]) -> None:
        self.length = index.chunk_length
        self.slot = {(s.id, chunk): slot for s in index.streams.values() for chunk, slot in s.slots.items()}
        self._data = {key: array.reshape(-1, self.length, *array.shape[1:]) for key, array in data.items()}

    def bytes(self, keys: Iterable[str]) -> int:
        return sum(self._data[key][0].nbytes for key in keys)

    def take(self, ids: list[_ChunkId], keys: Iterable[str]) -> dict[str, np.ndarray]:
        slots = [self.slot[c] for c in ids]
        return {key: self._data[key][slots] for key in keys}

    def put(self, rows: Mapping[_ChunkId, int], arrays: Mapping[str, np.ndarray]) -> None:
        for c, row in rows.items():
            for key, array in arrays.items():
                self._data[key][self.slot[c]] = array[row]


def parts(ids: list[T], nbytes: int) -> Iterable[list[T]]:
    """Chunks of `nbytes` each, in as many groups as files are needed for them."""
    each = max(1, _PART_BYTES // max(1, nbytes))
    return (ids[i : i + each] for i in range(0, len(ids), each))


def sealed_name(number: int) -> str:
    """The file of sealed chunks with this number."""
    return f"sealed-{number}.safetensors"


def write_file(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, int]:
    """Write a new file of arrays, synced; returns what index.json says of it."""
    return write_bytes(path, encode(arrays))


def write_bytes(path: Path, content: bytes) -> dict[str, int]:
    """Write a new file, synced."""
    with open(path, "xb") as file:  # never through a hard link into an older checkpoint
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": len(content), "crc32": zlib.crc32(content)}


def read_file(directory: Path, name: str, files: Mapping[str, Mapping[str, int]]) -> dict[str, np.ndarray]:
    """The arrays of a file; ValueError: it is not as index.json says."""
    path = directory / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"Replay checkpoint {directory} is damaged: cannot read {name} ({error}).") from error
    expected = files[name]
    if len(content) != expected["bytes"] or zlib.crc32(content) != expected["crc32"]:
        raise ValueError(
            f"Replay checkpoint {directory} is damaged: {name} has {len(content)} bytes, CRC-32 {zlib.crc32(content)}, "
            f"expected {expected['bytes']} and {expected['crc32']}; use the checkpoint before it."
        )
    return decode(content)


def write_index(directory: Path, content: Mapping[str, Any]) -> None:
    """Write index.json, with a checksum of its own."""
    signed = {**content, "crc32": zlib.crc32(json.dumps(content).encode())}
    write_bytes(directory / "index.json", json.dumps(signed, indent=1).encode())


def verified(directory: Path, format: str = FORMAT) -> dict[str, Any]:
    """What index.json says; ValueError where it is damaged or of another format."""
    try:
        content: dict[str, Any] = json.loads((directory / "index.json").read_bytes())
        crc = content.pop("crc32")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{directory} is no whole replay checkpoint: index.json: {error}.") from error
    if zlib.crc32(json.dumps(content).encode()) != crc or content.get("format") != format:
        raise ValueError(f"Replay checkpoint {directory} is damaged or of another format: see its index.json.")
    return content


def verified_alike(directory: Path, format: str, schema: Schema, settings: Mapping[str, int]) -> dict[str, Any]:
    """verified(); ValueError also where the checkpoint is of a store of another schema or other settings."""
    content = verified(directory, format)
    for what, here in (("schema", schema.to_json()), ("settings", dict(settings))):
        if here != content[what]:
            raise ValueError(f"Replay checkpoint {directory} has other {what}: {content[what]}, this store has {here}.")
    return content


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
