"""The files of a checkpoint directory and the manifest of their checksums, for everyone who reads one. Torch-free."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

MANIFEST = "manifest.json"


class DamagedCheckpointError(ValueError):
    """A file is missing or does not match its checksum."""


def verify(path: Path, names: Collection[str] = ()) -> None:
    """Raises DamagedCheckpointError, naming the file, unless the files (all, or these) match the manifest."""
    try:
        sums = json.loads((path / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedCheckpointError(f"Checkpoint {path} has no readable {MANIFEST} ({error}).") from error
    for name in names or sums:
        if hashlib.sha256(_read(path / name)).hexdigest() != sums.get(name):
            raise DamagedCheckpointError(f"Checkpoint file {path / name} is damaged: its checksum differs.")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The content of a `.safetensors` file. DamagedCheckpointError where it cannot be read."""
    try:
        return load(_read(path))
    except SafetensorError as error:
        raise DamagedCheckpointError(f"Checkpoint file {path} is damaged: {error}.") from error


def read_document(path: Path) -> Any:
    """The content of a `.json` file. DamagedCheckpointError where it cannot be read."""
    try:
        return json.loads(_read(path))
    except ValueError as error:
        raise DamagedCheckpointError(f"Checkpoint file {path} is damaged: {error}.") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DamagedCheckpointError(f"Checkpoint file {path} cannot be read ({error}).") from error
