"""What a store has acknowledged, and what of it is gone for another reason than its age."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

Blocks = list[tuple[int, int, int]]
"""Stream, first step, how many."""
JITTER = 3.0
"""Seconds by which the order of acknowledgements may differ from the order the store took the steps in."""

OLDER = 0.2
"""Share of what is there that may be older than something evicted."""


class Audit(NamedTuple):
    """What a store has: every step of `there` was read and checked after `began`, then the items were listed."""

    began: float
    there: Mapping[int, list[tuple[int, int]]]
    items: np.ndarray
    stats: Mapping[str, float]
    stale: int


class Loss(NamedTuple):
    """Acknowledged steps of one chunk that are gone, though older ones are there."""

    stream: int
    first: int
    stop: int
    oldest: float  # when the first of them was acknowledged
    complete: float  # when the last step of their chunk was; infinite where it never was
    tail: bool  # all that came behind them in their stream is gone too


class Settled(NamedTuple):
    """The result of an audit, in steps: what had to be there, and what is."""

    losses: list[Loss]
    known: int
    kept: int
    limit: float
    """When all that was acknowledged before may have been evicted."""


class Ledger:
    """Steps leave a store oldest first, or nearly so; what left otherwise is lost."""

    def __init__(self, length: int, chunk: int) -> None:
        self._length, self._chunk = length, chunk
        self._lock = threading.Lock()
        self._of: dict[int, list[tuple[int, int, float]]] = {}  # first, stop, when
        self.steps = 0

    def take(self, time: float, blocks: Blocks) -> None:
        """AssertionError: steps that were acknowledged before are given by a writer that does not know it."""
        with self._lock:
            for stream, first, n in blocks:
                pieces = self._of.get(stream, [])
                if not n or (pieces and pieces[-1][:2] == (first, first + n)):
                    continue
                assert not pieces or first >= pieces[-1][1], (stream, first, pieces[-1])
                self._of.setdefault(stream, pieces).append((first, first + n, time))
                self.steps += n

    def ends(self) -> dict[int, int]:
        """The step each stream goes on with."""
        with self._lock:
            return {stream: pieces[-1][1] for stream, pieces in self._of.items() if pieces}

    def settle(self, audit: Audit, evicts: Callable[[int], bool]) -> Settled:
        """Compare with what is there, and from now on expect no more than that. `evicts(steps)`: whether a store that
        was given so many may have evicted some."""
        with self._lock:
            when = {stream: _times(pieces) for stream, pieces in self._of.items()}
            known = sum(stop - first for ps in self._of.values() for first, stop, time in ps if time < audit.began)
            limit = self._limit(audit, when) if evicts(known) else -np.inf
            losses: list[Loss] = []
            kept = 0
            for stream, pieces in list(self._of.items()):
                stop = pieces[-1][1]
                acknowledged, there = np.zeros(stop, bool), np.zeros(stop, bool)
                for first, end, time in pieces:
                    acknowledged[first:end] = time < audit.began
                for first, end in audit.there.get(stream, ()):
                    there[first:end] = True
                gone = acknowledged & ~there
                kept += int((acknowledged & there).sum())
                losses += self._losses(stream, gone, acknowledged & there, when[stream], limit)
                self._of[stream] = [
                    (first + start, first + end, time)
                    for first, last, time in pieces
                    for start, end in runs(~gone[first:last])
                ]
                if not self._of[stream]:
                    del self._of[stream]
            return Settled(losses, known, kept, limit)

    def _limit(self, audit: Audit, when: Mapping[int, np.ndarray]) -> float:
        """Before when evicted steps were acknowledged: the chunks of the older part of what is there were full then.

        A part, not the oldest one: a stream's last chunk stays while its room is not needed, since the stream may go
        on, and a store that is opened again finds whole chunks and takes the open ones for new.
        """
        full: list[np.ndarray] = []
        for stream in np.unique(audit.items[:, 0]).tolist():
            if (times := when.get(stream)) is not None:
                first = audit.items[audit.items[:, 0] == stream, 1]
                end = (first // self._chunk + 1) * self._chunk - 1
                full.append(times[np.minimum(end, len(times) - 1)])
        return float(np.quantile(np.concatenate(full), OLDER, method="lower")) + JITTER if full else np.inf

    def _losses(
        self, stream: int, gone: np.ndarray, kept: np.ndarray, times: np.ndarray, limit: float
    ) -> Iterator[Loss]:
        steps = np.flatnonzero(gone)
        made = times[np.minimum(steps + self._length, len(times)) - 1]
        last, oldest = int(np.flatnonzero(kept).max(initial=-1)), int(np.flatnonzero(kept).min(initial=len(kept)))
        steps = steps[(made > limit) | (steps > oldest)]
        for chunk in np.unique(steps // self._chunk).tolist():
            of_chunk = steps[steps // self._chunk == chunk]
            first, stop, end = int(of_chunk[0]), int(of_chunk[-1]) + 1, (chunk + 1) * self._chunk - 1
            complete = float(times[end]) if end < len(times) else np.inf
            yield Loss(stream, first, stop, float(times[first]), complete, first > last)


def runs(which: np.ndarray) -> Iterable[tuple[int, int]]:
    """Where the runs of True begin and end."""
    edges = np.flatnonzero(np.diff(which, prepend=False, append=False)).tolist()
    return zip(edges[::2], edges[1::2], strict=True)


def _times(pieces: list[tuple[int, int, float]]) -> np.ndarray:
    """When each step was acknowledged; one that was not: the next one."""
    times = np.full(pieces[-1][1], np.nan)
    for first, stop, time in pieces:
        times[first:stop] = time
    filled: np.ndarray = np.fmin.accumulate(times[::-1])[::-1]
    return filled
