"""A sampler's own copy of the index of a replay on Redis, which follows the log that the server keeps.

What a sampler draws from is in its memory; only the drawn bytes come from the server. The server alone decides what
goes when: the mirror first removes as many items as the server has, then takes in the events it has not seen.
"""

from collections import deque
from collections.abc import Callable

import numpy as np

from replay.config import SelectionConfig
from replay.counted import counted
from replay.indexing.index import UNIFORM, Index
from replay.indexing.index_state import state_of
from replay.redis.redis_connection import ReplyError
from replay.redis.redis_replay import RedisReplay
from replay.redis.redis_script import RECORD, SEGMENT, Counts, StreamState

_EVENTS = 40_000  # applied one by one, a reply of 1 MB; with more it is quicker to reload
_ATTEMPTS = 20


class Mirror:
    """Not thread-safe: its owner holds a lock.

    Its online queue starts with the first event after the replay was opened.
    """

    def __init__(
        self,
        replay: RedisReplay,
        *,
        online: bool,
        selection: SelectionConfig = UNIFORM,
        note: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._script, self._online, self._selection, self._note = replay.reads, online, selection, note
        self._id, self._position = replay.found.id, replay.found.tail
        self._epoch = -1
        self._room = (0, 0)  # capacity and slots of the index
        self.index: Index | None = None
        self.counts: Counts | None = None

    @property
    def current(self) -> bool:
        """The server has not restarted since the last sync()."""
        return self._epoch == self._script.connection.epoch

    def sync(self) -> Index:
        """The index, up to date with the server."""
        for _ in range(_ATTEMPTS):
            epoch = self._script.connection.epoch
            counts, (records,) = self._script.counted(b"sync", self._position, _EVENTS)
            assert isinstance(records, bytes)
            index = self.index
            if index is None or not self.current or epoch != self._epoch or not self._follows(index, counts):
                self._load()
                continue
            index.evict_to(counts.evicted)
            self._take_in(index, np.frombuffer(records, RECORD))
            self.counts = counts
            return index
        raise TimeoutError(
            f"The index on Redis {self._script.connection.label} changed faster than it could be read, "
            f"{_ATTEMPTS} times in a row; is the replay far too small for its writers?"
        )

    def _follows(self, index: Index, counts: Counts) -> bool:
        """Whether the log still has the events not seen yet, few enough to apply one by one, and the index has room."""
        return (
            counts.id == self._id
            and counts.head // SEGMENT * SEGMENT <= self._position <= counts.tail <= self._position + _EVENTS
            and index.evicted <= counts.evicted <= index.created
            and counts.capacity <= self._room[0]
            and counts.slots <= self._room[1]
        )

    def _take_in(self, index: Index, records: np.ndarray) -> None:
        for stream, step in zip(records["stream"].tolist(), records["next"].tolist(), strict=True):
            if step < 0:
                index.drop(stream)
                continue
            known = index.streams.get(stream)
            first = known.next if known else 0
            deque(index.extend(stream, first, step - first), 0)
        self._position += len(records)

    def _load(self) -> None:
        """Reload everything: at first, after a restart of the server, or if the log was trimmed past our position."""
        script = self._script
        for _ in range(_ATTEMPTS):
            epoch = script.connection.epoch
            counts, (fields,) = script.counted(b"load")
            records = self._records(counts)
            if records is None or epoch != script.connection.epoch:
                continue
            assert isinstance(fields, list)
            before = self.index
            self._room = max(counts.capacity, counts.items), max(counts.slots, counts.chunks)
            index = Index(
                length=counts.length,
                chunk_length=counts.chunk_length,
                slots=self._room[1],
                capacity=self._room[0],
                online=self._online,
                selection=self._selection,
            )
            index.load(*self._state(counts, fields, records))
            if before is not None and self._epoch != epoch and self._id == counts.id:
                lost = before.created - index.created
                missing = f"it lost the newest {counted(lost, 'sequence')}" if lost > 0 else "it lost none"
                self._note(
                    f"Redis {script.connection.label} was restarted and has {counted(len(index), 'sequence')}; "
                    f"{missing}."
                )
            self.index, self._id, self._epoch, self._position = index, counts.id, epoch, counts.tail
            return
        raise TimeoutError(
            f"The log on Redis {script.connection.label} was trimmed while it was read, {_ATTEMPTS} times in a row."
        )

    def _records(self, counts: Counts) -> np.ndarray | None:
        """The events since that of the oldest item; None: some were deleted meanwhile."""
        prefix, connection = self._script.prefix, self._script.connection
        segments = range(counts.head // SEGMENT, -(-counts.tail // SEGMENT))
        parts: list[bytes] = []
        for first in range(segments.start, segments.stop, 64):
            some = range(first, min(first + 64, segments.stop))
            for reply in connection.pipeline([(b"GETRANGE", f"{prefix}:log:{i}", 0, -1) for i in some]):
                if isinstance(reply, ReplyError):
                    raise reply
                assert isinstance(reply, bytes)
                if len(reply) != SEGMENT * RECORD.itemsize:
                    return None
                parts.append(reply)
        begin = segments.start * SEGMENT
        return np.frombuffer(b"".join(parts), RECORD)[counts.head - begin : counts.tail - begin]

    def _state(self, counts: Counts, fields: list, records: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        """The arguments of Index.load."""
        streams, chunks = [], []
        for name, saved in zip(fields[::2], fields[1::2], strict=True):
            stream, state = int(name, 16), StreamState.parse(saved)
            streams.append((stream, *state))
            if stored := state.stored(counts.chunk_length):
                first, last = stored.start // counts.chunk_length, stored[-1] // counts.chunk_length
                chunks += [(stream, chunk) for chunk in range(first, last + 1)]
        created = np.maximum(records["created"].astype(np.int64), counts.evicted)
        made = np.diff(created, prepend=counts.evicted)
        items = np.empty((int(made.sum()), 2), np.int64)
        assert len(items) == counts.items, (len(items), counts)
        items[:, 0] = np.repeat(records["stream"].astype(np.int64), made)
        end = np.repeat(records["next"].astype(np.int64) - counts.length - created + counts.evicted, made)
        items[:, 1] = end + 1 + np.arange(len(items))
        arrays = {
            "streams": np.array(streams, np.int64).reshape(-1, 5),
            "chunks": np.array(chunks, np.int64).reshape(-1, 2),
            "items": items,
            "queue": self._queue(counts, records, made, items, {s: range(o, n) for s, n, _, o, _ in streams}),
        }
        if self._selection.priority and self.index:
            old = state_of(self.index)[0]
            known = dict(zip(map(tuple, old["chunks"].tolist()), old["priorities"], strict=True))
            none = np.full(counts.chunk_length, self._selection.initial)
            arrays["priorities"] = np.array([known.get(chunk, none) for chunk in chunks]).reshape(
                -1, counts.chunk_length
            )
        return arrays, {"created": counts.created, "evicted": counts.evicted}

    def _queue(
        self, counts: Counts, records: np.ndarray, made: np.ndarray, items: np.ndarray, items_of: dict[int, range]
    ) -> np.ndarray:
        """The online queue: sequences that were in it and still exist, and those of events not seen yet."""
        if not self._online:
            return np.empty((0, 2), np.int64)
        same = counts.id == self._id
        seen = min(self._position, counts.tail) if same else 0
        unseen = items[int(made[: max(0, seen - counts.head)].sum()) :]
        fresh = unseen[unseen[:, 1] % counts.length == 1 % counts.length]
        waiting = [
            (stream, start)
            for stream, start in (self.index.queue if self.index and same else ())
            if start in items_of.get(stream, ()) and start + counts.length <= items_of[stream].stop
        ]
        return np.concatenate([np.array(waiting, np.int64).reshape(-1, 2), fresh])
