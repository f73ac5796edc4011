"""A checkpoint of a disk store: exact, and cheap on the same file system, where sealed chunks are hard links.

    index.json                 settings, schema, counters, size and CRC-32 of every other file, CRC-32 of itself
    state.safetensors          streams, items, queue and chunks of the index
    sealed-<stream>-<chunk>    files `.rows` of the store as they are
    open-N.safetensors         rows of chunks that are still in memory
    latents-N.safetensors      latents of all chunks, since the learner refreshes them

The directory is complete or absent: see `replay.files.new_directory`.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from replay.disk.chunk_files import HEADER_BYTES, Chunk, ChunkFiles, share
from replay.files.checked_files import DamagedError
from replay.files.checkpoint import read_file, verified_alike, write_file, write_index
from replay.files.new_directory import new_directory
from replay.step import Rows

FORMAT = "nexus-replay-disk-checkpoint-1"
_OPEN, _SEALED, _DAMAGED = range(3)
_PART_BYTES = 128 << 20  # of one file: it passes through memory as a whole


class Previous:
    """The last checkpoint, wherever its directory was moved to: its files are linked instead of copied."""

    def __init__(self) -> None:
        self._directory = -1
        self._crcs: dict[str, int] = {}

    def link(self, name: str, crc: int, target: Path) -> bool:
        """Hard-link a file of it; False: it has no such file, or it cannot be linked."""
        if self._crcs.get(name) != crc:
            return False
        try:
            os.link(name, target, src_dir_fd=self._directory)
        except OSError:
            return False
        return True

    def follow(self, directory: Path, files: Mapping[str, Mapping[str, int]]) -> None:
        self._close()
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self._crcs = {name: file["crc32"] for name, file in files.items()}

    def _close(self) -> None:
        if self._directory >= 0:
            os.close(self._directory)

    __del__ = _close


def save(
    directory: Path,
    previous: Previous,
    files: ChunkFiles,
    arrays: Rows,
    chunks: Mapping[tuple[int, int], Chunk],
    settings: Mapping[str, int],
    counters: Mapping[str, int],
    lose: Callable[[Chunk, DamagedError], None],
) -> None:
    """Write the state of a store, `arrays` of its index, while nobody changes its chunks; `lose` is called with chunks
    whose files turn out to be missing."""
    ordered = [chunks[stream, number] for stream, number in arrays["chunks"].tolist()]
    written: dict[str, dict[str, int]] = {}
    with new_directory(directory) as part:
        for chunk in ordered:
            if chunk.sealed and not chunk.damaged:
                try:
                    written[f"sealed-{chunk.name}"] = _link(previous, files, chunk, part)
                except DamagedError as error:
                    lose(chunk, error)
        kinds = [_DAMAGED if chunk.damaged else _SEALED if chunk.sealed else _OPEN for chunk in ordered]
        arrays["kinds"], arrays["firsts"] = np.array(kinds, np.int64), np.array([c.first for c in ordered], np.int64)
        for name, kept, stride in _arrays(files, ordered, kinds):
            each = max(1, _PART_BYTES // (files.chunk_length * stride))
            for i, some in enumerate(kept[k : k + each] for k in range(0, len(kept), each)):
                block = np.zeros((len(some), files.chunk_length, stride), np.uint8)
                for row, chunk in zip(block, some, strict=True):
                    _take(files, chunk, name, row)
                file = f"{name}-{i}.safetensors"
                written[file] = write_file(part / file, {name: block})
        written["state.safetensors"] = write_file(part / "state.safetensors", arrays)
        content = {
            "format": FORMAT, "schema": files.schema.to_json(), "settings": dict(settings),
            "counters": dict(counters), "files": written,
        }  # fmt: skip
        write_index(part, content)
    previous.follow(directory, written)


def _link(previous: Previous, files: ChunkFiles, chunk: Chunk, part: Path) -> dict[str, int]:
    """Link the rows of a sealed chunk into the checkpoint; DamagedError: they are missing or incomplete."""
    target, nbytes = part / f"sealed-{chunk.name}", HEADER_BYTES + chunk.nbytes
    if not previous.link(target.name, chunk.crc, target):
        try:
            share(files.path(chunk, "rows"), target)
        except FileNotFoundError as error:
            raise DamagedError(f"{chunk.name}.rows: {error}") from error
    if (size := target.stat().st_size) != nbytes:
        target.unlink()
        raise DamagedError(f"{chunk.name}.rows: it has {size} bytes, expected {nbytes}")
    return {"bytes": nbytes, "crc32": chunk.crc}  # of what follows the header


def load(
    directory: Path, files: ChunkFiles, settings: Mapping[str, int]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The contents of index.json and the index's state, all files verified; ValueError: damaged, or another store's."""
    content = verified_alike(directory, files.schema, settings, FORMAT)
    for name, expected in content["files"].items():
        if not name.startswith("sealed-"):
            read_file(directory, name, content["files"])
            continue
        try:
            header, _ = files.headed(str((directory / name).absolute()), whole=True)
            if header.crc != expected["crc32"] or f"sealed-{header.stream}-{header.chunk}" != name:
                raise DamagedError(f"{name}: it is another chunk")
        except (OSError, DamagedError) as error:
            raise ValueError(f"Replay checkpoint {directory} is damaged: {error}; use the one before it.") from error
    return content, read_file(directory, "state.safetensors", content["files"])


