"""Reading checkpoint directories: their files, checksums and locations. Torch-free."""

import hashlib
import json
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

MANIFEST = "manifest.json"
MODEL_CONFIG, WEIGHTS = "config.json", "model.safetensors"  # of the Hugging Face hub
RUN_CONFIG, CHECKPOINTS = "config.yaml", "checkpoints"  # in a run's directory
BEST = "best"  # in its checkpoints: the policy with the best evaluation score
WORLD = "dynamics"  # in the directory of `nexus pretrain genie`: the run whose model is the whole world


class DamagedCheckpointError(ValueError):
    """A file is missing or does not match its checksum."""


def verify(path: Path, names: Collection[str] = ()) -> None:
    """Check `names` (default: every file in the manifest) against the checksums in the manifest.

    DamagedCheckpointError names the file that is missing or differs.
    """
    try:
        sums = json.loads((path / MANIFEST).read_bytes())
        if not (isinstance(sums, dict) and sums):
            raise ValueError("it lists no files")
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedCheckpointError(f"Checkpoint {path} has no readable {MANIFEST} ({error}).") from error
    for name in names or sums:
        if hashlib.sha256(_read(path / name)).hexdigest() != sums.get(name):
            raise DamagedCheckpointError(f"Checkpoint file {path / name} is damaged: its checksum differs.")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in a `.safetensors` file. DamagedCheckpointError if it cannot be read."""
    try:
        return load(_read(path))
    except SafetensorError as error:
        raise DamagedCheckpointError(f"Checkpoint file {path} is damaged: {error}.") from error


def read_document(path: Path) -> Any:
    """The content of a `.json` file. DamagedCheckpointError if it cannot be read."""
    try:
        return json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpointError(f"Checkpoint file {path} is damaged: {error}.") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DamagedCheckpointError(f"Checkpoint file {path} cannot be read ({error}).") from error


def numbered(directory: Path) -> list[Path]:
    """The numbered checkpoints in `directory`, oldest first. ValueError if it cannot be read."""
    try:
        names = [name for name in os.listdir(directory) if name.isdecimal()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ValueError(
            f"{directory} cannot be read: {error.strerror}. Give this user permission to read it."
        ) from error
    return [directory / name for name in sorted(names, key=int)]


def find_model(path: Path) -> Path:
    """The checkpoint at `path`: that directory itself, or the best or else newest checkpoint of a run directory.

    ValueError if there is none, or if a directory cannot be read.
    """
    checkpoints = path / CHECKPOINTS
    old = checkpoints / f".{BEST}.old"  # the best one, if saving a better one was killed
    newest_first = reversed(numbered(checkpoints) if checkpoints.is_dir() else [])
    for folder in (path, checkpoints / BEST, old, *newest_first, *reversed(numbered(path / WORLD / CHECKPOINTS))):
        if (folder / WEIGHTS).exists() and (folder / MODEL_CONFIG).exists():
            return folder
    raise _no_model(path)


def _no_model(path: Path) -> ValueError:
    remedy = "give a run directory or one of its checkpoints."
    if not path.is_dir():
        return ValueError(f"{path} is {'a file' if path.exists() else 'no directory'}; {remedy}")
    lacking = [name for name in (WEIGHTS, MODEL_CONFIG) if not (path / name).exists()]
    return ValueError(f"No {' and no '.join(lacking)} under {path}; {remedy}")


def newest_model(path: Path) -> Path:
    """The checkpoint at `path`: that directory itself, or the newest of a run. ValueError: there is none."""
    runs = (path, path / WORLD)
    for folder in (path, *(found for run in runs for found in reversed(numbered(run / CHECKPOINTS)))):
        if (folder / WEIGHTS).exists() and (folder / MODEL_CONFIG).exists():
            return folder
    raise _no_model(path)


def intact_beside(folder: Path) -> Path | None:
    """Another checkpoint of the same run with an intact policy, the best or else the newest; None if there is none."""
    return _intact((folder.parent / BEST, *reversed(numbered(folder.parent))), folder)


def intact_numbered(folder: Path) -> Path | None:
    """The newest other numbered checkpoint of the same run with an intact model; None if there is none."""
    return _intact(reversed(numbered(folder.parent)), folder)


def _intact(others: Iterable[Path], folder: Path) -> Path | None:
    for other in others:
        if other.name != folder.name:
            with suppress(DamagedCheckpointError):
                verify(other, (MODEL_CONFIG, WEIGHTS))
                return other
    return None


def run_of(folder: Path) -> Path:
    """The run directory that contains a checkpoint; ValueError if there is none."""
    for parent in (folder, *folder.resolve().parents):
        if (parent / RUN_CONFIG).exists():
            return parent
    raise ValueError(f"{folder} is not inside a run directory: no {RUN_CONFIG} above it defines the task.")
