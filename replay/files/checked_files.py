"""Reads the safetensors files of a checkpoint; each is verified against its checksum when it is first read."""

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from replay.files.mapped import map_file


class DamagedError(ValueError):
    """A file does not hold what was written."""


class CheckedFiles:
    """`files` has the sizes and CRC-32 from index.json. All files are opened at once, so that a run may prune the
    checkpoint meanwhile. A damaged file is an error only when it is read."""

    def __init__(self, directory: Path, files: Mapping[str, Mapping[str, int]]) -> None:
        self._files = files
        self.damaged: dict[str, str] = {}
        """What is wrong with each damaged file found so far."""
        self._open: dict[str, tuple[np.ndarray, Any]] = {}
        self._checked: set[str] = set()
        for name, expected in files.items():
            try:
                self._open[name] = _map(directory / name, expected["bytes"]), safe_open(directory / name, "numpy")
            except (OSError, ValueError, SafetensorError) as error:
                self.damaged[name] = f"{name} cannot be read: {error}"

    def rows(self, name: str) -> int | None:
        """Length of the arrays' first axis; None if that is not known."""
        if name not in self._open:
            return None
        file = self._open[name][1]
        return int(file.get_slice(next(iter(file.keys()))).get_shape()[0])

    def unchecked(self, name: str, key: str, crc: int) -> np.ndarray:
        """An array with a CRC-32 of its own, without reading the rest of its file; empty if it is damaged."""
        try:
            array: np.ndarray = self._open[name][1].get_tensor(key)
        except (KeyError, SafetensorError):
            array = np.empty(0)
        if zlib.crc32(array.tobytes()) != crc:
            self.damaged.setdefault(name, f"{name} is damaged: its {key} do not match their CRC-32")
            return array[:0]
        return array

    def is_whole(self, name: str) -> bool:
        """Whether a file is intact."""
        self._check(name)
        return name not in self.damaged

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """All arrays of a file; DamagedError."""
        file = self._whole(name)
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118

    def part(self, name: str, key: str, *where: int | slice) -> np.ndarray:
        """A part of one array; DamagedError."""
        part: np.ndarray = self._whole(name).get_slice(key)[where]
        return part

    def check_all(self) -> None:
        """Verify every file, so that `damaged` is complete."""
        for name in self._files:
            self._check(name)

    def close(self) -> None:
        self._open.clear()

    def _whole(self, name: str) -> Any:
        if not self.is_whole(name):
            raise DamagedError(self.damaged[name])
        return self._open[name][1]

    def _check(self, name: str) -> None:
        if name in self.damaged or name in self._checked:
            return
        found, expected = zlib.crc32(self._open[name][0].data), self._files[name]["crc32"]
        if found == expected:
            self._checked.add(name)
        else:
            self.damaged[name] = f"{name} has the CRC-32 {found}, expected {expected}"


def _map(path: Path, nbytes: int) -> np.ndarray:
    """A file's bytes; ValueError: it has more or fewer."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if (size := os.fstat(file).st_size) != nbytes:
            raise ValueError(f"it has {size} bytes, expected {nbytes}")
        return map_file(file, nbytes)
    finally:
        os.close(file)
