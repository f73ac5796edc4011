"""The state of an index at one moment: captured quickly, and put into arrays afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from replay.indexing.tracked import Part

if TYPE_CHECKING:
    from replay.indexing.index import Index

_INT = np.dtype(np.int64)
_PIECE = 1 << 14  # elements converted at a time: more would starve other threads


def capture(index: "Index", since: int) -> "IndexState":
    """The current state of an index without its priorities; items from the `since`th one ever on."""
    first = max(since, index.evicted)
    return IndexState(
        chunk_length=index.chunk_length,
        streams=[(s.id, s.next, s.begin, s.oldest, s.seen, s.slots.copy()) for s in index.streams.values()],
        queue=list(index.queue),
        freed=index.addresses.freed.copy() if index.priorities else None,  # draws by priority depend on addresses
        first_item=first,
        items=index.item_keys(first, index.created - first),
        created=index.created,
        evicted=index.evicted,
    )


def state_of(index: "Index") -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The whole state of an index, for `Index.load`."""
    now = capture(index, index.evicted)
    arrays = now.arrays() | {"items": now.items}
    if index.priorities:
        slots = arrays["slots"][: len(arrays["chunks"])]
        arrays["priorities"] = index.priorities.of_steps.reshape(-1, index.chunk_length)[slots]
    return arrays, {"created": now.created, "evicted": now.evicted}


@dataclass(frozen=True, kw_only=True)
class IndexState:
    """See `capture`."""

    chunk_length: int
    streams: list[tuple[int, int, int, int, int, dict[int, int]]]
    """Id, next, begin, oldest, seen and slots of each stream."""
    queue: list[tuple[int, int]]
    freed: list[int] | None
    """None if addresses do not matter."""
    first_item: int
    items: np.ndarray
    """Keys `[n, 2]` of the items from `first_item` on."""
    created: int
    evicted: int

    def arrays(self) -> dict[str, np.ndarray]:
        """All but the items; `slots` holds those of the chunks, then the free ones."""
        out = {
            "streams": _table([stream[:5] for stream in self.streams], 5),
            "chunks": _table([(stream[0], chunk) for stream in self.streams for chunk in stream[5]], 2),
            "queue": _table(self.queue, 2),
        }
        if self.freed is not None:
            slots = [slot for stream in self.streams for slot in stream[5].values()]
            out["slots"] = np.array([*slots, *self.freed], _INT)
        return out

    def parts(self) -> list[Part]:
        """Every chunk's steps, in the order of the chunks."""
        length = self.chunk_length
        parts = []
        for stream, next, begin, _, _, slots in self.streams:
            for chunk, slot in slots.items():
                first, stop = max(begin, chunk * length), min(next, (chunk + 1) * length)
                parts.append(Part(stream, first, slot * length + first % length, stop - first))
        return parts


def _table(rows: Sequence[tuple[int, ...]], columns: int) -> np.ndarray:
    pieces = [np.array(rows[i : i + _PIECE], _INT) for i in range(0, len(rows), _PIECE)]
    return np.concatenate(pieces) if pieces else np.empty((0, columns), _INT)