def unpack(
    directory: Path, files: ChunkFiles, content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> list[Chunk]:
    """The chunks of a checkpoint that load() has verified: put into an empty directory, open ones into memory."""
    chunks, kinds = [], arrays["kinds"].tolist()
    for (stream, number), kind, first in zip(arrays["chunks"].tolist(), kinds, arrays["firsts"].tolist(), strict=True):
        chunk = files.new(stream, number, first) if kind == _OPEN else Chunk(stream, number, first)
        if kind == _SEALED:
            share(directory / f"sealed-{chunk.name}", files.path(chunk, "rows"))
            chunk = files.sealed(files.header(f"{chunk.name}.rows"))
        chunk.damaged = kind == _DAMAGED
        chunk.settled = chunk.sealed = chunk.filed = kind != _OPEN
        chunk.checked = True
        chunks.append(chunk)
    for name, kept, _ in _arrays(files, chunks, kinds):
        left = list(kept)
        for i in range(len(content["files"])):
            if not left:
                break
            block = read_file(directory, f"{name}-{i}.safetensors", content["files"])[name]
            for row, chunk in zip(block, left, strict=False):
                _put(files, chunk, name, row)
            left = left[len(block) :]
    return chunks


def _arrays(files: ChunkFiles, chunks: list[Chunk], kinds: list[int]) -> Iterator[tuple[str, list[Chunk], int]]:
    """What goes into files of arrays: (name, chunks, bytes of a step)."""
    yield "open", [chunk for chunk, kind in zip(chunks, kinds, strict=True) if kind == _OPEN], files.row_stride
    if files.latent_stride:
        whole = [chunk for chunk, kind in zip(chunks, kinds, strict=True) if kind != _DAMAGED]
        yield "latents", whole, files.latent_stride


def _take(files: ChunkFiles, chunk: Chunk, name: str, out: np.ndarray) -> None:
    """Fill out `[C, stride]` with a chunk's rows or latents."""
    if name == "open":
        assert isinstance(chunk.rows, np.ndarray), chunk.name
        out[:] = chunk.rows
    elif (latents := chunk.latents) is not None:  # a sampler may release them meanwhile
        out[:] = latents
    else:
        files.read_latents(chunk, 0, out)


def _put(files: ChunkFiles, chunk: Chunk, name: str, block: np.ndarray) -> None:
    if name == "open":
        assert isinstance(chunk.rows, np.ndarray), chunk.name
        chunk.rows[:] = block
    elif chunk.latents is not None:
        chunk.latents[:] = block
    else:
        files.make_latents(chunk, block)
