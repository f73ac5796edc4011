"""Where every step lies. Steps of a stream fill chunks of C steps, each chunk in a slot of its own; a step's address is
slot * C + its place in the chunk. Legend: n sequences, T steps each.
"""

from collections.abc import Callable, Iterator

import numpy as np

from replay.reserved import reserve

_INT = np.dtype(np.int64)


class Stream:
    """Steps `begin .. next - 1` are stored; the next item to leave starts at `oldest`; `slots` maps chunk to slot."""

    __slots__ = ("begin", "id", "next", "oldest", "seen", "slots", "writer")

    def __init__(self, id: int, next: int = 0, begin: int = 0, oldest: int = 0, seen: int = 0) -> None:
        self.id, self.next, self.begin, self.oldest = id, next, begin, oldest
        self.seen = seen  # items created by all streams up to the last append
        self.slots: dict[int, int] = {}  # in chunk order
        self.writer = 0  # the one that has claimed it

    def stored(self, chunk_length: int) -> range:
        """The steps that are stored."""
        return range(max(self.begin, next(iter(self.slots)) * chunk_length) if self.slots else self.next, self.next)


class AddressMap:
    """The streams, and which slot holds which of their chunks."""

    def __init__(self, slots: int, chunk_length: int) -> None:
        self.slots, self.chunk_length = slots, chunk_length
        self.streams: dict[int, Stream] = {}
        self.freed: list[int] = []
        self._fresh = 0  # slots used so far; the others never were
        self._successor = reserve((slots,), _INT)
        self._stream_of = reserve((slots,), _INT)
        self._first_of = reserve((slots,), _INT)
        # Single elements are read through these, several times faster than through numpy.
        self._cells = self._stream_of.data, self._first_of.data
        self.released: Callable[[int], None] = lambda slot: None
        """Called with each slot whose chunk has been evicted."""

    @property
    def used_slots(self) -> int:
        return self._fresh - len(self.freed)

    @property
    def full(self) -> bool:
        """Every slot holds a chunk."""
        return not self.freed and self._fresh == self.slots

    def place(self, stream: Stream, chunk: int) -> int:
        """Give a stream's next chunk a free slot, and return it."""
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

    def free(self, stream: Stream, chunk: int) -> None:
        """Evict a chunk."""
        slot = stream.slots.pop(chunk)
        self.freed.append(slot)
        self.released(slot)

    def step_at(self, slot: int, place: int) -> tuple[Stream, int]:
        """Stream and step id at a place of a slot."""
        stream_of, first_of = self._cells
        return self.streams[stream_of[slot]], first_of[slot] + place

    def of(self, stream_id: int, step: int) -> int | None:
        """A step's address; None if it was evicted or has not been appended yet."""
        stream = self.streams.get(stream_id)
        if stream is None or not stream.begin <= step < stream.next:
            return None
        chunk, place = divmod(step, self.chunk_length)
        slot = stream.slots.get(chunk)
        return None if slot is None else slot * self.chunk_length + place

    def spans(self, stream_id: int, first: int, n: int) -> Iterator[tuple[int, int, int]]:
        """(address, row, count) of those of the n steps from `first` on that are stored."""
        row = 0
        while row < n:
            count = min(self.chunk_length - (first + row) % self.chunk_length, n - row)
            stream = self.streams.get(stream_id)
            if stream is not None:  # a revived stream may begin inside this chunk, an open one ends inside it
                skip = min(max(stream.begin - (first + row), 0), count)
                stop = min(stream.next - (first + row), count)
                address = self.of(stream_id, first + row + skip)
                if address is not None and skip < stop:
                    yield address, row + skip, stop - skip
            row += count

    def of_sequences(self, starts: np.ndarray, length: int) -> np.ndarray:
        """Addresses `[n, T]` of the sequences that start at addresses `[n]`, across chunk borders."""
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

    def of_keys(self, keys: np.ndarray) -> np.ndarray:
        """Addresses `[n]` of stored steps with keys `[n, 2]`; quick if many in a row lie in one chunk."""
        chunk, place = np.divmod(keys[:, 1], self.chunk_length)
        run = np.flatnonzero((np.diff(keys[:, 0], prepend=-1) != 0) | (np.diff(chunk, prepend=-1) != 0))
        each = [self.streams[s].slots[c] for s, c in zip(keys[run, 0].tolist(), chunk[run].tolist(), strict=True)]
        slots = np.repeat(np.array(each, _INT), np.diff(run, append=len(keys)))
        return slots * self.chunk_length + place

    def load(self, chunks: np.ndarray, slots: list[int]) -> list[int]:
        """Place chunks `[k, 2]` (stream, chunk) of streams that are known, and return their slots: those given in
        `slots`, with the free ones behind them, if they fit in here, so that addresses stay the same."""
        if 0 < len(slots) <= self.slots:
            self._fresh, self.freed = len(slots), slots[len(chunks) :] + slots[: len(chunks)][::-1]
        return [self.place(self.streams[stream_id], chunk) for stream_id, chunk in chunks.tolist()]
