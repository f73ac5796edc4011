"""Packed values of steps by address, and which checkpoint file has the current value of each.

A checkpoint holds the state of one moment and is written while the store is in use: chunks wait to be copied, one at a
time, and whoever replaces a value in a waiting chunk keeps the old one for the checkpoint. Legend: C steps a chunk.
"""

from typing import NamedTuple

import numpy as np

from replay.layout import views
from replay.reserved import reserve
from replay.step import Rows


class Part(NamedTuple):
    """The steps of one chunk that a store held at the moment of the checkpoint."""

    stream: int
    first: int
    """Id of its first step."""
    address: int
    n: int


class Tracked:
    """Values `[slots * C]` of one kind: rows, latents or priorities.

    `file[address]` is the number of the file with the step's value, 0 if none has it. All methods but `count`,
    `wanting` and `arrays` need the store's lock.
    """

    def __init__(self, values: np.ndarray, chunk_length: int) -> None:
        self.values = values
        self.file = reserve((len(values),), np.dtype(np.int32))
        self.stride = values.dtype.itemsize
        self._bytes = values.view(np.uint8).reshape(len(values), self.stride)
        self._length = chunk_length
        self._never = bytes(len(values) // chunk_length)
        self._waiting = bytearray(self._never)  # by slot
        self._kept: dict[int, list[tuple[int, np.ndarray]]] = {}
        """Of waiting chunks: place and old bytes of each replacement, in order."""
        self._aside: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        """Copies of chunks that had to be made early."""
        self._linked: np.ndarray | None = None

    # --- called when values change

    def replace(self, address: int, count: int) -> None:
        """These values, which lie in one chunk, are about to be replaced."""
        slot = address // self._length
        if self._waiting[slot]:
            kept = self._kept.setdefault(slot, [])
            kept.append((address - slot * self._length, self._bytes[address : address + count].copy()))
            if sum(len(old) for _, old in kept) > self._length:  # more memory than a copy of the chunk
                self._aside[slot] = self._take(slot)
        self.file[address : address + count] = 0

    def vacate(self, slot: int) -> None:
        """The chunk in this slot was evicted; another will take its place."""
        if self._waiting[slot]:
            self._aside[slot] = self._take(slot)
        self.file[slot * self._length : (slot + 1) * self._length] = 0

    # --- called while a checkpoint is written

    def hold(self) -> None:
        """The moment of a checkpoint: from now on all chunks wait to be copied."""
        self._waiting = bytearray(b"\1") * len(self._never)

    def hold_only(self, parts: list[Part], linked: np.ndarray) -> None:
        """Only the chunks of these parts still wait, for the values that no `linked` file has (bool `[files]`)."""
        slots = {part.address // self._length for part in parts}
        still = bytearray(self._never)
        for slot in slots:
            still[slot] = self._waiting[slot]
        self._waiting, self._linked = still, linked
        self._kept = {slot: self._kept[slot] for slot in self._kept.keys() & slots}
        self._aside = {slot: self._aside[slot] for slot in self._aside.keys() & slots}

    def copy(self, part: Part, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Which of a part's steps go into file `number`, bool `[n]`, and the values of all as bytes `[n, stride]`."""
        slot, place = divmod(part.address, self._length)
        if slot in self._aside:
            wanted, values = self._aside.pop(slot)
        else:
            changed = [(place, len(old)) for place, old in self._kept.get(slot, ())]
            wanted, values = self._take(slot)
            file = self.file[slot * self._length : (slot + 1) * self._length]
            file[place : place + part.n][wanted[place : place + part.n]] = number
            for first, count in changed:
                file[first : first + count] = 0
        return wanted[place : place + part.n], values[place : place + part.n]

    def release_all(self) -> None:
        """No chunk waits any more."""
        self._waiting, self._kept, self._aside, self._linked = bytearray(self._never), {}, {}, None

    def count(self, parts: list[Part], numbers: int) -> np.ndarray:
        """How many of these steps each file has, `[numbers]`."""
        counts = np.zeros(numbers, np.int64)
        for i in range(0, len(parts), 64):  # few enough that no call starves other threads
            files = np.concatenate([self.file[part.address : part.address + part.n] for part in parts[i : i + 64]])
            counts += np.bincount(files, minlength=numbers)
        return counts

    def wanting(self, parts: list[Part], linked: np.ndarray) -> list[int]:
        """How many of each part's steps are in none of the linked files."""
        files = (self.file[part.address : part.address + part.n] for part in parts)
        return [part.n - int(np.count_nonzero(linked[of])) for part, of in zip(parts, files, strict=True)]

    def arrays(self, values: np.ndarray) -> Rows:
        """Bytes `[n, stride]` as one array `[n, ...]` per key."""
        rows = values.view(self.values.dtype)[:, 0]
        return {key: np.ascontiguousarray(array) for key, array in (views(rows) or {"priority": rows}).items()}

    def put(self, address: int, count: int, arrays: Rows, row: int, number: int) -> None:
        """Load values of file `number`, which has them in these arrays from row `row` on."""
        here = slice(address, address + count)
        for key, array in arrays.items():
            (self.values[key] if self.values.dtype.names else self.values)[here] = array[row : row + count]
        self.file[here] = number

    def _take(self, slot: int) -> tuple[np.ndarray, np.ndarray]:
        """Which steps of a chunk to write, bool `[C]`, and its bytes `[C, stride]` at the moment of the checkpoint."""
        here = slice(slot * self._length, (slot + 1) * self._length)
        file = self.file[here]
        wanted = ~self._linked[file] if self._linked is not None else np.ones(self._length, bool)
        values = self._bytes[here].copy()
        for place, old in reversed(self._kept.pop(slot, ())):
            values[place : place + len(old)] = old
        self._waiting[slot] = 0
        return wanted, values
