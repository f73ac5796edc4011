"""Where every step and item lies: the bookkeeping of a chunked store, without any payload.

Steps of a stream fill chunks of C steps; a chunk has a slot; a step's address is slot * C + its place in the chunk.
An item is the address of its start step, kept in a first-in first-out ring. Legend: n sequences, T steps each.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from replay.reserved import reserve
from replay.store import GapError

_INT = np.dtype(np.int64)


class Stream:
    """Steps `begin .. next - 1` are stored; the next item to leave starts at `oldest`; `slots` maps chunk to slot."""

    __slots__ = ("begin", "id", "next", "oldest", "seen", "slots")

    def __init__(self, id: int, next: int = 0, begin: int = 0, oldest: int = 0, seen: int = 0) -> None:
        self.id, self.next, self.begin, self.oldest = id, next, begin, oldest
        self.seen = seen  # items created by all streams up to the last append
        self.slots: dict[int, int] = {}  # in the order of the chunks

    def stored(self, chunk_length: int) -> range:
        """The steps that are stored."""
        return range(max(self.begin, next(iter(self.slots)) * chunk_length) if self.slots else self.next, self.next)


class Index:
    """Streams, chunks, items and the online queue. Not thread-safe: the store that owns it holds its lock."""

    def __init__(self, *, length: int, chunk_length: int, slots: int, capacity: int, online: bool) -> None:
        self.length, self.chunk_length, self.slots, self.online = length, chunk_length, slots, online
        self.capacity = min(capacity, slots * chunk_length)
        self.streams: dict[int, Stream] = {}
        self.queue: deque[tuple[int, int]] = deque()  # (stream, start) of waiting online sequences
        self.created = self.evicted = 0  # items, ever
        self._itemless: dict[int, Stream] = {}
        self._freed: list[int] = []
        self._fresh = 0  # slots never used so far
        self._ring = reserve((self.capacity,), _INT)
        self._successor = reserve((slots,), _INT)
        self._stream_of = reserve((slots,), _INT)
        self._first_of = reserve((slots,), _INT)

    def __len__(self) -> int:
        return self.created - self.evicted

    @property
    def used_slots(self) -> int:
        return self._fresh - len(self._freed)

    def extend(self, stream_id: int, first: int, n: int) -> Iterator[tuple[int, int, int]]:
        """Yield (address, row, count) for the new ones among n rows; what was yielded is published on the next step."""
        stream = self.streams.get(stream_id)
        known = stream.next if stream else 0
        if not 0 <= first <= known:
            raise GapError(
                f"Stream {stream_id} continues at step {known}, got step {first}: a gap. "
                "Send the missing steps first, or start a new stream.",
                stream_id,
            )
        if stream is None:
            stream = self.streams[stream_id] = self._itemless[stream_id] = Stream(stream_id)
        row = known - first
        while row < n:
            chunk, place = divmod(stream.next, self.chunk_length)
            slot = stream.slots.get(chunk)
            if slot is None:
                slot = self._open_chunk(stream, chunk)
            count = min(self.chunk_length - place, n - row)
            yield slot * self.chunk_length + place, row, count
            self._publish(stream, count)
            row += count

    def draw(self, n: int, rng: np.random.Generator, online: bool) -> tuple[np.ndarray, int]:
        """Addresses `[n]` of start steps: so many from the online queue first, then uniform over the items."""
        assert len(self) > 0, "draw() from an index without items"
        starts: list[int] = []
        while online and self.queue and len(starts) < n:
            address = self.address(*self.queue.popleft())
            if address is not None:  # else evicted while it waited
                starts.append(address)
        picks = rng.integers(0, len(self), n - len(starts)) if len(starts) < n else np.empty(0, _INT)
        uniform = self._ring[(self.evicted + picks) % self.capacity]
        return np.concatenate([np.asarray(starts, _INT), uniform]), len(starts)

    def address(self, stream_id: int, step: int) -> int | None:
        """None where the step was evicted or has not come yet."""
        stream = self.streams.get(stream_id)
        if stream is None or not stream.begin <= step < stream.next:
            return None
        chunk, place = divmod(step, self.chunk_length)
        slot = stream.slots.get(chunk)
        return None if slot is None else slot * self.chunk_length + place

    def spans(self, stream_id: int, first: int, n: int) -> Iterator[tuple[int, int, int]]:
        """(address, row, count) of those of the n steps from `first` that are stored."""
        row = 0
        while row < n:
            count = min(self.chunk_length - (first + row) % self.chunk_length, n - row)
            stream = self.streams.get(stream_id)
            if stream is not None:  # a revived stream may begin inside this chunk, an open one ends inside it
                skip = min(max(stream.begin - (first + row), 0), count)
                stop = min(stream.next - (first + row), count)
                address = self.address(stream_id, first + row + skip)
                if address is not None and skip < stop:
                    yield address, row + skip, stop - skip
            row += count

    def addresses(self, starts: np.ndarray, length: int) -> np.ndarray:
        """Addresses `[n, T]` of the sequences that start at addresses `[n]`, over chunk borders."""
        slot, place = np.divmod(starts, self.chunk_length)
        hop, place = np.divmod(place[:, None] + np.arange(length), self.chunk_length)
        chain = [slot]
        for _ in range(int(hop[:, -1].max(initial=0))):
            chain.append(self._successor[chain[-1]])
        return np.take_along_axis(np.stack(chain, 1), hop, 1) * self.chunk_length + place

    def keys(self, starts: np.ndarray, length: int) -> np.ndarray:
        """Step keys `[n, T, 2]` of the sequences that start at addresses `[n]`."""
        slot, place = np.divmod(starts, self.chunk_length)
        keys = np.empty((len(starts), length, 2), _INT)
        keys[:, :, 0] = self._stream_of[slot][:, None]
        keys[:, :, 1] = (self._first_of[slot] + place)[:, None] + np.arange(length)
        return keys

    def items(self) -> np.ndarray:
        """Keys `[items, 2]` of all start steps, oldest first."""
        return self.keys(self._ring[(self.evicted + np.arange(len(self))) % self.capacity], 1)[:, 0]

    def evict_to(self, count: int) -> None:
        """Remove the oldest items until `count` were evicted ever; this follows another index of the same items."""
        if count > self.created:
            raise ValueError(f"evict_to({count}): only {self.created} items were created; append the others first.")
        while self.evicted < count:
            self._evict()

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        streams = [(s.id, s.next, s.begin, s.oldest, s.seen) for s in self.streams.values()]
        chunks = [(s.id, chunk) for s in self.streams.values() for chunk in s.slots]
        arrays = {
            "streams": np.array(streams, _INT).reshape(-1, 5),
            "chunks": np.array(chunks, _INT).reshape(-1, 2),
            "items": self.items(),
            "queue": np.array(self.queue, _INT).reshape(-1, 2),
        }
        return arrays, {"created": self.created, "evicted": self.evicted}

    def load(self, arrays: dict[str, np.ndarray], counters: dict[str, Any]) -> None:
        """Fill this index, which must be new, with a state(); ValueError where the state does not fit in."""
        assert not self.streams, "load() into an index in use"
        chunks, items = arrays["chunks"], arrays["items"]
        if len(chunks) > self.slots or len(items) > self.capacity:
            raise ValueError(
                f"The saved replay holds {len(items)} items in {len(chunks)} chunks, this store has room for "
                f"{self.capacity} in {self.slots}; restore it with the capacity it was made with, or a larger one."
            )
        for row in arrays["streams"].tolist():
            stream = self.streams[row[0]] = Stream(*row)
            if stream.oldest > stream.next - self.length:
                self._itemless[stream.id] = stream
        for stream_id, chunk in chunks.tolist():
            self._place_chunk(self.streams[stream_id], chunk)
        self.created, self.evicted = int(counters["created"]), int(counters["evicted"])
        for serial, (stream_id, step) in enumerate(items.tolist(), self.evicted):
            self._ring[serial % self.capacity] = self.address(stream_id, step)
        self.queue.extend((stream_id, step) for stream_id, step in arrays["queue"].tolist())

    def _publish(self, stream: Stream, count: int) -> None:
        first = max(stream.oldest, stream.next - self.length + 1)
        stream.next += count
        for start in range(first, stream.next - self.length + 1):
            while len(self) >= self.capacity:
                self._evict()
            address = self.address(stream.id, start)
            assert address is not None, (stream.id, start)
            self._ring[self.created % self.capacity] = address
            self.created += 1
            if self.online and start % self.length == 1 % self.length:
                self._enqueue(stream.id, start)
        stream.seen = self.created
        if stream.oldest <= stream.next - self.length:
            self._itemless.pop(stream.id, None)
        else:
            self._itemless[stream.id] = stream

    def _enqueue(self, stream_id: int, start: int) -> None:
        # Nobody may be sampling; entries that were evicted meanwhile must not pile up.
        while len(self.queue) >= self.capacity and self.address(*self.queue[0]) is None:
            self.queue.popleft()
        self.queue.append((stream_id, start))

    def _evict(self) -> None:
        """Remove the oldest item, and its chunk with it when no later item starts there."""
        slot, place = divmod(int(self._ring[self.evicted % self.capacity]), self.chunk_length)
        self.evicted += 1
        stream = self.streams[int(self._stream_of[slot])]
        stream.oldest = int(self._first_of[slot]) + place + 1
        if stream.oldest % self.chunk_length == 0:
            self._freed.append(stream.slots.pop(stream.oldest // self.chunk_length - 1))
        if stream.oldest > stream.next - self.length:
            self._itemless[stream.id] = stream

    def _open_chunk(self, stream: Stream, chunk: int) -> int:
        while not self._freed and self._fresh == self.slots:
            # A stream without items that fell silent before the oldest item was made has ended: its rest goes first.
            idle = [s for s in self._itemless.values() if s is not stream]
            oldest = min(idle, key=lambda s: s.seen, default=None)
            if oldest is not None and (oldest.seen <= self.evicted or not len(self)):
                self._drop(oldest)
            else:
                assert len(self), f"{self.slots} slots cannot hold one stream of length {self.length}"
                self._evict()
        return self._place_chunk(stream, chunk)

    def _place_chunk(self, stream: Stream, chunk: int) -> int:
        if self._freed:
            slot = self._freed.pop()
        else:
            slot, self._fresh = self._fresh, self._fresh + 1
        if chunk - 1 in stream.slots:
            self._successor[stream.slots[chunk - 1]] = slot
        self._stream_of[slot] = stream.id
        self._first_of[slot] = chunk * self.chunk_length
        stream.slots[chunk] = slot
        return slot

    def _drop(self, stream: Stream) -> None:
        """Forget the steps of a stream without items; should it go on, its next step begins it anew."""
        del self._itemless[stream.id]
        self._freed.extend(stream.slots.values())
        stream.slots.clear()
        stream.begin = stream.oldest = stream.next
