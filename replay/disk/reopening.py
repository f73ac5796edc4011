"""Which chunks a disk store finds in its directory, however the process that wrote them ended."""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from replay.counted import counted
from replay.disk.chunk_files import HEADER_BYTES, Chunk, ChunkFiles, Header, stored_chunk_length
from replay.disk.compressed_rows import require
from replay.disk.manifest import FORMAT, Content, Manifest
from replay.disk.sealing import is_full
from replay.files.checked_files import DamagedError
from replay.indexing.index import Index
from replay.step import Schema

_NAME = re.compile(r"(\d+)-(\d+)\.(rows|latents|open)")
_Id = tuple[int, int]
Note = Callable[[str], None]


def check_stored(directory: Path, content: Content | None, schema: Schema, chunk_length: int) -> int:
    """The chunk length of what is stored, 0 if nothing is; ValueError: what is stored does not fit the arguments."""
    if content and content.store:
        if content.store.get("format") != FORMAT:
            raise ValueError(
                f"Replay {directory} has format {content.store.get('format')!r}, this program writes {FORMAT!r}; "
                "choose another directory."
            )
        if content.store["schema"] != schema.to_json():
            raise ValueError(
                f"Replay {directory} holds steps of another schema: {content.store['schema']}, this run has "
                f"{schema.to_json()}; choose another directory."
            )
        stored = int(content.store["chunk_length"])
    else:
        stored = stored_chunk_length(directory / "chunks", schema)
    if stored and chunk_length not in (0, stored):
        raise ValueError(
            f"Replay {directory} has chunks of {stored} steps, not {chunk_length}; set chunk_length to 0 to keep "
            "them, or choose another directory."
        )
    return stored


def what_is_lost(content: Content) -> str:
    """What was lost because a store was not closed."""
    seconds = (content.store or {}).get("keep_seconds")
    return f"the steps of its last {seconds:g} s are lost" if seconds else "the steps in partly filled chunks are lost"


def describe(index: Index, content: Content) -> str:
    """What a store has again after opening a directory with this manifest, and what is lost."""
    chunks, streams = counted(index.addresses.used_slots, "chunk"), counted(len(index.streams), "stream")
    lost = "" if content.counts.get("closed") else f"; it was not closed, {what_is_lost(content)}"
    return f"{counted(len(index), 'sequence')} in {chunks} of {streams} again{lost}"


def take_over(
    files: ChunkFiles, content: Content, store: Mapping[str, Any], note: Note
) -> tuple[list[tuple[Chunk, int]], Manifest]:
    """find_chunks(), and a new manifest of them; if the disk is full, the oldest chunks make room for it."""
    room = -1
    while True:
        found = find_chunks(files, content, note)
        listed = {chunk.id: files.header_of(chunk) for chunk, _ in found if chunk.sealed and not chunk.damaged}
        counts = {key: count for key, count in content.counts.items() if key != "closed"}
        try:
            return found, Manifest(files.directory.parent, Content(dict(store), listed, counts=counts))
        except OSError as error:
            before, room = room, shutil.disk_usage(files.directory).free
            if not (is_full(error) and listed and room > before):
                raise
            oldest = next(iter(listed.values()))
            files.remove(Chunk(oldest.stream, oldest.chunk, oldest.first))
            content.chunks.pop((oldest.stream, oldest.chunk), None)
            note(f"The disk of replay {files.directory.parent} is full: its oldest chunk makes room for the manifest.")


