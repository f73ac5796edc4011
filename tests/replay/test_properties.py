"""Any interleaving of writers, samples, write-backs and priorities keeps a store what a plain list of steps would be.

What is drawn how often, under which fractions, is in test_selection.py.
"""

import math
from collections import Counter, deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.config import SelectionConfig
from replay.indexing.index import Index
from replay.memory.memory_store import MemoryStore
from tests.contracts.stores import LOCAL, SCHEMA, STORES, check_sequences, rows


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
        st.tuples(st.just("prioritize"), st.integers(1, 3), st.integers(0, 9), st.integers(0, 2**32)),
    ),
    max_size=60,
)
mixtures = st.builds(
    lambda parts, **settings: SelectionConfig(priority=parts[0] / 4, recency=parts[1] / 4, **settings),
    st.sampled_from([(0, 0), (4, 0), (0, 4), (2, 0), (1, 1), (2, 2)]),
    zero_on_sample=st.booleans(),
    initial=st.sampled_from([math.inf, 0.0, 1.0]),
)


@given(
    operations=operations,
    length=st.integers(1, 7),
    chunk_length=st.integers(1, 6),
    capacity=st.integers(1, 40),
    selection=mixtures,
)
def test_memory_store_against_a_plain_model(
    operations: list, length: int, chunk_length: int, capacity: int, selection: SelectionConfig
) -> None:
    store = MemoryStore(
        SCHEMA, length=length, capacity=capacity, chunk_length=chunk_length, streams=50, selection=selection
    )
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
                    assert key in model.items, "a draw that is no item"
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
        elif name == "prioritize" and refreshed:
            n, value, seed = args
            keys = refreshed[seed % len(refreshed)][:n]
            used = store.set_priority(keys, np.full(keys.shape[:2], float(value)))
            kept = {stream: steps for stream, steps in store.streams().items()}
            stored = sum(step in kept[stream] for stream, step in keys.reshape(-1, 2).tolist())
            assert used == (stored if selection.priority else 0)
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
    name=st.sampled_from(LOCAL),
)
def test_a_bound_in_bytes_holds_with_any_number_of_streams(
    blocks: list, length: int, chunk_length: int, slots: int, name: str
) -> None:
    slot_bytes = chunk_length * (SCHEMA.nbytes + 8 + (0 if name == "disk" else 12))
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
    name=st.sampled_from(LOCAL),
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


class PlainSelector:
    """Priorities as the official selector keeps them: by step, aggregated item by item."""

    def __init__(self, config: SelectionConfig, length: int) -> None:
        self.config, self.length = config, length
        self.of: dict[tuple[int, int], float] = {}

    def set(self, stream: int, first: int, values: list[float]) -> None:
        self.of |= {(stream, first + i): value for i, value in enumerate(values)}

    def weight(self, stream: int, start: int) -> float:
        steps = [self.of.get((stream, start + i), self.config.initial) for i in range(self.length)]
        raised = [step**self.config.exponent for step in steps]
        return self.config.maxfrac * max(raised) + (1 - self.config.maxfrac) * sum(raised) / self.length


@given(
    operations=st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(0, 3), st.integers(1, 9)),
            st.tuples(st.just("prioritize"), st.integers(0, 3), st.integers(0, 25), st.lists(st.integers(0, 5))),
            st.tuples(st.just("draw"), st.integers(1, 4), st.integers(0, 2**32)),
        ),
        max_size=40,
    ),
    length=st.integers(1, 6),
    chunk_length=st.integers(1, 6),
    capacity=st.integers(1, 30),
    initial=st.sampled_from([math.inf, 0.0, 1.5]),
    zero_on_sample=st.booleans(),
)
def test_weights_against_the_official_selector(
    operations: list, length: int, chunk_length: int, capacity: int, initial: float, zero_on_sample: bool
) -> None:
    config = SelectionConfig(priority=1.0, initial=initial, zero_on_sample=zero_on_sample)
    slots = -(-capacity // chunk_length) + 4 * (-(-(length - 1) // chunk_length) + 1)
    index = Index(
        length=length, chunk_length=chunk_length, slots=slots, capacity=capacity, online=False, selection=config
    )
    plain = PlainSelector(config, length)
    for name, *args in operations:
        if name == "append":
            stream, n = args
            known = index.streams[stream].next if stream in index.streams else 0
            for _ in index.extend(stream, known, n):
                pass
        elif name == "prioritize":
            stream, back, values = args
            known = index.streams[stream].next if stream in index.streams else 0
            first = max(0, known - back)
            index.prioritize(stream, first, np.array(values, float))
            plain.set(stream, first, values[: known - first])
        elif len(index):
            n, seed = args
            starts, _ = index.draw(n, np.random.default_rng(seed), False)
            drawn = [tuple(key) for key in index.addresses.keys(starts, 1)[:, 0]]
            for stream, start in drawn:
                weights = {(s, t): plain.weight(s, t) for s, t in index.items().tolist()}
                assert weights[stream, start] == math.inf or math.inf not in weights.values()
                assert weights[stream, start] > 0 or not any(weights.values())
                if zero_on_sample:
                    plain.set(stream, start, [0.0] * length)


@pytest.mark.parametrize("selection", [SelectionConfig(), SelectionConfig(recency=1.0, recency_exponent=0.0)])
def test_every_item_of_unequal_shards_is_drawn_alike(selection: SelectionConfig) -> None:
    store = STORES["three shards"](length=3, online=False, selection=selection)
    lengths = {0: 61, 1: 5, 2: 3, 3: 22, 4: 9, 5: 40}
    for stream, n in lengths.items():
        store.append(stream, 0, rows(stream, 0, n))
    assert len({len(shard) for shard in store.shards}) == 3, "shards of equal size"  # type: ignore[attr-defined]
    items = sum(n - 2 for n in lengths.values())
    generator, draws = np.random.default_rng(5), 300
    counts: Counter[tuple[int, ...]] = Counter()
    for _ in range(draws):
        counts.update(map(tuple, store.sample(items, 3, generator)[1][:, 0].tolist()))
    assert len(counts) == items
    chi_square = sum((count - draws) ** 2 / draws for count in counts.values())
    assert abs(chi_square - (items - 1)) < 5 * math.sqrt(2 * (items - 1)), chi_square


@given(
    operations=operations,
    selection=mixtures,
    name=st.sampled_from(LOCAL),
    seed=st.integers(0, 2**32),
)
def test_the_same_history_and_seed_draw_the_same(
    operations: list, selection: SelectionConfig, name: str, seed: int
) -> None:
    stores = [STORES[name](length=3, capacity=30, chunk_length=4, selection=selection) for _ in range(2)]
    generators = [np.random.default_rng(seed), np.random.default_rng(seed)]
    position: dict[int, int] = {}
    last: np.ndarray | None = None
    for operation, *args in operations:
        if operation == "append":
            stream, n, _ = args
            first = position.get(stream, 0)
            for store in stores:
                store.append(stream, first, rows(stream, first, n))
            position[stream] = first + n
        elif operation == "sample" and len(stores[0]):
            n, online, _ = args
            (_, last), (_, twin) = (s.sample(n, 3, g, online=online) for s, g in zip(stores, generators, strict=True))
            np.testing.assert_array_equal(last, twin)
        elif operation == "prioritize" and last is not None:
            values = np.random.default_rng(args[2]).random(last.shape[:2])
            assert stores[0].set_priority(last, values) == stores[1].set_priority(last, values)
    assert generators[0].bit_generator.state == generators[1].bit_generator.state
