"""The bookkeeping of a chunked store, without any payload: which steps and items are stored, where, and what goes when.

An item is a start step with its `length - 1` successors; items leave first in, first out, and chunks with them.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from replay.config import SelectionConfig
from replay.counted import counted
from replay.indexing.address_map import AddressMap, Stream
from replay.indexing.item_ring import ItemRing
from replay.indexing.online_queue import OnlineQueue
from replay.indexing.priorities import Priorities
from replay.indexing.selection import Selector
from replay.store import GapError, StreamExistsError

UNIFORM = SelectionConfig()


class Index:
    """Streams of steps and the items among them. Not thread-safe: the store that owns it holds its lock."""

    def __init__(
        self,
        *,
        length: int,
        chunk_length: int,
        slots: int,
        capacity: int,
        online: bool,
        selection: SelectionConfig = UNIFORM,
    ) -> None:
        self.length, self.chunk_length, self.slots, self.online = length, chunk_length, slots, online
        self.capacity = min(capacity, slots * chunk_length)
        self.addresses = AddressMap(slots, chunk_length)
        self.streams = self.addresses.streams
        self.ring = ItemRing(self.capacity)
        self.queue = OnlineQueue(self.addresses, self.capacity)
        self._itemless: dict[int, Stream] = {}
        steps = slots * chunk_length
        use = selection.priority > 0
        self.priorities = Priorities(selection, steps, length, self.items_of, self.addresses.spans) if use else None
        self._selector = Selector(selection, self.ring, self.addresses, self.priorities)

    def __len__(self) -> int:
        return len(self.ring)

    @property
    def created(self) -> int:
        """Items ever created."""
        return self.ring.created

    @property
    def evicted(self) -> int:
        """Items ever evicted."""
        return self.ring.evicted

    def begin(self, stream_id: int, writer: int) -> None:
        """Claim a new stream; StreamExistsError: it has steps, or another writer has claimed it."""
        stream = self.streams.get(stream_id)
        if stream is None:
            stream = self.streams[stream_id] = self._itemless[stream_id] = Stream(stream_id)
            stream.writer = writer
        elif stream.next or stream.writer != writer:
            raise StreamExistsError.at(stream_id, stream.next)

    def extend(self, stream_id: int, first: int, n: int) -> Iterator[tuple[int, int, int]]:
        """Yield (address, row, count) for the new ones among n rows; the caller stores them before it asks for the next
        span, which publishes them."""
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
            self._publish(stream, slot * self.chunk_length + place, count)
            row += count

    def know(self, stream_id: int, step: int) -> None:
        """A stream that is new here continues at `step`: none of the steps before it are stored."""
        assert stream_id not in self.streams, stream_id
        stream = self.streams[stream_id] = Stream(stream_id, step, step, step, self.ring.created)
        self._itemless[stream_id] = stream

    def adopt(self, stream_id: int, chunk: int, first: int, stop: int) -> int:
        """Take over a chunk with a stream's steps `first .. stop - 1`, those it continues with; returns its slot."""
        if stream_id not in self.streams:
            self.know(stream_id, first)
        stream = self.streams[stream_id]
        assert stream.next == first, (stream_id, stream.next, first)
        slot = self._open_chunk(stream, chunk)
        self._publish(stream, slot * self.chunk_length + first % self.chunk_length, stop - first)
        return slot

    def draw(self, n: int, rng: np.random.Generator, online: bool) -> tuple[np.ndarray, int]:
        """Addresses `[n]` of start steps, and how many of them, the first ones, come from the online queue."""
        assert len(self) > 0, "draw() from an index without items"
        starts = self.queue.take(n) if online else []
        if not starts:
            return self._selector.draw(n, rng), 0
        drawn = np.array(starts, np.int64)
        if len(starts) < n:
            drawn = np.concatenate([drawn, self._selector.draw(n - len(starts), rng)])
        return drawn, len(starts)

    def prioritize(self, stream_id: int, first: int, values: np.ndarray) -> int:
        """Set priorities `[T]` of a stream's steps; returns how many are used: of steps stored, if any are."""
        return self.priorities.set(stream_id, first, values) if self.priorities else 0

    def items_of(self, stream_id: int) -> range:
        """Start steps of a stream's items."""
        stream = self.streams.get(stream_id)
        return range(stream.oldest, max(stream.oldest, stream.next - self.length + 1)) if stream else range(0)

    def items(self) -> np.ndarray:
        """Keys `[items, 2]` of all start steps, oldest first."""
        return self.item_keys(self.ring.evicted, len(self))

    def item_keys(self, first: int, n: int) -> np.ndarray:
        """Keys `[n, 2]` of items `first ..`, counted from the first one ever; arbitrary for those evicted."""
        return self.addresses.keys(self.ring.since(first, n), 1)[:, 0]

    def evict_to(self, count: int) -> None:
        """Remove the oldest items until `count` were evicted ever; this follows another index of the same items."""
        if count > self.ring.created:
            raise ValueError(f"evict_to({count}): only {self.created} items were created; append the others first.")
        if self.ring.evicted < count:
            self._evict(count - self.ring.evicted)

    def evict_oldest(self, but: Stream | None = None) -> bool:
        """Remove the oldest item, or all steps of a stream that has ended: it has no items, and nothing was appended to
        it since before the oldest one was created. False: there is neither, apart from stream `but`."""
        idle = [s for s in self._itemless.values() if s is not but]
        oldest = min(idle, key=lambda s: (s.seen, s.id), default=None)
        if oldest is not None and (oldest.seen <= self.ring.evicted or not len(self)):
            self.drop(oldest.id)
        elif len(self):
            self._evict()
        else:
            return False
        return True

    def drop(self, stream_id: int) -> None:
        """Forget the steps of a stream without items; if it continues, its next step begins it anew."""
        stream = self._itemless.pop(stream_id)
        for chunk in list(stream.slots):
            self.addresses.free(stream, chunk)
        stream.begin = stream.oldest = stream.next

    def require_room(self, arrays: dict[str, np.ndarray]) -> None:
        """ValueError: a state_of() another index does not fit into one of this size."""
        chunks, items = arrays["chunks"], arrays["items"]
        if len(chunks) > self.slots or len(items) > self.capacity:
            raise ValueError(
                f"The saved replay holds {counted(len(items), 'item')} in {counted(len(chunks), 'chunk')}, this store "
                f"has room for {self.capacity} in {self.slots}; restore it with the capacity it was made with, or a "
                "larger one."
            )

    def load(self, arrays: dict[str, np.ndarray], counters: dict[str, Any]) -> None:
        """Fill this index, which must be new, with a state_of() another; ValueError: it does not fit."""
        assert not self.streams, "load() into an index in use"
        self.require_room(arrays)
        for row in arrays["streams"].tolist():
            stream = self.streams[row[0]] = Stream(*row)
            if stream.oldest > stream.next - self.length:
                self._itemless[stream.id] = stream
        saved_slots = arrays["slots"].tolist() if self.priorities and "slots" in arrays else []
        slots = self.addresses.load(arrays["chunks"], saved_slots)
        if self.priorities:
            self.priorities.load(slots, self.chunk_length, arrays.get("priorities"), list(self.streams))
        self.ring.load(self.addresses.of_keys(arrays["items"]), int(counters["created"]), int(counters["evicted"]))
        self.queue.load((stream_id, step) for stream_id, step in arrays["queue"].tolist())

    def _publish(self, stream: Stream, address: int, count: int) -> None:
        """Append `count` steps, which lie side by side, to a stream; every step whose sequence they complete starts an
        item."""
        if self.priorities:
            self.priorities.begin(address, count)
        length, chunk_length, ring = self.length, self.chunk_length, self.ring
        first = max(stream.oldest, stream.next - length + 1)
        stream.next += count
        stop = stream.next - length + 1
        if first < stop and self.priorities:
            self.priorities.add(stream.id, first)
        while first < stop:
            chunk, place = divmod(first, chunk_length)
            n = min(stop - first, chunk_length - place, self.capacity)
            excess = ring.created - ring.evicted + n - self.capacity
            if excess > 0:
                self._evict(excess)
            ring.add(stream.slots[chunk] * chunk_length + place, n)
            if self.online:
                for start in range(first + (1 - first) % length, first + n, length):
                    self.queue.put(stream.id, start)
            first += n
        stream.seen = ring.created
        if stream.oldest < stop:
            self._itemless.pop(stream.id, None)
        else:
            self._itemless[stream.id] = stream

    def _evict(self, n: int = 1) -> None:
        """Remove the n oldest items, and the chunks in which no later item starts."""
        if n == 1:
            address = self.ring.pop()
            self._leave(*divmod(address, self.chunk_length))
            if self.priorities:
                self.priorities.remove(address)
            return
        addresses = self.ring.pop_many(n)
        # Items of a chunk leave in order; the last one of each chunk decides.
        slot, place = divmod(int(addresses[-1]), self.chunk_length)
        if int(addresses[-1]) - int(addresses[0]) == n - 1 <= place:  # all between them are of this chunk too
            self._leave(slot, place)
        else:
            last = {address // self.chunk_length: address for address in addresses.tolist()}
            for slot, address in last.items():
                self._leave(slot, address % self.chunk_length)
        if self.priorities:
            self.priorities.remove_all(addresses)

    def _leave(self, slot: int, place: int) -> None:
        """The items that start in this slot up to `place` are gone."""
        stream, step = self.addresses.step_at(slot, place)
        stream.oldest = step + 1
        if place == self.chunk_length - 1:
            self.addresses.free(stream, step // self.chunk_length)
        if stream.oldest > stream.next - self.length:
            self._itemless[stream.id] = stream

    def _open_chunk(self, stream: Stream, chunk: int) -> int:
        while self.addresses.full:
            gone = self.evict_oldest(stream)
            assert gone, f"{self.slots} slots cannot hold one stream of length {self.length}"
        return self.addresses.place(stream, chunk)
