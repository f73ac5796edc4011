"""Checkpoints: directories that are complete or absent, verified by checksums before use. Torch-free.

`checkpoints/<updates>/`: `model.safetensors` and `config.json` (Hugging Face hub layout), `training.safetensors`
(optimiser), `actor.safetensors`, `state.json` (counters), `replay/`, and `manifest.json` with a checksum of each file
(the replay directory carries its own).
"""

import errno
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from replay.files.new_directory import new_directory, recover, remove_unfinished
from replay.files.whole_file import synced
from world_models.checkpoint_files import (
    CHECKPOINTS,
    MANIFEST,
    MODEL_CONFIG,
    DamagedCheckpointError,
    numbered,
    read_arrays,
    read_document,
    verify,
)
from world_models.families import UnknownModelError
from world_models.model_document import read_family

__all__ = [
    "Checkpoints",
    "DamagedCheckpointError",
    "NoWholeCheckpointError",
    "continuation",
    "disk_is_full",
    "read_arrays",
    "read_document",
    "verify",
]

NUMBERED = "[0-9]*"


class NoWholeCheckpointError(DamagedCheckpointError):
    """Every checkpoint of a run is damaged."""


class Checkpoints:
    """The newest `keep` numbered checkpoints of a run, and `best`."""

    def __init__(self, directory: Path, keep: int = 2):
        self.directory, self.keep = directory, keep
        self._saved = time.monotonic()

    @classmethod
    def of(cls, logdir: Path, keep: int = 2) -> "Checkpoints":
        """The checkpoints of the run in `logdir`."""
        return cls(logdir / CHECKPOINTS, keep)

    def due(self, updates: int, every: int, seconds: float) -> bool:
        """Whether to save after `updates` updates: every `every`, and `seconds` after the last save (0: never)."""
        return updates % every == 0 or 0 < seconds <= time.monotonic() - self._saved

    def numbers(self) -> list[int]:
        """Update counts of the existing checkpoints, oldest first. ValueError if the directory cannot be read."""
        return [int(path.name) for path in numbered(self.directory)]

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

        Raises OSError, for example if the disk is full; earlier checkpoints are then unchanged.
        """
        final = self.path(name)
        self._remove_leftovers(NUMBERED if isinstance(name, int) else final.name)
        with new_directory(final, replace=True) as fresh:  # a numbered one may be rewritten after a restart
            sums = {}
            for key, group in arrays.items():
                data = save({name: np.asarray(value, order="C") for name, value in group.items()})
                sums[f"{key}.safetensors"] = _write(fresh / f"{key}.safetensors", data)
            for key, document in documents.items():
                sums[f"{key}.json"] = _write(fresh / f"{key}.json", json.dumps(document, indent=2).encode())
            if extra:
                extra(fresh)
            _write(fresh / MANIFEST, json.dumps(sums, indent=2).encode())
        if isinstance(name, int):
            others = [number for number in self.numbers() if number != name]
            for number in others[: 1 - self.keep or None]:
                # Renamed first, so that a concurrent reader finds a complete checkpoint or none.
                gone = self.path(number).rename(self.directory / f".{number}.gone")
                shutil.rmtree(gone, ignore_errors=True)
            self._saved = time.monotonic()
        return final

    def _remove_leftovers(self, names: str) -> None:
        """Remove what killed writers of checkpoints with these names left; writers of others may be at work."""
        recover(self.directory, names)
        remove_unfinished(self.directory, names)
        for path in self.directory.glob(f".{names}.gone"):
            shutil.rmtree(path, ignore_errors=True)

    def newest(self, note: Callable[[str], None], accept: Callable[[Path], None] = lambda path: None) -> Path | None:
        """The newest intact checkpoint; None if there are no checkpoints. Damaged ones are skipped, renamed and
        reported by `note`.

        `accept` may reject one too by a ValueError, since replay files have their own checksums. Raises
        NoWholeCheckpointError if all checkpoints are damaged, UnknownModelError for a model that this version cannot
        read.
        """
        recover(self.directory, NUMBERED)
        damaged: list[Path] = []
        for number in reversed(self.numbers()):
            path = self.path(number)
            try:
                verify(path)
                if (path / MODEL_CONFIG).exists():
                    read_family(path)
                accept(path)
            except UnknownModelError:
                raise  # intact, so not set aside
            except ValueError as error:
                if path.exists():  # else it was pruned in the meantime
                    note(f"{error} Trying the previous checkpoint.")
                    damaged.append(path)
            else:
                for bad in damaged:
                    _set_aside(bad)
                return path
        if damaged:
            raise NoWholeCheckpointError(f"Every checkpoint in {self.directory} is damaged; start in a new logdir.")
        return None


def _set_aside(path: Path) -> None:
    """Rename to `.damaged`: training continues below its number, which must no longer count as a checkpoint."""
    target = path.with_name(f"{path.name}.damaged")
    shutil.rmtree(target, ignore_errors=True)
    with suppress(FileNotFoundError):  # another process was faster
        path.rename(target)


def continuation(newest: int) -> str:
    """What the same command does after a run that stopped without saving; `newest`: updates of its newest checkpoint,
    -1 if there is none."""
    if newest < 0:
        return "starts over, since there is no checkpoint yet"
    return f"continues from the checkpoint of update {newest:,}"


def disk_is_full(error: OSError) -> bool:
    """Whether a write failed for lack of space."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _write(path: Path, data: bytes) -> str:
    with synced(path) as file:
        file.write(data)
    return hashlib.sha256(data).hexdigest()
