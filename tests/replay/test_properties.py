"""Any interleaving of writers, samples and write-backs keeps the store what a plain list of steps would be."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.memory_store import MemoryStore
from tests.contracts.stores import SCHEMA, STORES, check_sequences, rows

pytestmark = pytest.mark.timeout(120)


class Model:
    """The simplest store that could be right: every step ever, items as a queue of keys."""

    def __init__(self, length: int, capacity: int) -> None:
        self.length, self.capacity = length, capacity
        self.next: dict[int, int] = {}
        self.items: deque[tuple[int, int]] = deque(maxlen=capacity)
        self.latents: dict[tuple[int, int], int] = {}
        self.waiting: set[tuple[int, int]] = set()

    def append(self, stream: int, first: int, n: int) -> int:
        new = max(0, first + n - self.next.get(stream, 0))
        for _ in range(new):
            step = self.next.get(stream, 0)
            self.next[stream] = step + 1
            start = step - self.length + 1
            if start >= 0:
                self.items.append((stream, start))
                if start % self.length == 1 % self.length:
                    self.waiting.add((stream, start))
        return new


operations = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 4), st.integers(0, 9), st.integers(0, 3)),
        st.tuples(st.just("sample"), st.integers(1, 6), st.booleans(), st.integers(0, 2**32)),
        st.tuples(st.just("refresh"), st.integers(1, 3), st.integers(1, 99), st.integers(0, 2**32)),
    ),
    max_size=60,
)


@given(
    operations=operations,
    length=st.integers(1, 7),
    chunk_length=st.integers(1, 6),
    capacity=st.integers(1, 40),
)
def test_memory_store_against_a_plain_model(operations: list, length: int, chunk_length: int, capacity: int) -> None:
    store = MemoryStore(SCHEMA, length=length, capacity=capacity, chunk_length=chunk_length, streams=50)
    model = Model(length, capacity)
    refreshed: list[np.ndarray] = []
    for name, *args in operations:
        if name == "append":
            stream, n, repeated = args
            first = max(0, model.next.get(stream, 0) - repeated)
            assert store.append(stream, first, rows(stream, first, n)) == model.append(stream, first, n)
        elif name == "sample" and model.items:
            n, online, seed = args
            batch, keys = store.sample(n, length, np.random.default_rng(seed), online=online)
            check_sequences(batch, keys)
            for key, latent in zip(map(tuple, keys[:, 0].tolist()), batch["stoch"][:, 0], strict=True):
                assert latent == model.latents.get(key, (key[0] * 31 + key[1]) % 251 % 100)
                if key in model.waiting and online:
                    model.waiting.discard(key)
                else:
                    assert key in model.items, "a uniform draw that is no item"
        elif name == "refresh" and model.items:
            n, value, seed = args
            refreshed.append(store.sample(n, length, np.random.default_rng(seed), online=False)[1])
            keys = refreshed[seed % len(refreshed)]  # perhaps long evicted
            values = np.full((*keys.shape[:2], 2), value, np.int8)
            written = store.write_back(keys, {"stoch": values})
            kept = {stream: steps for stream, steps in store.streams().items()}
            fresh = [key for key in map(tuple, keys.reshape(-1, 2).tolist()) if key[1] in kept[key[0]]]
            assert written == len(fresh)
            model.latents |= dict.fromkeys(fresh, value)
        assert [tuple(key) for key in store.items().tolist()] == list(model.items)
        assert {s: steps.stop for s, steps in store.streams().items()} == {
            s: model.next.get(s, 0) for s in store.streams()
        }
    for stream, steps in store.streams().items():
        content = store.read(stream, steps.start, len(steps))
        expected = rows(stream, steps.start, len(steps))
        for name in SCHEMA.fields:
            np.testing.assert_array_equal(content[name], expected[name])
        latents = [model.latents.get((stream, step), (stream * 31 + step) % 251 % 100) for step in steps]
        assert content["stoch"][:, 0].tolist() == latents


@given(
    blocks=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), max_size=80),
    length=st.integers(1, 7),
    chunk_length=st.integers(1, 6),
    slots=st.integers(8, 20),
    name=st.sampled_from(sorted(STORES)),
)
def test_a_bound_in_bytes_holds_with_any_number_of_streams(
    blocks: list, length: int, chunk_length: int, slots: int, name: str
) -> None:
    slot_bytes = chunk_length * (SCHEMA.nbytes + 8)
    store = STORES[name](
        length=length, capacity=None, capacity_gb=(slots + 0.5) * slot_bytes / 1e9, chunk_length=chunk_length, streams=1
    )
    shards = len(getattr(store, "shards", [store]))
    position: dict[int, int] = {}
    for stream, n in blocks:
        first = position.get(stream, 0)
        assert store.append(stream, first, rows(stream, first, n)) == n
        position[stream] = first + n
        assert store.stats()["chunks"] <= slots * shards
        if len(store):
            check_sequences(*store.sample(4, length, np.random.default_rng(0)))
        kept = store.streams()[stream]
        assert len(kept) >= min(n, length, 1)
        np.testing.assert_array_equal(
            store.read(stream, kept.start, len(kept))["step"], np.arange(kept.start, kept.stop)
        )


@given(
    waiting=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 8)), max_size=30),
    n=st.integers(1, 9),
    name=st.sampled_from(sorted(STORES)),
)
def test_the_online_queue_hands_out_each_sequence_once(waiting: list, n: int, name: str) -> None:
    store, length = STORES[name](length=3), 3
    position: dict[int, int] = {}
    handed: list[tuple[int, int]] = []
    for stream, count in waiting:
        first = position.get(stream, 0)
        store.append(stream, first, rows(stream, first, count))
        position[stream] = first + count
        if len(store):
            before = store.stats()["queue"]
            keys = store.sample(n, length, np.random.default_rng(0))[1]
            fresh = int(before - store.stats()["queue"])
            assert fresh == min(before, n)
            ordered = [tuple(key) for key in keys[:, 0].tolist() if key[1] % length == 1]
            handed.extend([key for key in ordered if key not in handed][:fresh])
    left = int(store.stats()["queue"])
    if left:
        handed.extend(tuple(key) for key in store.sample(left, length, np.random.default_rng(0))[1][:, 0].tolist())
    expected = {(s, start) for s, end in position.items() for start in range(1, end - length + 1, length)}
    assert len(handed) == len(expected) and set(handed) == expected
