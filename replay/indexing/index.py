"""Where every step and item lies: the bookkeeping of a chunked store, without any payload.

Steps of a stream fill chunks of C steps; a chunk has a slot; a step's address is slot * C + its place in the chunk.
An item is the address of its start step, kept in a first-in first-out ring. Legend: n sequences, T steps each.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from replay.config import SelectionConfig
from replay.counted import counted
from replay.indexing.priorities import Priorities
from replay.indexing.selection import Recency
from replay.reserved import reserve
from replay.store import GapError, StreamExistsError

UNIFORM = SelectionConfig()
_INT = np.dtype(np.int64)


class Stream:
    """Steps `begin .. next - 1` are stored; the next item to leave starts at `oldest`; `slots` maps chunk to slot."""

    __slots__ = ("begin", "id", "next", "oldest", "seen", "slots", "writer")

    def __init__(self, id: int, next: int = 0, begin: int = 0, oldest: int = 0, seen: int = 0) -> None:
        self.id, self.next, self.begin, self.oldest = id, next, begin, oldest
        self.seen = seen  # items created by all streams up to the last append
        self.slots: dict[int, int] = {}  # in the order of the chunks
        self.writer = 0  # who has claimed it

    def stored(self, chunk_length: int) -> range:
        """The steps that are stored."""
        return range(max(self.begin, next(iter(self.slots)) * chunk_length) if self.slots else self.next, self.next)


class Index:
    """Streams, chunks, items and the online queue. Not thread-safe: the store that owns it holds its lock."""

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
        self.streams: dict[int, Stream] = {}
        self.queue: deque[tuple[int, int]] = deque()  # (stream, start) of waiting online sequences
        self.created = self.evicted = 0  # items, ever
        self._itemless: dict[int, Stream] = {}
        self.freed: list[int] = []
        self._fresh = 0  # slots never used so far
        self._ring = reserve((self.capacity,), _INT)
        self._successor = reserve((slots,), _INT)
        self._stream_of = reserve((slots,), _INT)
        self._first_of = reserve((slots,), _INT)
        # Single elements are read and written through these, several times faster than through numpy.
        self._cells = tuple(array.data for array in (self._ring, self._stream_of, self._first_of))
        self.selection = selection
        self._until = np.cumsum(selection.fractions)[:2] / sum(selection.fractions)
        self._recency = Recency(selection.recency_exponent)
        steps = slots * chunk_length
        use = selection.priority > 0
        self.priorities = Priorities(selection, steps, length, self.items_of, self.spans) if use else None
        self.released: Callable[[int], None] = lambda slot: None
        """Told each slot whose chunk has left."""

    def __len__(self) -> int:
        return self.created - self.evicted

    @property
    def used_slots(self) -> int:
        return self._fresh - len(self.freed)

    def begin(self, stream_id: int, writer: int) -> None:
        """Claim a new stream; StreamExistsError: it has steps, or another writer has claimed it."""
        stream = self.streams.get(stream_id)
        if stream is None:
            stream = self.streams[stream_id] = self._itemless[stream_id] = Stream(stream_id)
            stream.writer = writer
        elif stream.next or stream.writer != writer:
            raise StreamExistsError.at(stream_id, stream.next)

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
            self._publish(stream, slot * self.chunk_length + place, count)
            row += count

    def know(self, stream_id: int, step: int) -> None:
        """A stream that is new here continues at `step`: none of the steps before it are stored."""
        assert stream_id not in self.streams, stream_id
        stream = self.streams[stream_id] = Stream(stream_id, step, step, step, self.created)
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
        """Addresses `[n]` of start steps: so many from the online queue first, then by the selection."""
        assert len(self) > 0, "draw() from an index without items"
        starts: list[int] = []
        while online and self.queue and len(starts) < n:
            address = self.address(*self.queue.popleft())
            if address is not None:  # else evicted while it waited
                starts.append(address)
        if not starts:
            return self._select(n, rng), 0
        rest = self._select(n - len(starts), rng) if len(starts) < n else np.empty(0, _INT)
        return np.concatenate([np.array(starts, _INT), rest]), len(starts)

    def prioritize(self, stream_id: int, first: int, values: np.ndarray) -> int:
        """Set priorities `[T]` of a stream's steps; returns how many are used: of steps stored, if any are."""
        return self.priorities.set(stream_id, first, values) if self.priorities else 0

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
        offset = np.arange(length)
        addresses = starts[:, None] + offset
        for hop in range(1, (int(place.max(initial=0)) + length - 1) // self.chunk_length + 1):
            after = self._successor[slot]
            jump = (after - slot - 1) * self.chunk_length
            addresses += np.where(offset >= (hop * self.chunk_length - place)[:, None], jump[:, None], 0)
            slot = after
        return addresses

    def keys(self, starts: np.ndarray, length: int) -> np.ndarray:
        """Step keys `[n, T, 2]` of the sequences that start at addresses `[n]`."""
        slot, place = np.divmod(starts, self.chunk_length)
        keys = np.empty((len(starts), length, 2), _INT)
        keys[:, :, 0] = self._stream_of[slot][:, None]
        keys[:, :, 1] = (self._first_of[slot] + place)[:, None] + np.arange(length)
        return keys

    def items_of(self, stream_id: int) -> range:
        """Start steps of a stream's items."""
        stream = self.streams.get(stream_id)
        return range(stream.oldest, max(stream.oldest, stream.next - self.length + 1)) if stream else range(0)

    def items(self) -> np.ndarray:
        """Keys `[items, 2]` of all start steps, oldest first."""
        return self.item_keys(self.evicted, len(self))

    def item_keys(self, first: int, n: int) -> np.ndarray:
        """Keys `[n, 2]` of items `first ..`, counted from the first one ever; anything for those that have left."""
        return self.keys(self._ring[(first + np.arange(n)) % self.capacity], 1)[:, 0]

    def evict_to(self, count: int) -> None:
        """Remove the oldest items until `count` were evicted ever; this follows another index of the same items."""
        if count > self.created:
            raise ValueError(f"evict_to({count}): only {self.created} items were created; append the others first.")
        if self.evicted < count:
            self._evict(count - self.evicted)

    def evict_oldest(self, but: Stream | None = None) -> bool:
        """Remove the oldest item, or the rest of a stream that has ended: it has no items, and fell silent before the
        oldest one was made. False: there is neither, stream `but` aside."""
        idle = [s for s in self._itemless.values() if s is not but]
        oldest = min(idle, key=lambda s: (s.seen, s.id), default=None)
        if oldest is not None and (oldest.seen <= self.evicted or not len(self)):
            self._drop(oldest)
        elif len(self):
            self._evict()
        else:
            return False
        return True

    def drop(self, stream_id: int) -> None:
        """Forget the steps of a stream without items, as the index that is followed has done."""
        self._drop(self.streams[stream_id])

    def require_room(self, arrays: dict[str, np.ndarray]) -> None:
        """ValueError where a state() does not fit into an index of this size."""
        chunks, items = arrays["chunks"], arrays["items"]
        if len(chunks) > self.slots or len(items) > self.capacity:
            raise ValueError(
                f"The saved replay holds {counted(len(items), 'item')} in {counted(len(chunks), 'chunk')}, this store "
                f"has room for {self.capacity} in {self.slots}; restore it with the capacity it was made with, or a "
                "larger one."
            )

    def load(self, arrays: dict[str, np.ndarray], counters: dict[str, Any]) -> None:
        """Fill this index, which must be new, with a state(); ValueError where the state does not fit in."""
        assert not self.streams, "load() into an index in use"
        self.require_room(arrays)
        chunks, items = arrays["chunks"], arrays["items"]
        for row in arrays["streams"].tolist():
            stream = self.streams[row[0]] = Stream(*row)
            if stream.oldest > stream.next - self.length:
                self._itemless[stream.id] = stream
        places = arrays.get("slots", np.empty(0, _INT)).tolist()
        if self.priorities and 0 < len(places) <= self.slots:
            self._fresh, self.freed = len(places), places[len(chunks) :] + places[: len(chunks)][::-1]
        places = [self._place_chunk(self.streams[stream_id], chunk) for stream_id, chunk in chunks.tolist()]
        if self.priorities:
            self.priorities.load(places, self.chunk_length, arrays.get("priorities"), list(self.streams))
        self.created, self.evicted = int(counters["created"]), int(counters["evicted"])
        chunk, place = np.divmod(items[:, 1], self.chunk_length)
        run = np.flatnonzero((np.diff(items[:, 0], prepend=-1) != 0) | (np.diff(chunk, prepend=-1) != 0))
        each = [self.streams[s].slots[c] for s, c in zip(items[run, 0].tolist(), chunk[run].tolist(), strict=True)]
        slots = np.repeat(np.array(each, _INT), np.diff(run, append=len(items)))
        self._ring[(self.evicted + np.arange(len(items))) % self.capacity] = slots * self.chunk_length + place
        self.queue.extend((stream_id, step) for stream_id, step in arrays["queue"].tolist())

    def _select(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Addresses `[n]` of items, by the mixture of the selection."""
        items = len(self)
        if self._until[0] >= 1:
            return self._ring[(self.evicted + rng.integers(0, items, n)) % self.capacity]
        way = np.searchsorted(self._until, rng.random(n), side="right")
        uniform, prioritized, recent = way == 0, np.flatnonzero(way == 1), way == 2
        place = np.zeros(n, _INT)
        place[uniform] = rng.integers(0, items, np.count_nonzero(uniform))
        place[recent] = items - 1 - self._recency.draw(rng.random(np.count_nonzero(recent)), items)
        addresses = self._ring[(self.evicted + place) % self.capacity]
        if len(prioritized):
            addresses[prioritized] = self._prioritized(len(prioritized), rng)
        return addresses

    def _prioritized(self, n: int, rng: np.random.Generator) -> np.ndarray:
        assert self.priorities is not None
        once = self.selection.zero_on_sample  # each draw then changes the weights for the next
        drawn = []
        for count in [1] * n if once else [n]:
            addresses = self.priorities.draw(rng.random(count))
            if addresses is None:
                addresses = self._ring[(self.evicted + rng.integers(0, len(self), count)) % self.capacity]
            elif once:
                stream_id, start = self.keys(addresses, 1)[0, 0].tolist()
                self.prioritize(stream_id, start, np.zeros(self.length))
            drawn.append(addresses)
        return np.concatenate(drawn)

    def _publish(self, stream: Stream, address: int, count: int) -> None:
        """The stream goes on by `count` steps, which lie side by side; each step that they complete starts an item."""
        if self.priorities:
            self.priorities.begin(address, count)
        length, chunk_length = self.length, self.chunk_length
        first = max(stream.oldest, stream.next - length + 1)
        stream.next += count
        stop = stream.next - length + 1
        if first < stop and self.priorities:
            self.priorities.add(stream.id, first)
        while first < stop:
            chunk, place = divmod(first, chunk_length)
            n = min(stop - first, chunk_length - place, self.capacity)
            excess = self.created - self.evicted + n - self.capacity
            if excess > 0:
                self._evict(excess)
            self._create(stream.slots[chunk] * chunk_length + place, n)
            if self.online:
                for start in range(first + (1 - first) % length, first + n, length):
                    self._enqueue(stream.id, start)
            first += n
        stream.seen = self.created
        if stream.oldest < stop:
            self._itemless.pop(stream.id, None)
        else:
            self._itemless[stream.id] = stream

    def _create(self, address: int, n: int) -> None:
        """Items start at n steps side by side."""
        at = self.created % self.capacity
        self.created += n
        if n == 1:
            self._cells[0][at] = address
            return
        head = min(n, self.capacity - at)
        self._ring[at : at + head] = np.arange(address, address + head)
        self._ring[: n - head] = np.arange(address + head, address + n)

    def _enqueue(self, stream_id: int, start: int) -> None:
        # Nobody may be sampling; entries that were evicted meanwhile must not pile up.
        while len(self.queue) >= self.capacity and self.address(*self.queue[0]) is None:
            self.queue.popleft()
        self.queue.append((stream_id, start))

    def _evict(self, n: int = 1) -> None:
        """Remove the n oldest items, and the chunks in which no later item starts."""
        at = self.evicted % self.capacity
        self.evicted += n
        if n == 1:
            address = self._cells[0][at]
            self._leave(*divmod(address, self.chunk_length))
            if self.priorities:
                self.priorities.remove(address)
            return
        addresses = self._ring[(at + np.arange(n)) % self.capacity]
        slots, places = np.divmod(addresses, self.chunk_length)
        for slot, place in dict(zip(slots.tolist(), places.tolist(), strict=True)).items():  # the last of each chunk
            self._leave(slot, place)
        if self.priorities:
            self.priorities.remove_all(addresses)

    def _leave(self, slot: int, place: int) -> None:
        """The items that start in this slot up to `place` are gone."""
        _, stream_of, first_of = self._cells
        stream = self.streams[stream_of[slot]]
        stream.oldest = first_of[slot] + place + 1
        if place == self.chunk_length - 1:
            freed = stream.slots.pop(stream.oldest // self.chunk_length - 1)
            self.freed.append(freed)
            self.released(freed)
        if stream.oldest > stream.next - self.length:
            self._itemless[stream.id] = stream

    def _open_chunk(self, stream: Stream, chunk: int) -> int:
        while not self.freed and self._fresh == self.slots:
            gone = self.evict_oldest(stream)
            assert gone, f"{self.slots} slots cannot hold one stream of length {self.length}"
        return self._place_chunk(stream, chunk)

    def _place_chunk(self, stream: Stream, chunk: int) -> int:
        if self.freed:
            slot = self.freed.pop()
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
        self.freed.extend(freed := list(stream.slots.values()))
        stream.slots.clear()
        for slot in freed:
            self.released(slot)
        stream.begin = stream.oldest = stream.next
