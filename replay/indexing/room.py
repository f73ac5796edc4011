"""How many sequences fit into a replay, and how much room a number of steps takes."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Room:
    """At most `slots` chunks of `chunk_length` steps, each of `slot_bytes`, and `capacity` items of `length` steps."""

    length: int
    chunk_length: int
    slots: int
    slot_bytes: int
    capacity: int

    def nbytes(self, steps: Sequence[int], whole: bool = True) -> int:
        """Bytes in use, after eviction, once each stream has written its number of `steps`: a stream takes `whole`
        chunks, or only what it has written, and its last steps start no item."""
        per_stream = -(-(self.length - 1) // self.chunk_length) + 1
        full = -(-self.capacity // self.chunk_length) + per_stream * len(steps)
        most = self.slot_bytes * min(self.slots, full, sum(-(-n // self.chunk_length) for n in steps))
        kept = min(sum(steps), self.capacity + (self.length - 1) * len(steps))
        return most if whole else min(most, kept * self.slot_bytes // self.chunk_length)


def most_items(streams: int, *, length: int, chunk_length: int, slots: int, capacity: int) -> int:
    """The most items that this many streams have at a time if all write equally fast: the last steps of each stream
    start none."""
    if not streams:
        return 0
    return min(capacity, streams * max(0, slots // streams * chunk_length - length + 1))
