"""New lines of a log that another process writes, cuts and replaces."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from replay.files.regular_file import open_regular

_CHUNK = 8 << 20  # bytes
_MARK = 64  # bytes before the cursor that must still be the same


class News(NamedTuple):
    """What a look at the file found."""

    anew: bool
    """The file has been cut or replaced: what was read before no longer counts."""
    lines: list[dict[str, Any]]


class Tail:
    """A cursor in a `.jsonl` file. A last line that is still being written is read once it is complete; lines that are
    no JSON objects are counted as `damaged` and left out."""

    def __init__(self, path: Path):
        self.path, self.damaged = path, 0
        self._offset, self._inode, self._mark = 0, 0, b""

    def read(self) -> News:
        """The lines since the last call."""
        try:
            about = os.stat(self.path)
            if about.st_ino == self._inode and about.st_size == self._offset and self._offset == 0:
                return News(False, [])
            with open_regular(self.path) as file:
                anew = self._offset > 0 and not self._unchanged(file.fileno(), about)
                if anew:
                    self._reset()
                self._inode = about.st_ino
                return News(anew, self._new_lines(file.fileno()) if about.st_size > self._offset else [])
        except OSError:  # gone, or out of reach for a moment
            anew = self._offset > 0 and not self.path.exists()
            if anew:
                self._reset()
            return News(anew, [])

    def _unchanged(self, descriptor: int, about: os.stat_result) -> bool:
        if about.st_ino != self._inode or about.st_size < self._offset:
            return False
        return os.pread(descriptor, len(self._mark), self._offset - len(self._mark)) == self._mark

    def _reset(self) -> None:
        self._offset, self._mark, self.damaged = 0, b"", 0

    def _new_lines(self, descriptor: int) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = []
        rest = b""
        while chunk := os.pread(descriptor, _CHUNK, self._offset + len(rest)):
            whole, newline, rest = (rest + chunk).rpartition(b"\n")
            if newline:
                self._offset += len(whole) + 1
                self._mark = (self._mark + whole + newline)[-_MARK:]
                lines += self._parsed(whole)
        return lines

    def _parsed(self, data: bytes) -> list[dict[str, Any]]:
        lines = data.split(b"\n")
        try:  # at once, which is faster
            together = json.loads(b"[%b]" % b",".join(lines))
        except (ValueError, RecursionError):
            together = []
        if len(together) == len(lines) and all(type(line) is dict for line in together):
            return together
        found = []
        for text in lines:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                self.damaged += 1
                continue
            if isinstance(line, dict):
                found.append(line)
            else:
                self.damaged += 1
        return found
