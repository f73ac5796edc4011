"""Collects the steps of a vector of environments and appends them to the store in blocks."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from replay.layout import PackedRows, views
from replay.step import check_rows
from replay.store import Store, StreamError

_RENEWALS = 1000  # new streams in one flush: each may hash to a shard that is down as well


class Writer:
    """Checks rows and buffers up to `flush_steps` of them for each of N streams, for at most `max_seconds`.

    Memory is bounded: if the store refuses a block, add() raises before it takes the row, and may be called again;
    steps that did arrive are not stored twice. Every new stream is claimed first, so that two writers never share one.
    """

    def __init__(
        self, store: Store, streams: Sequence[int], *, flush_steps: int = 16, max_seconds: float = 0.5
    ) -> None:
        if flush_steps < 1 or len(set(streams)) != len(streams):
            raise ValueError(f"Writer: flush_steps is {flush_steps}, allowed 1 or more; streams {streams} must differ.")
        self._store, self.flush_steps, self.max_seconds = store, flush_steps, max_seconds
        self._fields = store.schema.all
        size = len(streams), flush_steps
        # Packed as stores keep them; zeros: padding bytes must not differ between equal rows.
        self._packed = np.zeros(size, store.schema.row_dtype), np.zeros(size, store.schema.latent_dtype)
        self._rows = views(self._packed[0]) | views(self._packed[1])
        self._full = [PackedRows(rows, latents) for rows, latents in zip(*self._packed, strict=True)]
        columns = [[(key, rows[:, at]) for key, rows in self._rows.items()] for at in range(flush_steps)]
        self._columns = columns  # of one step of all streams
        self._streams = list(streams)
        self._next = [0] * len(streams)  # step id of the first buffered row
        self._number = secrets.randbits(63)
        self._unclaimed = list(streams)
        self._counts = [0] * len(streams)  # buffered rows of each stream
        self._oldest = 0.0
        self.renew: Callable[[int], int] | None = None
        """Gives environment i a new stream when the store has lost steps of its old one, or has another writer's steps
        in it; without it GapError or StreamExistsError."""

    @property
    def streams(self) -> tuple[int, ...]:
        return tuple(self._streams)

    @property
    def next_steps(self) -> list[int]:
        """The id of each stream's next row."""
        return [first + count for first, count in zip(self._next, self._counts, strict=True)]

    def next_step(self, i: int) -> int:
        """The id of environment i's next row."""
        return self._next[i] + self._counts[i]

    def add(self, rows: Mapping[str, np.ndarray], there: np.ndarray | None = None) -> None:
        """Take one row `[N, ...]` for every stream, or for those that are `there`, bool `[N]`. ValueError: the rows do
        not fit the store's schema."""
        checked, n = check_rows(self._fields, rows)
        if n != len(self._streams):
            raise ValueError(f"Writer got rows of {n} environments for {len(self._streams)} streams; pass one each.")
        if (longest := max(self._counts)) == self.flush_steps:
            self.flush()
            longest = 0
        now = time.monotonic()
        if not longest:
            self._oldest = now
        if there is None and min(self._counts) == longest:
            for key, column in self._columns[longest]:
                column[...] = checked[key]
            self._counts = [longest + 1] * n
        else:
            which = np.arange(n) if there is None else np.flatnonzero(there)
            places = np.asarray(self._counts)[which]
            for key, value in checked.items():
                self._rows[key][which, places] = value[which]
            for i in which.tolist():
                self._counts[i] += 1
        if max(self._counts) == self.flush_steps or now - self._oldest >= self.max_seconds:
            self.flush()

    def flush(self) -> None:
        """Append everything buffered."""
        if not any(self._counts):
            return
        for attempt in range(_RENEWALS + 1):
            try:
                if self._unclaimed:
                    self._store.begin(self._unclaimed, self._number)
                    self._unclaimed = []
                self._store.append_checked(
                    [
                        (stream, self._next[i], self._buffered(i, count))
                        for i, (stream, count) in enumerate(zip(self._streams, self._counts, strict=True))
                        if count
                    ]
                )
                break
            except StreamError as error:
                if self.renew is None or attempt == _RENEWALS:
                    raise
                i = self._streams.index(error.stream)
                self._go_to(i, self.renew(i), 0)
        self._next = self.next_steps
        self._counts = [0] * len(self._counts)

    def _buffered(self, i: int, count: int) -> PackedRows:
        """The rows of environment i that wait."""
        full = self._full[i]
        return full if count == self.flush_steps else PackedRows(full.rows[:count], full.latents[:count])

    def cut(self, i: int) -> None:
        """Let environment i go on in a new stream, which `renew` gives: its next row does not follow its last one."""
        assert self.renew is not None, "only a writer that can renew streams may cut one"
        self.flush()
        self._go_to(i, self.renew(i), 0)

    def replace(self, i: int, stream: int, next_step: int = 0) -> None:
        """Let environment i, restarted or restored, write to another stream from step `next_step` on."""
        self.flush()
        if stream in self._streams[:i] + self._streams[i + 1 :]:
            raise ValueError(f"Stream {stream} is written by another environment of this writer; take a new id.")
        self._go_to(i, stream, next_step)

    def _go_to(self, i: int, stream: int, next_step: int) -> None:
        self._unclaimed = [other for other in self._unclaimed if other != self._streams[i]]
        if next_step == 0:
            self._unclaimed.append(stream)
        self._streams[i], self._next[i] = stream, next_step
