"""How a replay is laid out on a Redis server, and how much memory it takes."""

from dataclasses import dataclass

import numpy as np

from replay.step import Schema

CHUNK_BYTES = 4 << 20  # of packed rows, at most
_HEADER = 10  # bytes of a string value besides its content
_SMALL = 1 << 14  # bytes; the allocator's rounding of smaller values is ignored: chunks of a run are larger
_EVENT_BYTES = 8  # a step's share of the log if blocks have three or more steps


def allocated(nbytes: int) -> int:
    """Bytes that a value takes: jemalloc, Redis's allocator, has four size classes per power of two."""
    size = nbytes + _HEADER
    if size <= _SMALL:
        return nbytes
    spacing = 1 << ((size - 1).bit_length() - 3)
    return -(-size // spacing) * spacing


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Sizes of a replay: a chunk has `chunk_length` rows of `row_bytes` and as many latents of `latent_bytes`, which
    include one byte for the marker that they were written."""

    length: int
    chunk_length: int
    row_bytes: int
    latent_bytes: int
    capacity: int
    slots: int

    @property
    def slot_bytes(self) -> int:
        return slot_bytes(self.chunk_length, self.row_bytes, self.latent_bytes)

    @property
    def nbytes(self) -> int:
        """Memory of all chunks together."""
        return self.slots * self.slot_bytes

    @property
    def per_stream(self) -> int:
        """The chunks that an unfinished sequence may touch, and a new one."""
        return chunks_of_stream(self.length, self.chunk_length)


def stored_latents(schema: Schema) -> np.dtype:
    """A row's latents followed by the marker; no bytes if the schema has none."""
    packed = schema.latent_dtype
    if not packed.itemsize:
        return packed
    assert packed.fields is not None
    parts = [(name, *place[:2]) for name, place in packed.fields.items()]
    names, formats, offsets = zip(*parts, (MARKER, np.dtype(np.uint8), packed.itemsize), strict=True)
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": packed.itemsize + 1})


MARKER = "\0written"


def chunks_of_stream(length: int, chunk_length: int) -> int:
    """The chunks that an unfinished sequence may touch, and a new one."""
    return -(-(length - 1) // chunk_length) + 1


def slot_bytes(chunk_length: int, row_bytes: int, latent_bytes: int) -> int:
    """Memory of one chunk."""
    values = allocated(chunk_length * row_bytes) + (allocated(chunk_length * latent_bytes) if latent_bytes else 0)
    return values + chunk_length * _EVENT_BYTES


def best_chunk_length(length: int, row_bytes: int, latent_bytes: int, capacity: int, streams: int) -> int:
    """Steps of a chunk: up to CHUNK_BYTES, with both its values just under a size class of the allocator.

    A small replay has shorter chunks, because each stream has a partly filled and a partly evicted one; but most
    sequences should still fit in one or two.
    """
    most = max(1, min(CHUNK_BYTES // row_bytes, max(2 * length, capacity // (40 * streams))))
    taken = {n: slot_bytes(n, row_bytes, latent_bytes) / n for n in range(max(1, most // 2), most + 1)}
    return max(n for n, bytes_of_step in taken.items() if bytes_of_step <= 1.001 * min(taken.values()))


def plan(
    schema: Schema,
    *,
    length: int,
    chunk_length: int,
    capacity: int | None,
    capacity_gb: float | None,
    streams: int,
) -> Layout:
    """The sizes of a store with these bounds; ValueError: no bound, or one too small for so many streams."""
    for name, value, low in (("length", length, 1), ("chunk_length", chunk_length, 0), ("streams", streams, 1)):
        if value < low:
            raise ValueError(f"RedisStore {name} is {value}, allowed {low} or more; raise it.")
    if not capacity and not capacity_gb:
        raise ValueError("RedisStore has no bound: give capacity (items), capacity_gb, or both.")
    row, latent = schema.row_dtype.itemsize, stored_latents(schema).itemsize
    if not chunk_length:
        bounds = [capacity] if capacity else []
        bounds += [int(capacity_gb * 1e9 / (row + latent))] if capacity_gb else []
        chunk_length = best_chunk_length(length, row, latent, min(bounds), streams)
    per_stream = chunks_of_stream(length, chunk_length)
    size = slot_bytes(chunk_length, row, latent)
    slots = [-(-capacity // chunk_length) + per_stream * streams] if capacity else []
    slots += [int(capacity_gb * 1e9 / size)] if capacity_gb else []
    if min(slots) < per_stream * streams:
        need = per_stream * streams
        raise ValueError(
            f"capacity_gb {capacity_gb} holds {min(slots)} chunks of {chunk_length} steps, {streams} streams need "
            f"{need}; allow at least {need * size / 1e9:.3g} GB, or lower chunk_length."
        )
    return Layout(
        length=length,
        chunk_length=chunk_length,
        row_bytes=row,
        latent_bytes=latent,
        capacity=capacity or min(slots) * chunk_length,
        slots=min(slots),
    )
