"""Recordings that stay in memory once read, as many as fit: small datasets are unpacked once."""

from collections.abc import Callable
from threading import Lock

from replay.step import Rows

_BYTES = 1 << 30


class Kept:
    """Recordings by number. Nothing is dropped for another: examples come in random order, so none is likelier to be
    asked for again. Safe for threads."""

    def __init__(self, nbytes: int = _BYTES) -> None:
        self._left, self._lock = nbytes, Lock()
        self._rows: dict[int, Rows] = {}

    def get(self, index: int, read: Callable[[int], Rows]) -> Rows:
        """The rows of recording `index`, from memory or by `read`."""
        with self._lock:
            if index in self._rows:
                return self._rows[index]
        rows = read(index)
        size = sum(value.nbytes for value in rows.values())
        with self._lock:
            if size <= self._left and index not in self._rows:
                self._rows[index] = rows
                self._left -= size
        return rows
