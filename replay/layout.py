"""How steps lie in memory: packed rows of one fixed stride, so that a range of steps is a range of bytes.

A row is an element of a numpy structured dtype. Fields of a step make one row, its latents another, since they are
rewritten and only those of a sequence's first column are read. Legend: n sequences, T steps each.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from replay.step import Rows, Schema


class Batch(NamedTuple):
    """n sequences as a store fills them in: `rows [n T]`, `latents [n]` of column 0, `keys` int64 `[n T 2]`."""

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
    """Mark column 0 as a start, and a last step wherever the next one is first: an abandoned episode has ended too."""
    if "is_first" in rows:
        rows["is_first"][:, 0] = True
        if "is_last" in rows:
            rows["is_last"][:, :-1] |= rows["is_first"][:, 1:]
    return rows


def views(rows: np.ndarray) -> Rows:
    """One array per key that shares the memory of packed rows."""
    return {key: rows[key] for key in rows.dtype.names or ()}


def pack(dtype: np.dtype, rows: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """Rows `{key: [n ...]}` side by side, `[n]` of `dtype`; keys that it does not have are left out."""
    out = np.zeros(n, dtype)  # zeros: padding bytes must not differ between equal rows
    for key in dtype.names or ():
        out[key] = rows[key]
    return out
