"""Online sequences: new ones are handed to the learner once, soon after they were played."""

from collections import deque
from collections.abc import Iterable, Iterator

from replay.indexing.address_map import AddressMap


class OnlineQueue:
    """(stream, start step) of the sequences that wait to be sampled for the first time, oldest first."""

    def __init__(self, addresses: AddressMap, capacity: int) -> None:
        self._addresses, self._capacity = addresses, capacity
        self._waiting: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._waiting)

    def put(self, stream_id: int, start: int) -> None:
        # Nobody may be sampling; sequences evicted while they wait must not pile up.
        while len(self._waiting) >= self._capacity and self._addresses.of(*self._waiting[0]) is None:
            self._waiting.popleft()
        self._waiting.append((stream_id, start))

    def take(self, n: int) -> list[int]:
        """Addresses of the start steps of the n oldest that are still stored, or of fewer."""
        starts: list[int] = []
        while self._waiting and len(starts) < n:
            address = self._addresses.of(*self._waiting.popleft())
            if address is not None:  # else evicted while it waited
                starts.append(address)
        return starts

    def give_back(self, sequences: list[tuple[int, int]]) -> None:
        """Put the sequences taken last back to the front, in their order."""
        self._waiting.extendleft(reversed(sequences))

    def load(self, sequences: Iterable[tuple[int, int]]) -> None:
        self._waiting.extend(sequences)
