"""Files of checkpoint directories: synced, and with size and CRC-32 in an index.json that has a CRC-32 of itself."""

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as decode

from replay.files.whole_file import synced
from replay.step import Schema

_BLOCK = 1 << 20  # bytes written and summed at a time


def write_file(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Write a new safetensors file of arrays, synced, without a copy of them; returns its entry for index.json."""
    layout: dict[str, Any] = {}
    stop = 0
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize))  # each aligned
    for key, array in arrays.items():
        start, stop = stop, stop + array.nbytes
        kind = "BOOL" if array.dtype.kind == "b" else f"{array.dtype.kind.upper()}{8 * array.dtype.itemsize}"
        layout[key] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, stop]}
    header = json.dumps(layout).encode()
    header += b" " * (-len(header) % 8)
    contents = (np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in arrays.values())
    return _write(path, [len(header).to_bytes(8, "little") + header, *contents])


def _write(path: Path, contents: Iterable[bytes | memoryview]) -> dict[str, int]:
    size = crc = 0
    with synced(path) as file:  # a new one: never through a hard link into an older checkpoint
        for content in contents:
            for i in range(0, len(content), _BLOCK):
                block = content[i : i + _BLOCK]
                file.write(block)
                size, crc = size + len(block), zlib.crc32(block, crc)
    return {"bytes": size, "crc32": crc}


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


def signed(content: Mapping[str, Any]) -> bytes:
    """The content of an index.json, with a checksum of its own."""
    with_sum = {**content, "crc32": zlib.crc32(json.dumps(content).encode())}
    return json.dumps(with_sum, indent=1).encode()


def write_index(directory: Path, content: Mapping[str, Any]) -> None:
    """Write index.json, with a checksum of its own."""
    _write(directory / "index.json", [signed(content)])


def verified(directory: Path, *formats: str) -> dict[str, Any]:
    """The content of index.json; ValueError: it is damaged, or has none of these formats."""
    try:
        content: dict[str, Any] = json.loads((directory / "index.json").read_bytes())
        crc = content.pop("crc32")
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{directory} is not a complete replay checkpoint: index.json: {error}.") from error
    if zlib.crc32(json.dumps(content).encode()) != crc or content.get("format") not in formats:
        raise ValueError(f"Replay checkpoint {directory} is damaged or has another format: see its index.json.")
    return content


def verified_alike(directory: Path, schema: Schema, settings: Mapping[str, int], *formats: str) -> dict[str, Any]:
    """verified(); ValueError also if the checkpoint is of a store with another schema or other settings."""
    content = verified(directory, *formats)
    for what, here in (("schema", schema.to_json()), ("settings", dict(settings))):
        if here != content[what]:
            other = f"{'another' if what == 'schema' else 'other'} {what}"
            raise ValueError(f"Replay checkpoint {directory} has {other}: {content[what]}, this store has {here}.")
    return content
