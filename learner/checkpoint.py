"""Checkpoints: a directory that is complete or absent, checked by checksum before it is used. Torch-free.

`checkpoints/<updates>/`: `model.safetensors` and `config.json` (Hugging Face hub layout), `training.safetensors`
(optimiser), `actor.safetensors`, `state.json` (counters), `replay/`, and `manifest.json` with a checksum of each file
(the replay directory carries its own).
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

MANIFEST = "manifest.json"


class DamagedCheckpointError(ValueError):
    """A file is missing or does not match its checksum."""


class Checkpoints:
    """The numbered checkpoints of a run, the newest `keep` of them, and `best` beside them."""

    def __init__(self, directory: Path, keep: int = 2):
        self.directory, self.keep = directory, keep

    def numbers(self) -> list[int]:
        """Update counts of the checkpoints there are, oldest first."""
        return sorted(int(path.name) for path in self.directory.glob("[0-9]*") if path.name.isdigit())

    def path(self, name: int | str) -> Path:
        return self.directory / (f"{name:010d}" if isinstance(name, int) else name)

    def save(
        self,
        name: int | str,
        arrays: Mapping[str, Mapping[str, np.ndarray]],
        documents: Mapping[str, Any],
        extra: Callable[[Path], None] | None = None,
    ) -> Path:
        """Write `<key>.safetensors` and `<key>.json` files, then `extra(directory)`, then rename into place.

        Raises OSError (disk full, say) and leaves the earlier checkpoints as they are.
        """
        final = self.path(name)
        fresh = self.directory / f".{final.name}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        try:
            sums = {}
            for key, group in arrays.items():
                data = save({name: np.asarray(value, order="C") for name, value in group.items()})
                sums[f"{key}.safetensors"] = _write(fresh / f"{key}.safetensors", data)
            for key, document in documents.items():
                sums[f"{key}.json"] = _write(fresh / f"{key}.json", json.dumps(document, indent=2).encode())
            if extra:
                extra(fresh)
            _write(fresh / MANIFEST, json.dumps(sums, indent=2).encode())
            _sync(fresh)
            if final.exists():  # `best` is replaced; a numbered one may be rewritten after a restart
                old = self.directory / f".{final.name}.old"
                shutil.rmtree(old, ignore_errors=True)
                final.rename(old)
                fresh.rename(final)
                shutil.rmtree(old, ignore_errors=True)
            else:
                fresh.rename(final)
            _sync(self.directory)
        except OSError:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        if isinstance(name, int):
            for number in self.numbers()[: -self.keep]:
                shutil.rmtree(self.path(number), ignore_errors=True)
        return final

    def newest(self, note: Callable[[str], None], accept: Callable[[Path], None] = lambda path: None) -> Path | None:
        """The newest whole checkpoint; a damaged one is passed over and `note`d. None if there is none at all.

        `accept` may refuse one too, by a ValueError: replay files carry checksums of their own. Raises
        DamagedCheckpointError when there are checkpoints and every one is damaged.
        """
        numbers = self.numbers()
        for number in reversed(numbers):
            try:
                verify(self.path(number))
                accept(self.path(number))
            except ValueError as error:
                note(f"{error} Trying the checkpoint before it.")
            else:
                return self.path(number)
        if numbers:
            raise DamagedCheckpointError(f"Every checkpoint in {self.directory} is damaged; start in a new logdir.")
        return None


def verify(path: Path) -> None:
    """Raises DamagedCheckpointError, naming the file, unless every file matches the manifest."""
    try:
        sums = json.loads((path / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedCheckpointError(f"Checkpoint {path} has no readable {MANIFEST} ({error}).") from error
    for name, expected in sums.items():
        try:
            actual = hashlib.sha256((path / name).read_bytes()).hexdigest()
        except OSError as error:
            raise DamagedCheckpointError(f"Checkpoint file {path / name} cannot be read ({error}).") from error
        if actual != expected:
            raise DamagedCheckpointError(f"Checkpoint file {path / name} is damaged: its checksum differs.")


def disk_is_full(error: OSError) -> bool:
    """Whether a write failed for want of space."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The content of a `.safetensors` file."""
    return load(path.read_bytes())


def read_document(path: Path) -> Any:
    """The content of a `.json` file."""
    return json.loads(path.read_text())


def _write(path: Path, data: bytes) -> str:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
