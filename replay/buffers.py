"""Reused memory: fresh memory costs a page fault per 4 kB, which takes longer than copying into it."""

import weakref

import numpy as np


class Buffers:
    """Arrays of one size; an array's memory is reused after the last view of it is gone."""

    def __init__(self, rows: int, stride: int) -> None:
        self._shape = rows, stride
        self._free: list[np.ndarray] = []

    def take(self) -> np.ndarray:
        """Bytes `[rows, stride]`, zeros or left over from an earlier use."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.zeros(self._shape, np.uint8)
        array = np.frombuffer(memory.data, np.uint8)  # all views are of this array
        weakref.finalize(array, self._free.append, memory).atexit = False
        return array.reshape(self._shape)
