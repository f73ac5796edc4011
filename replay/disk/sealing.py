"""Writes full chunks to files in the background, and removes the files of evicted ones.

A chunk stays in memory until it is safe; if too many wait, appending waits too. The thread lives as long as there is
work: none outlives a store that nobody uses, and a process that ends writes its full chunks first.
"""

import errno
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Literal, TypeVar

import numpy as np

from replay.disk.chunk_files import Chunk, ChunkFiles, Header
from replay.disk.manifest import Manifest
from replay.files.whole_file import sync_directory

T = TypeVar("T")
Job = tuple[Literal["seal", "keep", "drop", "lose", "wipe"], Chunk | None]
_BATCH = 16  # chunks that share the syncs of directory and manifest
_AGAIN = 1.0  # seconds before failed work is retried


class Sealer:
    """Does jobs in order: `seal` a full chunk, `keep` one that is filling, `drop` an evicted one, `lose` a damaged one,
    `wipe` all.

    `settled(chunk)` is called when a chunk's latents are in a file, `sealed(chunk)` when the chunk is safe.
    `copied(chunk)` returns what to write of a chunk to keep it, None if it was evicted or is full by now. `evict()` is
    called when the disk is full: it evicts the oldest chunk that has files, and returns False if there is none.
    `counts()` returns what goes into the manifest.
    """

    def __init__(
        self,
        files: ChunkFiles,
        manifest: Manifest,
        *,
        waiting: int,
        settled: Callable[[Chunk], None],
        sealed: Callable[[Chunk], None],
        copied: Callable[[Chunk], tuple[Header, np.ndarray] | None],
        evict: Callable[[], bool],
        counts: Callable[[], dict[str, int]],
        note: Callable[[str], None],
    ) -> None:
        self.files, self.manifest, self.limit = files, manifest, waiting
        self._settled, self._sealed, self._copied = settled, sealed, copied
        self._evict, self._counts, self._note = evict, counts, note
        self.serial = max((header.serial for header in manifest.content.chunks.values()), default=0)
        self._jobs: deque[Job] = deque()
        self._waiting = 0  # chunks in memory that are to be sealed
        self._running = False
        self._error: Exception | None = None
        self._again = 0.0
        self._changed = threading.Condition()
        self._full = 0  # chunks evicted since the disk was full
        self._in_vain = False  # the last one freed no space: a checkpoint links to its rows
        self._keeps = True  # the last open chunks were kept

    def submit(self, kind: Literal["seal", "keep", "drop", "lose", "wipe"], chunk: Chunk | None = None) -> None:
        with self._changed:
            self._jobs.append((kind, chunk))
            self._waiting += kind == "seal"
            if self._error is None or time.monotonic() >= self._again:
                self._start()

    def keep(self, chunks: list[Chunk]) -> None:
        """Have chunks written as they are when their turn comes, except those that wait for it already."""
        with self._changed:
            waiting = {chunk for kind, chunk in self._jobs if kind == "keep"}
        for chunk in chunks:
            if chunk not in waiting:
                self.submit("keep", chunk)

    def wait_for_room(self, timeout: float) -> None:
        """Return once fewer chunks wait than may; OSError: they cannot be written; TimeoutError."""
        with self._changed:
            if self._waiting < self.limit:
                return
            self._start()
            if not self._changed.wait_for(lambda: self._waiting < self.limit or not self._running, timeout):
                raise TimeoutError(
                    f"Appending to replay {self.files.directory.parent} waited {timeout:g} s, and {self._waiting} full "
                    "chunks are still to be written: is the disk too slow, or does it hang?"
                )
            if self._waiting >= self.limit:
                self._raise()

    def drain(self, timeout: float = 600.0) -> None:
        """Return once everything is written; OSError: it cannot be; TimeoutError."""
        with self._changed:
            self._start()
            if not self._changed.wait_for(lambda: not self._running, timeout):
                raise TimeoutError(
                    f"Replay {self.files.directory.parent}: {len(self._jobs)} chunks were not written or removed "
                    f"within {timeout:g} s: is the disk too slow, or does it hang?"
                )
            if self._jobs:
                self._raise()

    def adopt(self, chunks: list[Chunk], keep: bool) -> None:
        """List chunks whose files exist already, and `keep` those that are filling at once: until they are, they are
        in the checkpoint alone. There must be no jobs."""
        listed = [chunk for chunk in chunks if chunk.sealed and not chunk.damaged]
        self.manifest.seal([self.files.header_of(chunk) for chunk in listed], self._counts())
        self.serial = max((chunk.serial for chunk in listed), default=self.serial)
        if keep:
            self.keep([chunk for chunk in chunks if not chunk.filed])

    def _raise(self) -> None:
        error = self._error
        assert error is not None, "jobs are left, and nothing failed"
        if isinstance(error, OSError):
            remedy = "free some space" if is_full(error) else "check the disk"
            raise OSError(
                error.errno,
                f"{error.strerror}: replay {self.files.directory.parent} cannot write its full chunks: {self._waiting} "
                f"wait in memory, and evicting older ones frees no space; {remedy}, and it continues.",
            ) from error
        raise error

    def _say(self, line: str) -> None:
        with suppress(Exception):  # a log that cannot be written must not keep steps from their files
            self._note(line)

    def _start(self) -> None:
        if self._jobs and not self._running:
            self._running = True
            threading.Thread(target=self._work, name="replay-sealer").start()

    def _work(self) -> None:
        while jobs := self._take():
            try:
                self._do(jobs)
                error = None
            except Exception as problem:
                error = problem
            with self._changed:
                if error is None:
                    self._waiting -= sum(kind == "seal" for kind, _ in jobs)
                else:
                    self._jobs.extendleft(reversed(jobs))
                    self._running, self._again = False, time.monotonic() + _AGAIN
                before, self._error = self._error, error
                self._changed.notify_all()
            if error is not None and before is None:
                self._say(
                    f"Replay {self.files.directory.parent} cannot write its full chunks; they wait in memory: {error}."
                )
            elif before is not None and error is None:
                self._say(f"Replay {self.files.directory.parent} writes its full chunks again.")
            if error is not None:
                return

    def _take(self) -> list[Job]:
        """The next jobs, a `wipe` on its own; after an empty list the thread ends."""
        with self._changed:
            jobs: list[Job] = []
            while self._jobs and len(jobs) < _BATCH and not (jobs and "wipe" in (self._jobs[0][0], jobs[-1][0])):
                jobs.append(self._jobs.popleft())
            if not jobs:
                self._running = False
                self._changed.notify_all()
            return jobs

    def _do(self, jobs: list[Job]) -> None:
        """Do jobs; if one fails, all of them are done again."""
        if jobs[0][0] == "wipe":
            for path in self.files.directory.iterdir():
                self.files.unlink(path.name)
            self.manifest.wipe()
            self.serial = 0
            return
        self._drop([chunk for kind, chunk in jobs if kind == "drop" and chunk])
        for kind, chunk in jobs:
            if kind == "lose" and chunk:
                self.files.set_aside(f"{chunk.name}.rows")
                self.manifest.drop([chunk.id])
        self._seal([chunk for kind, chunk in jobs if kind == "seal" and chunk])
        self._keep([chunk for kind, chunk in jobs if kind == "keep" and chunk])  # a stream's older chunk is safe now

    def _drop(self, chunks: list[Chunk]) -> None:
        listed = [chunk.id for chunk in chunks if chunk.sealed]
        try:
            self.manifest.drop(listed)
            listed = []
        except OSError:  # a full disk: the files make room for it
            pass
        for chunk in chunks:
            self.files.remove(chunk)
        with suppress(OSError):  # opening finds that the files are gone
            self.manifest.drop(listed)

    def _seal(self, chunks: list[Chunk]) -> None:
        written = []
        for chunk in chunks:
            if not (chunk.dropped or chunk.sealed):
                self.serial += 1
                chunk.serial, chunk.touched = self.serial, False
                self._with_room(lambda chunk=chunk: self.files.write(chunk))  # type: ignore[misc]
                self._settled(chunk)
                written.append(chunk)
        written = [chunk for chunk in written if not chunk.dropped]  # by _with_room: their files are gone
        if written:
            self.files.publish(written)
            headers = [self.files.header_of(chunk) for chunk in written]
            self._with_room(lambda: self.manifest.seal(headers, self._counts()))
        for chunk in written:
            self._sealed(chunk)
            self.files.unlink(f"{chunk.name}.open")
        self._drop([chunk for chunk in written if chunk.dropped])  # perhaps before its files were there

    def _keep(self, chunks: list[Chunk]) -> None:
        """An error is reported, not raised: there will be another attempt, with newer steps."""
        error, kept = None, False
        for chunk in chunks:
            if copied := self._copied(chunk):
                try:
                    self._with_room(partial(self.files.write_open, *copied), evictions=0 if error else 1)
                    chunk.kept, kept = copied[0].stop, True
                except OSError as problem:
                    error = problem
                if chunk.dropped:  # by _with_room, perhaps before its file was there
                    self.files.unlink(f"{chunk.name}.open")
        try:
            if kept:
                sync_directory(self.files.directory)
                self.manifest.end({}, self._counts())
        except OSError as problem:
            error = problem
        if error and self._keeps:
            self._say(
                f"Replay {self.files.directory.parent} cannot keep its open chunks; a kill would lose them: {error}."
            )
        elif kept and not error and not self._keeps:
            self._say(f"Replay {self.files.directory.parent} keeps its open chunks again.")
        if kept or error:
            self._keeps = not error

    def _with_room(self, write: Callable[[], T], evictions: float = math.inf) -> T:
        """The result of `write()`; if the disk is full, at most this many old chunks are evicted to make room."""
        while True:
            try:
                result = write()
                self._in_vain = False
                return result
            except OSError as error:
                if not (is_full(error) and evictions > 0) or self._in_vain or not self._evict():
                    raise
                with self._changed:
                    drops = [chunk for kind, chunk in self._jobs if kind == "drop" and chunk]
                    self._jobs = deque(job for job in self._jobs if job[0] != "drop")
                self._in_vain = all(map(self.files.is_shared, drops))
                self._drop(drops)
                evictions -= 1
                count, self._full = self._full, self._full + len(drops)
                if count.bit_length() != self._full.bit_length():  # reported at 1, 2, 4, 8 ...
                    self._say(
                        f"The disk of replay {self.files.directory.parent} is full: it has evicted its {self._full} "
                        "oldest chunks so far, and continues."
                    )


def is_full(error: OSError) -> bool:
    """Whether there is no room on the disk, or none left for this user."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
