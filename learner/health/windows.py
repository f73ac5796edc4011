"""Windows of consecutive steps by age: from the whole of replay, its oldest or newest tenth, its very end. Torch-free.

Stores sample as training needs it; here each age counts as much as the steps that have it, whatever the selection.
Reading changes nothing that a store holds or will sample (Redis counts stale latents that it meets in `stats`).
Legend: n windows, T steps each.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from replay.keys import incarnation_of, slot_of
from replay.layout import annotate
from replay.step import Rows
from replay.store import ShardDownError, Store

_ATTEMPTS = 4  # reads per window: steps may be evicted between look and read


class Windows(NamedTuple):
    """Fields `[n T ...]`, latents `[n ...]` of column 0, flags as `Store.sample` gives them."""

    rows: Rows
    keys: np.ndarray
    """`[n 2]`: stream and first step."""

    def __len__(self) -> int:
        return len(self.keys)


class Ages:
    """Where windows of `length` steps start, by environment and age; a look at what is stored now.

    `before`: the `ends` of an earlier look. Environments that have not stepped since, as those of workers that are
    gone, have no newest windows, unless none has stepped.
    """

    def __init__(self, store: Store, length: int, before: Collection[tuple[int, int]] = ()):
        self.store, self.length = store, length
        slots: dict[int, list[tuple[int, range]]] = {}
        ends: dict[int, tuple[int, int]] = {}
        streams = store.streams()
        for stream in sorted(streams, key=incarnation_of):  # an environment's lives follow one another
            starts = range(streams[stream].start, streams[stream].stop - length + 1)
            ends[slot_of(stream)] = stream, streams[stream].stop
            if len(starts):
                slots.setdefault(slot_of(stream), []).append((stream, starts))
        self.ends = [ends[slot] for slot in sorted(ends)]
        """The newest stream of each environment, and the step it continues with."""
        self._slots = [slots[slot] for slot in sorted(slots)]
        self._counts = np.array([sum(len(starts) for _, starts in each) for each in self._slots], np.int64)
        stepped = [ends[slot] not in before for slot in sorted(slots)]
        self._playing = np.array(stepped if any(stepped) else [True] * len(stepped), bool)

    def __len__(self) -> int:
        return int(self._counts.sum())

    @property
    def playing(self) -> int:
        """Windows of the environments that have newest ones."""
        return int(self._counts[self._playing].sum())

    def draw(self, n: int, low: float, high: float, rng: np.random.Generator) -> Windows | None:
        """N windows whose age, as a share of what their environment has stored, lies in [low, high): 0 is the oldest.
        None if they cannot be read."""
        if not len(self):
            return None
        size = n * _ATTEMPTS
        slots = rng.choice(len(self._slots), size, p=self._counts / len(self))
        counts = self._counts[slots]
        places = np.floor((low + (high - low) * rng.random(size)) * counts).astype(np.int64)
        return self._read(n, zip(slots.tolist(), np.minimum(places, counts - 1).tolist(), strict=True))

    def newest(self, n: int, stride: int, rng: np.random.Generator) -> Windows | None:
        """The newest n windows that start `stride` apart, in turn from every environment."""
        ends = [count - 1 for count in self._counts.tolist()]
        order = [slot for slot in rng.permutation(len(ends)).tolist() if self._playing[slot]]

        def places() -> Iterator[tuple[int, int]]:
            for back in range(max(ends, default=-1) // stride + 1):
                yield from ((slot, ends[slot] - back * stride) for slot in order if ends[slot] >= back * stride)

        return self._read(n, islice(places(), n * _ATTEMPTS))

    def again(self, keys: Collection[tuple[int, int]]) -> Windows | None:
        """Those of the windows with these keys that are still stored; None if none is."""
        found = self._found(len(keys), keys)
        return stack(found, self.store.schema.latents) if found else None

    def _read(self, n: int, places: Iterator[tuple[int, int]]) -> Windows | None:
        found = self._found(n, (_at(self._slots[slot], place) for slot, place in places))
        return stack(found, self.store.schema.latents) if len(found) == n else None

    def _found(self, n: int, keys: Iterable[tuple[int, int]]) -> list[tuple[int, int, Rows]]:
        found: list[tuple[int, int, Rows]] = []
        for stream, first in keys:
            try:
                found.append((stream, first, self.store.read(stream, first, self.length)))
            except (ValueError, ShardDownError):  # evicted meanwhile, or out of reach
                continue
            if len(found) == n:
                break
        return found


def _at(streams: Sequence[tuple[int, range]], place: int) -> tuple[int, int]:
    for stream, starts in streams:
        if place < len(starts):
            return stream, starts[place]
        place -= len(starts)
    raise AssertionError(f"no window {place} after the last")


def stack(found: Sequence[tuple[int, int, Rows]], latents: Mapping[str, object]) -> Windows:
    """Windows from (stream, first step, rows `[T ...]`)."""
    rows = {key: np.stack([one[key][0] if key in latents else one[key] for _, _, one in found]) for key in found[0][2]}
    return Windows(annotate(rows), np.array([(stream, first) for stream, first, _ in found], np.int64))