def find_chunks(files: ChunkFiles, content: Content, note: Note) -> list[tuple[Chunk, int]]:
    """Chunks and the step each stops at, in the order they were sealed; only open ones are read.

    What a crash interrupted is finished or removed. A chunk that is lost between others of its stream is returned as
    `damaged`, so that the steps around it keep their places.
    """
    names: dict[str, dict[_Id, str]] = {"rows": {}, "latents": {}, "open": {}}
    sizes: dict[str, int] = {}
    temporary = []
    with os.scandir(files.directory) as entries:
        for entry in entries:
            if match := _NAME.fullmatch(entry.name):
                names[match[3]][int(match[1]), int(match[2])] = entry.name
                sizes[entry.name] = entry.stat().st_size
            elif entry.name.endswith(".tmp"):
                temporary.append(entry.name)
    events = {"temporary files removed": len(temporary)}
    for name in temporary:
        files.unlink(name)
    sealed, events["chunk files adopted that the manifest does not list"] = _sealed(files, content, names, sizes, note)
    lost = [id for id in content.chunks if id not in names["rows"]]
    events["chunk files missing"] = len(lost)
    open_chunks = _open(files, content, names, sealed, note)
    streams: dict[int, list[tuple[Chunk, int]]] = {}
    for header in sorted(sealed.values()):  # by stream, then chunk
        streams.setdefault(header.stream, []).append((files.sealed(header), header.stop))
    for chunk, stop in open_chunks:
        streams.setdefault(chunk.stream, []).append((chunk, stop))
    for chunks in streams.values():
        chunks.sort(key=lambda one: one[0].number)
    found = [found for chunks in streams.values() for found in _connected(files, chunks)]
    kept = {
        f"{chunk.name}.{suffix}"
        for chunk, _ in found if not chunk.damaged
        for suffix in (("rows", "latents") if chunk.sealed else ("open",))
    }  # fmt: skip
    for name in sizes.keys() - kept:
        files.unlink(name)
    said = [f"{count} {what}" for what, count in events.items() if count]
    if content.broken:
        said.append(f"{content.broken} of {content.lines} lines of the manifest torn or damaged")
    if said:
        note(f"Replay {files.directory.parent}: {', '.join(said)}.")
    ranks: list[int] = []
    for i, (chunk, _) in enumerate(found):
        rank = 2 * chunk.serial + (not chunk.sealed)
        goes_on = i and found[i - 1][0].stream == chunk.stream
        ranks.append(max(rank, ranks[-1]) if goes_on else rank)
    return [found[i] for i in sorted(range(len(found)), key=lambda i: (ranks[i], found[i][0].number))]


def _sealed(
    files: ChunkFiles,
    content: Content,
    names: dict[str, dict[_Id, str]],
    sizes: dict[str, int],
    note: Note,
) -> tuple[dict[_Id, Header], int]:
    """Headers of the sealed chunks, and how many of them the manifest did not list."""
    sealed, adopted = {}, 0
    for id, name in names["rows"].items():
        if id in content.gone:  # its eviction was interrupted
            continue
        header = content.chunks.get(id)
        try:
            if header is None:
                header = files.header(name)
                adopted += 1
            if sizes[name] != HEADER_BYTES + header.nbytes:
                raise DamagedError(f"{name}: it has {sizes[name]} bytes, expected {HEADER_BYTES + header.nbytes}")
            if (header.stream, header.chunk) != id:
                raise DamagedError(f"{name}: it holds chunk {header.chunk} of stream {header.stream}")
        except DamagedError as error:
            note(f"Replay {files.directory.parent}: chunk set aside, {error}.")
            files.set_aside(name)
            continue
        sealed[id] = header
    if any(header.nbytes < files.row_bytes for header in sealed.values()):
        require()
    return sealed, adopted


def _open(
    files: ChunkFiles,
    content: Content,
    names: dict[str, dict[_Id, str]],
    sealed: dict[_Id, Header],
    note: Note,
) -> list[tuple[Chunk, int]]:
    """The chunks that were kept as they filled; only a stream's newest one may be partly filled."""
    newest: dict[int, int] = {}
    for stream, number in (*sealed, *names["open"]):
        newest[stream] = max(number, newest.get(stream, 0))
    found = []
    for id, name in names["open"].items():
        if id in sealed or id in content.gone:
            continue
        try:
            chunk, stop = files.read_open(name)
            if chunk.id != id:
                raise DamagedError(f"{name}: it holds chunk {chunk.number} of stream {chunk.stream}")
        except DamagedError as error:
            note(f"Replay {files.directory.parent}: open chunk set aside, {error}.")
            files.set_aside(name)
            continue
        if stop < (chunk.number + 1) * files.chunk_length and newest[chunk.stream] != chunk.number:
            continue  # the stream continued after this was written
        if not content.counts.get("closed") and chunk.latents is not None:
            chunk.latents[:] = 0  # a process that did not close the store may have refreshed them: they are stale
        chunk.serial = chunk.serial or max((header.serial for header in sealed.values()), default=0)
        found.append((chunk, stop))
    return found


def _connected(files: ChunkFiles, chunks: list[tuple[Chunk, int]]) -> list[tuple[Chunk, int]]:
    """A stream's newest chunks without a gap, back to where it began anew; lost ones are included."""
    out = [chunks[-1]]
    for chunk, stop in reversed(chunks[:-1]):
        after = out[-1][0]
        while after.first == after.number * files.chunk_length and after.number > chunk.number + 1:
            lost = Chunk(after.stream, after.number - 1, (after.number - 1) * files.chunk_length)
            lost.damaged = lost.settled = lost.sealed = lost.filed = True
            lost.serial = after.serial
            out.append((lost, after.first))
            after = lost
        if after.first != stop:  # it began anew, the rest was about to be removed
            break
        out.append((chunk, stop))
    return out[::-1]
