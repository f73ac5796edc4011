"""Latents in a file that is refreshed in place: each row ends with its own checksum.

A row that a crash tore, or that was never written, does not match its checksum: it is stale, and read as zeros.
Legend: rows `[n, stride]` of bytes; the stride is that of the schema's packed latents plus 8.
"""

import zlib
from collections.abc import Mapping

import numpy as np

from replay.layout import views
from replay.step import Rows, Schema

_CRC_BYTES = 8  # four of CRC-32, four of padding, so that the next row is aligned


def stride(schema: Schema) -> int:
    """Bytes of one row; 0 if the schema has no latents."""
    return schema.latent_dtype.itemsize + _CRC_BYTES if schema.latents else 0


def packed(schema: Schema, latents: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """Rows `[n, stride]` of latents `{key: [n ...]}`, each with its checksum."""
    rows = np.empty((n, stride(schema)), np.uint8)
    if schema.latents and n:
        used = sum(field.nbytes for field in schema.latents.values())
        rows[:, used:] = 0  # padding must not differ between equal rows
        for key, target in content(schema, rows).items():
            target[:] = latents[key]
        sign(rows)
    return rows


def sign(rows: np.ndarray) -> None:
    """Write each row's checksum at its end."""
    if rows.shape[1]:
        raw, size = rows.reshape(-1).data, rows.shape[1]
        _checksums(rows)[:] = [zlib.crc32(raw[i : i + size - _CRC_BYTES]) for i in range(0, len(raw), size)]


def stale(rows: np.ndarray) -> np.ndarray:
    """Which of the rows do not match their checksums, bool `[n]`."""
    if not rows.shape[1]:
        return np.zeros(len(rows), bool)
    raw, size = rows.reshape(-1).data, rows.shape[1]
    found = [zlib.crc32(raw[i : i + size - _CRC_BYTES]) for i in range(0, len(raw), size)]
    return _checksums(rows) != np.array(found, np.uint32)


def content(schema: Schema, rows: np.ndarray) -> Rows:
    """Views `{key: [n ...]}` of contiguous rows, without their checksums."""
    if not schema.latents:
        return {}
    names = schema.latent_dtype.names
    parts = schema.latent_dtype.fields
    assert names and parts
    signed = np.dtype(
        {
            "names": list(names),
            "formats": [parts[key][0] for key in names],
            "offsets": [parts[key][1] for key in names],
            "itemsize": stride(schema),
        }
    )
    return views(rows.view(signed)[:, 0])


def _checksums(rows: np.ndarray) -> np.ndarray:
    return rows[:, -_CRC_BYTES : -_CRC_BYTES // 2].view(np.uint32)[:, 0]
