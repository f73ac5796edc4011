"""Checkpoints of a memory store; each writes what the one before it lacks. See `replay.memory.checkpoint_contents`."""

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from replay.files.checkpoint import read_file, verified_alike, write_file, write_index
from replay.files.new_directory import new_directory
from replay.indexing.index import Index
from replay.indexing.index_state import IndexState, capture
from replay.indexing.tracked import Part, Tracked
from replay.memory.checkpoint_contents import FIRST, FORMAT, FORMATS, SPANS, STATE, Contents, File, file_name
from replay.step import Rows, Schema

_FILE_BYTES = 32 << 20  # of one file at most: it passes through memory as a whole
_ITEMS = 1 << 15  # copied at a time
_SMALL_BYTES = 4 << 20
_SMALL_FILES = 64  # of a kind in one checkpoint; if there are more, they are merged


@dataclass(frozen=True, kw_only=True)
class _Saved:
    """A file of the last checkpoint."""

    kind: str
    entry: dict[str, int]
    """Of index.json."""
    holds: int
    """Steps or items in it, including those evicted or replaced since."""
    first: int = 0
    """The first item in it, counted from the first one ever."""

    @property
    def small(self) -> bool:
        return self.entry["bytes"] < _SMALL_BYTES


class Lineage:
    """Saves and loads one store, and remembers which file of the last checkpoint has which of its steps and items.

    A file is linked into the next checkpoint as long as half of its steps are current; after that the current ones are
    written to a new file. So a checkpoint takes at most twice the size of the store.
    """

    def __init__(self) -> None:
        self._last: int | None = None  # descriptor of the last checkpoint's directory: it survives renaming
        self._files: dict[int, _Saved] = {}
        self._number = 0

    def save(
        self,
        directory: Path,
        about: Mapping[str, Any],
        lock: Lock,
        index: Index,
        steps: Mapping[str, Tracked],
        counters: Mapping[str, int],
    ) -> None:
        """Write the state as of when this first takes `lock`, which it later holds for one chunk at a time. `about`
        goes into index.json. One call at a time."""
        files: dict[int, _Saved] = {}
        with new_directory(directory) as part:
            since = self._link_items(part, index.evicted, files)
            items = self._items_before(index, since, lock)
            try:
                with lock:
                    now = capture(index, items[-1][0] + len(items[-1][1]) if items else since)
                    counts = {"created": now.created, "evicted": now.evicted, **counters}
                    for tracked in steps.values():
                        tracked.hold()
                parts = now.parts()
                # Planned before anything is written: values that need not be copied are not kept when replaced.
                plans = {kind: self._plan(part, kind, tracked, parts, lock, files) for kind, tracked in steps.items()}
                for kind, groups in plans.items():
                    for group in groups:
                        self._write_steps(part, kind, steps[kind], group, lock, files)
            finally:
                with lock:
                    for tracked in steps.values():
                        tracked.release_all()
            self._write_items(part, items, now, files)
            entries = {file_name(saved.kind, number): saved.entry for number, saved in files.items()}
            entries[STATE] = write_file(part / STATE, now.arrays())
            write_index(part, {"format": FORMAT, **about, "counters": counts, "number": self._number, "files": entries})
        self._files = files
        self._follow(directory)

    def _plan(
        self, part: Path, kind: str, tracked: Tracked, parts: list[Part], lock: Lock, files: dict[int, _Saved]
    ) -> list[list[Part]]:
        """Link the files that are still good; returns the parts with steps in none of them, grouped by new file."""
        counts = tracked.count(parts, self._number + 1)
        good = [n for n, saved in self._files.items() if saved.kind == kind and 2 * counts[n] >= saved.holds]
        if sum(self._files[n].small for n in good) > _SMALL_FILES:
            good = [n for n in good if not self._files[n].small]
        linked = np.zeros(self._number + 1, bool)
        for n in good:
            linked[n] = self._link(part, n, files)
        groups: list[list[Part]] = []
        room = 0
        for one, count in zip(parts, tracked.wanting(parts, linked), strict=True):
            if count and room < count:
                groups.append([])
                room = max(count, _FILE_BYTES // tracked.stride)
            if count:
                groups[-1].append(one)
                room -= count
        with lock:
            tracked.hold_only([one for group in groups for one in group], linked)
        return groups

    def _write_steps(
        self, part: Path, kind: str, tracked: Tracked, group: list[Part], lock: Lock, files: dict[int, _Saved]
    ) -> None:
        self._number += 1
        values, spans = [], []
        for one in group:
            with lock:
                wanted, there = tracked.copy(one, self._number)
            values.append(there if wanted.all() else there[wanted])
            edges = np.flatnonzero(np.diff(wanted.astype(np.int8), prepend=0, append=0))
            spans += [(one.stream, one.first + a, b - a) for a, b in edges.reshape(-1, 2).tolist()]
        arrays = tracked.arrays(np.concatenate(values)) | {SPANS: np.array(spans, np.int64)}
        entry = write_file(part / file_name(kind, self._number), arrays)
        entry["spans_crc32"] = zlib.crc32(arrays[SPANS].tobytes())
        files[self._number] = _Saved(kind=kind, entry=entry, holds=sum(n for _, _, n in spans))

    def _link_items(self, part: Path, evicted: int, files: dict[int, _Saved]) -> int:
        """Link the files of items that are still needed; returns the number of the item that follows them."""
        there = [(n, f) for n, f in self._files.items() if f.kind == "items" and f.first + f.holds > evicted]
        large = max((i + 1 for i, (_, saved) in enumerate(there) if not saved.small), default=0)
        if len(there) - large > _SMALL_FILES:
            there = there[:large]
        since = 0
        for number, saved in there:
            if not self._link(part, number, files):
                break
            since = saved.first + saved.holds
        return since

    @staticmethod
    def _items_before(index: Index, since: int, lock: Lock) -> list[tuple[int, np.ndarray]]:
        """Copy the current items piece by piece, since they never change; others may be added meanwhile."""
        first, stop = max(since, index.evicted), index.created
        pieces = []
        for at in range(first, stop, _ITEMS):
            with lock:
                pieces.append((at, index.item_keys(at, min(_ITEMS, stop - at))))
        return pieces

    def _write_items(
        self, part: Path, pieces: list[tuple[int, np.ndarray]], now: IndexState, files: dict[int, _Saved]
    ) -> None:
        there = [piece for piece in [*pieces, (now.first_item, now.items)] if piece[0] + len(piece[1]) > now.evicted]
        keys = np.concatenate([keys for _, keys in there] or [now.items])
        each = _FILE_BYTES // (2 * keys.itemsize)
        for i in range(0, len(keys), each):
            some, first = keys[i : i + each], there[0][0] + i
            self._number += 1
            entry = write_file(part / file_name("items", self._number), {"items": some, FIRST: np.array([first])})
            files[self._number] = _Saved(kind="items", entry=entry, holds=len(some), first=first)

    def _link(self, part: Path, number: int, files: dict[int, _Saved]) -> bool:
        """False: the last checkpoint was deleted, or is on another file system."""
        name = file_name(self._files[number].kind, number)
        try:
            os.link(name, part / name, src_dir_fd=self._last)
        except OSError:
            return False
        files[number] = self._files[number]
        return True

    def load(
        self,
        directory: Path,
        schema: Schema,
        settings: Mapping[str, int],
        index: Index,
        steps: Mapping[str, Tracked],
        counters: dict[str, int],
    ) -> None:
        content = verified_alike(directory, schema, settings, *FORMATS)
        contents, state, items = _read_state(directory, content)
        index.load(state, content["counters"])
        counters |= {key: int(content["counters"][key]) for key in counters}
        self._number = int(content["number"])
        for kind, tracked in steps.items():
            for file in contents.of(kind):
                arrays = read_file(directory, file.name, content["files"])
                spans = contents.spans(file, arrays)
                self._put(index, tracked, spans, contents.by_step(arrays), 0 if contents.in_chunks else file.number)
                if not contents.in_chunks:
                    entry, holds = content["files"][file.name], int(spans[:, 2].sum())
                    self._files[file.number] = _Saved(kind=kind, entry=entry, holds=holds)
        for file, first, n in items:
            self._files[file.number] = _Saved(kind="items", entry=content["files"][file.name], holds=n, first=first)
        self._follow(directory)

    @staticmethod
    def _put(index: Index, tracked: Tracked, spans: np.ndarray, arrays: Rows, number: int) -> None:
        row = 0
        for stream, first, n in spans.tolist():
            for address, at, count in index.addresses.spans(stream, first, n):
                tracked.put(address, count, arrays, row + at, number)
            row += n

    def _follow(self, directory: Path) -> None:
        if self._last is not None:
            os.close(self._last)
        self._last = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    def __del__(self) -> None:
        if self._last is not None:
            os.close(self._last)


def verify(directory: Path, schema: Schema, settings: Mapping[str, int], index: Index) -> None:
    """Read a whole checkpoint; ValueError if Lineage.load() into a store like this would raise one."""
    content = verified_alike(directory, schema, settings, *FORMATS)
    for name in content["files"]:
        read_file(directory, name, content["files"])
    index.require_room(_read_state(directory, content)[1])


def _read_state(directory: Path, content: Mapping[str, Any]) -> tuple[Contents, Rows, list[tuple[File, int, int]]]:
    """The index's state with its items, and for each file of items the number of its first one, and how many."""
    state = read_file(directory, STATE, content["files"])
    contents = Contents(content, state)
    files, keys = [], [state.get("items", np.empty((0, 2), np.int64))]
    for file in contents.of("items"):
        arrays = read_file(directory, file.name, content["files"])
        keys.append(arrays["items"])
        files.append((file, int(arrays[FIRST][0]), len(arrays["items"])))
    every = np.concatenate(keys)
    state["items"] = every[len(every) - (content["counters"]["created"] - content["counters"]["evicted"]) :]
    return contents, state, files
