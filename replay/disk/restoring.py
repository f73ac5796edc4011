"""Restoring a checkpoint: unpacked beside the store's chunks first, so that a failure leaves the store as it was."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from replay.disk.chunk_files import Chunk, ChunkFiles
from replay.disk.disk_checkpoint import unpack


class Restoring:
    """The folder `restoring` beside a store's chunks; a process that was killed may have left one."""

    def __init__(self, files: ChunkFiles) -> None:
        self._files, self._folder = files, files.directory.parent / "restoring"

    def discard(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def unpack(self, directory: Path, content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> list[Chunk]:
        """The chunks of a checkpoint, with their files in the folder. OSError: there is no room for both states."""
        self._folder.mkdir()
        try:
            aside = ChunkFiles(self._folder, self._files.schema, self._files.chunk_length)
            return unpack(directory, aside, content, arrays)
        except BaseException as error:
            self.discard()
            if not isinstance(error, OSError):
                raise
            raise OSError(
                error.errno,
                f"{error.strerror}: replay {self._files.directory.parent} cannot restore {directory} and keeps "
                "what it holds; free some space",
            ) from error

    def move_in(self) -> None:
        """Move the files to where the store's own were, which must be gone."""
        for path in self._folder.iterdir():
            path.rename(self._files.directory / path.name)
        self._folder.rmdir()
