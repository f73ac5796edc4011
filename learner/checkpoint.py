"""Checkpoints: a directory that is complete or absent, checked by checksum before it is used. Torch-free.

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
    """The numbered checkpoints of a run, the newest `keep` of them, and `best` beside them."""

    def __init__(self, directory: Path, keep: int = 2):
        self.directory, self.keep = directory, keep
        self._saved = time.monotonic()

    @classmethod
    def of(cls, logdir: Path, keep: int = 2) -> "Checkpoints":
        """Those of the run in `logdir`."""
        return cls(logdir / CHECKPOINTS, keep)

    def due(self, updates: int, every: int, seconds: float) -> bool:
        """Whether to save after so many updates: after each `every`, and `seconds` after the last save (0: never)."""
        return updates % every == 0 or 0 < seconds <= time.monotonic() - self._saved

    def numbers(self) -> list[int]:
        """Update counts of the checkpoints there are, oldest first. ValueError where the directory cannot be read."""
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

        Raises OSError (disk full, say) and leaves the earlier checkpoints as they are.
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
                # Renamed first: whoever reads at the same time finds a whole checkpoint or none.
                gone = self.path(number).rename(self.directory / f".{number}.gone")
                shutil.rmtree(gone, ignore_errors=True)
            self._saved = time.monotonic()
        return final

    def _remove_leftovers(self, names: str) -> None:
        """Of killed writers of checkpoints with these names; a writer of others may be at work."""
        recover(self.directory, names)
        remove_unfinished(self.directory, names)
        for path in self.directory.glob(f".{names}.gone"):
            shutil.rmtree(path, ignore_errors=True)

    def newest(self, note: Callable[[str], None], accept: Callable[[Path], None] = lambda path: None) -> Path | None:
        """The newest whole checkpoint; a damaged one is passed over, `note`d and renamed. None if there is none at all.

        `accept` may refuse one too, by a ValueError: replay files carry checksums of their own. Raises
        NoWholeCheckpointError when there are checkpoints and every one is damaged, UnknownModelError for a model that
        this version does not read.
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
                raise  # intact, so not to be set aside
            except ValueError as error:
                if path.exists():  # else it was pruned under our eyes
                    note(f"{error} Trying the checkpoint before it.")
                    damaged.append(path)
            else:
                for bad in damaged:
                    _set_aside(bad)
                return path
        if damaged:
            raise NoWholeCheckpointError(f"Every checkpoint in {self.directory} is damaged; start in a new logdir.")
        return None


def _set_aside(path: Path) -> None:
    """Rename to `.damaged`: training goes on below its number, which must neither count nor be continued from."""
    target = path.with_name(f"{path.name}.damaged")
    shutil.rmtree(target, ignore_errors=True)
    with suppress(FileNotFoundError):  # another process was faster
        path.rename(target)


def continuation(newest: int) -> str:
    """What the same command does after a run that stopped unsaved; `newest`: updates of its newest checkpoint, -1 where
    there is none."""
    if newest < 0:
        return "begins anew, since there is no checkpoint yet"
    return f"continues from the checkpoint of update {newest:,}"


def disk_is_full(error: OSError) -> bool:
    """Whether a write failed for want of space."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _write(path: Path, data: bytes) -> str:
    with synced(path) as file:
        file.write(data)
    return hashlib.sha256(data).hexdigest()
