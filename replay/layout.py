"""Memory layout of steps: packed rows of one fixed stride, so that a range of steps is a range of bytes.

A row is an element of a numpy structured dtype. The fields of a step form one row, its latents another, since latents
are rewritten and only those of a sequence's first column are read. Legend: n sequences, T steps each.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from replay.step import Rows, Schema, row_count


class Batch(NamedTuple):
    """n sequences, to be filled by a store: `rows [n T]`, `latents [n]` of column 0, `keys` int64 `[n T 2]`."""

    rows: np.ndarray
    latents: np.ndarray
    keys: np.ndarray

    def part(self, start: int, stop: int) -> "Batch":
        """Sequences start .. stop - 1, sharing memory."""
        return Batch(*(array[start:stop] for array in self))


def new_batch(schema: Schema, n: int, length: int) -> Batch:
    """Memory for n sequences of `length` steps, not yet filled."""
    rows = np.empty((n, length), schema.row_dtype)
    return Batch(rows, np.empty(n, schema.latent_dtype), np.empty((n, length, 2), np.int64))


def unpack(batch: Batch) -> tuple[Rows, np.ndarray]:
    """Annotated views `{key: [n T ...]}` (latents `[n ...]`) of a filled batch, and its keys."""
    return annotate(views(batch.rows)) | views(batch.latents), batch.keys


def annotate(rows: Rows) -> Rows:
    """Mark column 0 as a start, and every step before a first one as last: an abandoned episode has ended too."""
    if "is_first" in rows:
        rows["is_first"][:, 0] = True
        if "is_last" in rows:
            rows["is_last"][:, :-1] |= rows["is_first"][:, 1:]
    return rows


def views(rows: np.ndarray) -> Rows:
    """One array per key that shares the memory of packed rows."""
    return {key: rows[key] for key in rows.dtype.names or ()}


def raw(rows: np.ndarray) -> np.ndarray:
    """Packed rows as plain bytes of the same stride: numpy would copy a structured element field by field."""
    return rows.view(np.dtype((np.void, rows.dtype.itemsize))) if rows.dtype.itemsize else rows


class PackedRows(Mapping[str, np.ndarray]):
    """Rows `{key: [n ...]}` that are packed already, as `rows [n]` and `latents [n]` of a schema's dtypes, and both as
    plain bytes, `raw`."""

    __slots__ = ("latents", "raw", "rows")

    def __init__(self, rows: np.ndarray, latents: np.ndarray) -> None:
        self.rows, self.latents, self.raw = rows, latents, (raw(rows), raw(latents))

    def __getitem__(self, key: str) -> np.ndarray:
        names = self.rows.dtype.names
        return self.rows[key] if names and key in names else self.latents[key]

    def __iter__(self) -> Iterator[str]:
        yield from (*(self.rows.dtype.names or ()), *(self.latents.dtype.names or ()))

    def __len__(self) -> int:
        return len(self.rows.dtype.names or ()) + len(self.latents.dtype.names or ())


def pack_rows(schema: Schema, rows: Mapping[str, np.ndarray]) -> PackedRows:
    """Rows `{key: [n ...]}` of a schema, packed if they are not yet, padding included."""
    if isinstance(rows, PackedRows) and all(
        given is own or given == own
        for given, own in ((rows.rows.dtype, schema.row_dtype), (rows.latents.dtype, schema.latent_dtype))
    ):
        return rows
    n = row_count(rows)
    return PackedRows(pack(schema.row_dtype, rows, n), pack(schema.latent_dtype, rows, n))


def pack(dtype: np.dtype, rows: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """Rows `{key: [n ...]}` packed as `[n]` of `dtype`; keys that it does not have are dropped."""
    out = np.zeros(n, dtype)  # zeros: padding bytes must not differ between equal rows
    for key in dtype.names or ():
        out[key] = rows[key]
    return out
