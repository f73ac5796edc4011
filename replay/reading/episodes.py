"""Cuts whole episodes out of a store's streams and writes episodes to a store. Legend: n steps, T steps of an episode.

An episode runs from a row with `is_first` to the next with `is_last`. Partial episodes in a stream are only counted:
one that is still running, one whose beginning was evicted, one followed by a new one without having ended.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, Protocol

import numpy as np

from replay.keys import newest_incarnation, stream_id
from replay.sharding import ShardedStore
from replay.step import FLAGS, Rows, Schema
from replay.store import Store

_READ_BYTES = 16 << 20  # per read: memory in use besides the open episode
_APPEND_BYTES = 4 << 20
_IMPORTER = (1 << 24) - 1  # the actor number of streams that no actor writes


class MissingStepsError(ValueError):
    """Steps `start .. stop - 1` of a stream are missing; steps before and after them may exist."""

    def __init__(self, message: str, start: int, stop: int) -> None:
        super().__init__(message, start, stop)
        self.start, self.stop = start, stop

    def __str__(self) -> str:
        return str(self.args[0])


class Source(Protocol):
    """A source of episodes: any store, or anything else with streams to read."""

    schema: Schema

    def streams(self) -> dict[int, range]:
        """The steps stored of each stream."""
        ...

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        """Rows `[n, ...]`. Raises ValueError if not all are stored, MissingStepsError if some in between are lost."""
        ...


class StoredEpisode(NamedTuple):
    """Rows `[T, ...]` of steps first .. first + T - 1 of a stream."""

    stream: int
    first: int
    rows: Rows

    @property
    def length(self) -> int:
        return len(self.rows["is_first"])

    @property
    def score(self) -> float:
        return float(self.rows["reward"].astype(np.float64).sum())


@dataclass
class Found:
    """Counts of whole episodes, and of partial ones by the reason why they are not whole."""

    whole: int = 0
    running: int = 0
    """The stream ends within the episode."""
    headless: int = 0
    """The first steps were evicted."""
    abandoned: int = 0
    """A new episode begins before `is_last`."""

    def describe(self) -> str:
        """The partial episodes, in words."""
        parts = (
            (self.running, "without their end yet"),
            (self.headless, "without their beginning"),
            (self.abandoned, "broken off"),
        )
        return ", ".join(f"{n} {what}" for n, what in parts if n)


def require_flags(schema: Schema) -> None:
    """Raises ValueError if steps lack the flags that delimit episodes."""
    if missing := sorted(set(FLAGS) - set(schema.fields)):
        raise ValueError(
            f"This replay's steps have no {missing}: episodes cannot be told apart; it has {_keys(schema)}."
        )


def cut(pieces: Iterable[tuple[int, Rows]], found: Found) -> Iterator[tuple[int, Rows]]:
    """(first step, rows) of the whole episodes in pieces (first step, rows) of one stream, given in order.

    Steps may be missing between two pieces. Rows may share memory with the pieces.
    """
    head: list[Rows] = []  # rows of the open episode so far
    state, first, expected = "between", 0, None
    for position, rows in pieces:
        n = len(rows["is_first"])
        if state != "between" and position != expected:
            found.headless += 1
            state = "between"
        if state == "between" and n and not rows["is_first"][0]:
            state = "headless"
        start = 0
        for i in np.flatnonzero(rows["is_first"] | rows["is_last"]).tolist():
            if rows["is_first"][i]:
                if state == "whole":
                    found.abandoned += 1
                found.headless += state == "headless"
                state, head, start, first = "whole", [], i, position + i
            if rows["is_last"][i]:
                if state == "whole":
                    found.whole += 1
                    yield first, _join([*head, _part(rows, start, i + 1)])
                else:
                    found.headless += 1
                state, head, start = "between", [], i + 1
        if state == "whole":
            head.append(_part(rows, start, n))
        elif state == "between" and start < n:
            state = "headless"  # rows after an end that do not begin an episode
        expected = position + n
    found.running += state == "whole"
    found.headless += state == "headless"


def episodes(source: Source, found: Found, streams: Mapping[int, range] | None = None) -> Iterator[StoredEpisode]:
    """Whole episodes of a store, stream by stream, each in the order of its steps; `streams` limits the steps."""
    require_flags(source.schema)
    for stream, steps in sorted((source.streams() if streams is None else streams).items()):
        for first, rows in cut(pieces(source, stream, steps), found):
            yield StoredEpisode(stream, first, rows)


def newest_episodes(source: Source, number: int, found: Found) -> Iterator[StoredEpisode]:
    """The `number` whole episodes that end last, by step in their stream; few older steps are read."""
    spans = [
        span for stream, steps in source.streams().items() for span in _newest_spans(source, stream, steps, number)
    ]
    for end, stream, first in sorted(spans)[-number:]:
        yield StoredEpisode(stream, first, source.read(stream, first, end - first))
        found.whole += 1


def _newest_spans(source: Source, stream: int, steps: range, number: int) -> list[tuple[int, int, int]]:
    """(end, stream, first step) of the last whole episodes of one stream."""
    window = 1024
    while True:
        tail = episodes(source, Found(), {stream: steps[-window:]})
        spans = [(one.first + one.length, stream, one.first) for one in tail]
        if len(spans) >= number or window >= len(steps):
            return spans[-number:]
        window *= 4


def pieces(source: Source, stream: int, steps: range) -> Iterator[tuple[int, Rows]]:
    """The stored steps of a stream in pieces: the id of the first step, and rows."""
    block = max(1, _READ_BYTES // source.schema.nbytes)
    position, upto = steps.start, steps.stop
    while position < steps.stop:
        n = min(block, upto - position)
        try:
            rows = source.read(stream, position, n)
        except MissingStepsError as hole:
            upto = hole.start
            if upto <= position:
                position, upto = hole.stop, steps.stop
        except ValueError:
            begin = source.streams().get(stream, range(0)).start
            if begin <= position:
                raise
            position = begin  # evicted while reading, since the store is in use
        else:
            yield position, rows
            position += n
            upto = upto if position < upto else steps.stop


def _part(rows: Rows, start: int, stop: int) -> Rows:
    return {key: value[start:stop] for key, value in rows.items()}


def _join(parts: list[Rows]) -> Rows:
    return parts[0] if len(parts) == 1 else {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _keys(schema: Schema) -> list[str]:
    return sorted(schema.fields)


def fresh_streams(store: Store) -> list[int]:
    """New streams for imported episodes, one per shard of the store."""
    incarnation = 1 + newest_incarnation(store.streams())
    ids = (stream_id(_IMPORTER, incarnation, slot) for slot in count())
    chosen: dict[int, int] = {}
    while len(chosen) < (len(store.shards) if isinstance(store, ShardedStore) else 1):
        stream = next(ids)
        chosen.setdefault(id(store.shard(stream)) if isinstance(store, ShardedStore) else 0, stream)
    store.begin(list(chosen.values()), secrets.randbits(63))
    return list(chosen.values())


def append_episodes(store: Store, source: Iterable[Rows], streams: Sequence[int]) -> tuple[int, int]:
    """Append episodes one after another, each to the stream with the fewest steps so far. Latents are zero: the learner
    refreshes them. Returns the numbers of episodes and steps. Raises ValueError if rows do not fit the store, or if
    another process writes to these streams."""
    written, episodes_written = dict.fromkeys(streams, 0), 0
    begin = {stream: store.streams().get(stream, range(0)).stop for stream in streams}
    block = max(1, _APPEND_BYTES // store.schema.nbytes)
    for rows in source:
        n = len(next(iter(rows.values())))
        latents = {k: np.zeros((n, *field.shape), field.dtype) for k, field in store.schema.latents.items()}
        checked, n = store.schema.check({k: rows[k] for k in rows if k not in latents} | latents)
        stream = min(streams, key=written.__getitem__)
        for start in range(0, n, block):
            count = min(block, n - start)
            block_rows = _part(checked, start, start + count)
            (new,) = store.append_checked([(stream, begin[stream] + written[stream], block_rows)])
            if new != count:
                raise ValueError(f"Another process writes to stream {stream} too: run imports one after another.")
            written[stream] += count
        episodes_written += 1
    return episodes_written, sum(written.values())
