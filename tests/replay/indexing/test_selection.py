"""What is drawn, how often, and what a priority does to it."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from replay.config import SelectionConfig
from replay.indexing.index import Index
from replay.indexing.index_state import state_of
from replay.indexing.priorities import weights_of
from replay.indexing.selection import Recency
from tests.contracts.stores import SAVING, STORES, MakeStore, fill, memory, rows

LENGTH = 4
KEPT = SelectionConfig(priority=1.0, zero_on_sample=False)


@pytest.fixture(params=STORES)
def make(request: pytest.FixtureRequest) -> MakeStore:
    return STORES[request.param]


def index(selection: SelectionConfig, steps: int = 30, **settings: int) -> Index:
    """Two streams, the second half as long as the first."""
    sizes = {"slots": 20, "capacity": 100, "chunk_length": 7} | settings
    made = Index(length=LENGTH, online=False, selection=selection, **sizes)
    for stream, n in ((0, steps), (1, steps // 2)) if steps else ():
        extend(made, stream, n)
    return made


def extend(index: Index, stream: int, n: int) -> None:
    for _ in index.extend(stream, index.streams[stream].next if stream in index.streams else 0, n):
        pass


def drawn(index: Index, n: int, generator: np.random.Generator) -> list[tuple[int, int]]:
    return [(s, t) for s, t in index.addresses.keys(index.draw(n, generator, False)[0], 1)[:, 0].tolist()]


def assert_distributed(draws: list, probability: dict) -> None:
    """Chi-square within five standard deviations of what it should be."""
    assert math.isclose(sum(probability.values()), 1, abs_tol=1e-9)
    counts = Counter(draws)
    assert counts.keys() <= {key for key, p in probability.items() if p > 0}
    expected = {key: p * len(draws) for key, p in probability.items() if p > 0}
    assert min(expected.values()) > 5, "too few draws for this test"
    chi_square = sum((counts[key] - mean) ** 2 / mean for key, mean in expected.items())
    freedom = len(expected) - 1
    assert abs(chi_square - freedom) < 5 * math.sqrt(2 * max(1, freedom)), chi_square


def items(index: Index) -> list[tuple[int, int]]:
    return [(s, t) for s, t in index.items().tolist()]


def weight(selection: SelectionConfig, priorities: list[float]) -> float:
    """The official aggregate of an item's step priorities."""
    raised = [p**selection.exponent for p in priorities]
    return selection.maxfrac * max(raised) + (1 - selection.maxfrac) * sum(raised) / len(raised)


def some_priorities(index: Index) -> dict[tuple[int, int], float]:
    """Sets a priority for every step."""
    generator = np.random.default_rng(5)
    given: dict[tuple[int, int], float] = {}
    for stream in index.streams.values():
        values = generator.exponential(2.0, stream.next)
        assert index.prioritize(stream.id, 0, values) == len(stream.stored(index.chunk_length))
        given |= {(stream.id, step): float(value) for step, value in enumerate(values)}
    return given


# --- configuration


def test_the_official_settings_are_the_defaults() -> None:
    config = SelectionConfig()
    assert config.fractions == (1.0, 0.0, 0.0) and config.step_bytes == 0
    assert (config.exponent, config.maxfrac, config.initial, config.zero_on_sample) == (0.8, 0.5, math.inf, True)
    assert SelectionConfig(priority=0.5, recency=0.25).fractions == (0.25, 0.5, 0.25)
    assert SelectionConfig(uniform=0.2, priority=0.8).fractions == (0.2, 0.8, 0.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"priority": 1.5}, r"selection\.priority is 1\.5 but must be a fraction"),
        ({"recency": -0.1}, r"selection\.recency is -0\.1 but must be a fraction"),
        ({"maxfrac": 2.0}, r"selection\.maxfrac is 2\.0 but must be a fraction"),
        ({"exponent": math.inf}, r"selection\.exponent is inf but must be at least 0"),
        ({"recency_exponent": -1.0}, r"selection\.recency_exponent is -1\.0"),
        ({"initial": math.nan}, r"selection\.initial is nan but must be at least 0"),
        ({"uniform": 1.0, "priority": 0.5}, "must add up to 1; omit uniform"),
        ({"recency": 0.6, "priority": 0.5}, "must add up to 1"),
    ],
)
def test_wrong_settings_are_named(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelectionConfig(**wrong)


# --- recency


@pytest.mark.parametrize(("exponent", "n"), [(1.0, 1), (1.0, 50), (2.0, 7), (0.5, 200), (0.0, 20)])
def test_recent_ages_follow_their_law(exponent: float, n: int) -> None:
    mass = (1.0 + np.arange(n)) ** -exponent
    ages = Recency(exponent).draw(np.random.default_rng(0).random(60_000), n)
    assert_distributed(ages.tolist(), dict(enumerate((mass / mass.sum()).tolist())))


def test_ages_are_exact_while_items_come_and_go() -> None:
    recency = Recency(1.0)
    for n in (3, 5000, 2, 100_000, 4):
        uniform = np.array([0.0, np.nextafter(1.0, 0.0)])
        assert recency.draw(uniform, n).tolist() == [0, n - 1]
    assert recency.draw(np.array([0.54, 0.55]), 3).tolist() == [0, 1]  # 6/11, 3/11, 2/11
    assert Recency(0.0).draw(np.array([0.0, 0.24, 0.25, 0.75]), 4).tolist() == [0, 0, 1, 3]


# --- priorities


def test_an_items_weight_is_the_official_aggregate() -> None:
    config = SelectionConfig(priority=1.0, exponent=2.0, maxfrac=0.25)
    steps = np.array([1.0, 2.0, 3.0, 0.0, 2.0], np.float32) ** 2
    assert weights_of(config, steps, LENGTH).tolist() == [0.25 * 9 + 0.75 * 3.5, 0.25 * 9 + 0.75 * 4.25]


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 65])
def test_weights_over_any_length(length: int) -> None:
    values = np.random.default_rng(0).random(200)
    steps = (values**KEPT.exponent).astype(np.float32)
    weights = weights_of(KEPT, steps, length)
    expected = [weight(KEPT, values[i : i + length].tolist()) for i in range(201 - length)]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    for i in (0, 3, 200 - length):  # to the bit the same, however many are weighed at a time
        assert weights_of(KEPT, steps[i : i + length], length).tolist() == [weights[i]]


def test_new_items_come_first_and_all_alike() -> None:
    it = index(KEPT)
    it.prioritize(0, 0, np.full(20, 1e9))  # items 0..16 are known; the others have steps without a priority
    new = [key for key in items(it) if key not in [(0, start) for start in range(17)]]
    assert_distributed(drawn(it, 20_000, np.random.default_rng(0)), dict.fromkeys(new, 1 / len(new)))


@pytest.mark.parametrize(
    "selection",
    [
        KEPT,
        SelectionConfig(priority=0.5, recency=0.3, zero_on_sample=False),
        SelectionConfig(priority=0.6, exponent=1.5, maxfrac=0.0, zero_on_sample=False),
        SelectionConfig(recency=1.0, recency_exponent=0.7),
        SelectionConfig(recency=0.5),
        SelectionConfig(),
    ],
)
def test_a_mixture_has_its_exact_probabilities(selection: SelectionConfig) -> None:
    it = index(selection)
    given = some_priorities(it) if selection.priority else {}
    keys = items(it)
    weights = {(s, t): weight(selection, [given.get((s, t + i), 0.0) for i in range(LENGTH)]) for s, t in keys}
    recent = (1.0 + np.arange(len(keys)))[::-1] ** -selection.recency_exponent
    uniform, priority, recency = selection.fractions
    probability = {
        key: uniform / len(keys)
        + (priority * weights[key] / sum(weights.values()) if priority else 0)
        + recency * float(recent[i] / recent.sum())
        for i, key in enumerate(keys)
    }
    assert_distributed(drawn(it, 60_000, np.random.default_rng(1)), probability)


def test_a_finite_first_priority_takes_part_like_any_other() -> None:
    selection = SelectionConfig(priority=1.0, initial=2.0, zero_on_sample=False)
    it = index(selection)
    it.prioritize(0, 3, np.full(20, 7.0))
    steps = {(0, t): 7.0 for t in range(3, 23)}
    weights = {(s, t): weight(selection, [steps.get((s, t + i), 2.0) for i in range(LENGTH)]) for s, t in items(it)}
    total = sum(weights.values())
    assert_distributed(drawn(it, 30_000, np.random.default_rng(3)), {key: w / total for key, w in weights.items()})


def test_a_drawn_item_waits_until_it_is_given_a_priority_again() -> None:
    it = index(SelectionConfig(priority=1.0), steps=16)
    generator = np.random.default_rng(0)
    covered: set[tuple[int, int]] = set()
    while new := [(s, t) for s, t in items(it) if not {(s, t + i) for i in range(LENGTH)} <= covered]:
        stream, start = drawn(it, 1, generator)[0]
        assert (stream, start) in new
        covered |= {(stream, start + i) for i in range(LENGTH)}
    assert len(set(drawn(it, 300, generator))) == len(it), "all weights are 0: items come uniformly"
    for stream, step in ((1, 2), (0, 9), (0, 15)):
        it.prioritize(stream, step, np.ones(1))
        assert drawn(it, 1, generator)[0] in [(stream, step - i) for i in range(LENGTH)]
        assert len(set(drawn(it, 300, generator))) == len(it)


def test_priorities_of_steps_that_are_gone_or_to_come_are_not_used() -> None:
    it = index(KEPT, steps=30, capacity=10, slots=4)
    kept = {stream.id: stream.stored(7) for stream in it.streams.values()}
    assert it.prioritize(0, 0, np.ones(40)) == len(kept[0])
    assert it.prioritize(9, 0, np.ones(4)) == 0
    assert it.prioritize(1, 100, np.ones(4)) == 0
    assert index(SelectionConfig(recency=0.5)).prioritize(0, 0, np.ones(4)) == 0


@pytest.mark.parametrize("block", [1, 2, 5])
def test_an_item_that_left_is_not_drawn(block: int) -> None:
    it, generator = index(KEPT, steps=20, capacity=10), np.random.default_rng(0)
    for _ in range(40):
        it.prioritize(0, it.streams[0].next - 20, np.ones(20))
        it.prioritize(1, 0, np.ones(10))
        assert set(drawn(it, 50, generator)) <= set(items(it))
        extend(it, 0, block)
        assert set(drawn(it, 50, generator)) <= set(items(it))


def test_a_slot_used_again_forgets_the_priorities_of_its_steps() -> None:
    it = index(KEPT, steps=10, capacity=6, slots=4)
    extend(it, 0, 30)  # the items of stream 1 are gone
    for first in range(40, 200, 3):
        it.prioritize(0, first - 10, np.full(10, 1e6))
        extend(it, 0, 3)
        newest = items(it)[-3:]  # their last steps are new
        assert set(drawn(it, 30, np.random.default_rng(first))) == set(newest)


def test_a_state_continues_the_draws_to_the_bit() -> None:
    selection = SelectionConfig(priority=0.6, recency=0.2)
    it, generator = index(selection, steps=90, capacity=60, slots=20), np.random.default_rng(4)
    some_priorities(it)
    drawn(it, 30, generator)
    for twin in (index(selection, 0, capacity=60, slots=20), index(selection, 0, capacity=90, slots=300)):
        twin.load(*state_of(it))
        state = generator.bit_generator.state
        expected = drawn(it, 100, generator)
        other = np.random.default_rng(0)
        other.bit_generator.state = state
        assert drawn(twin, 100, other) == expected
        for some in (it, twin):
            for stream in (0, 1, 2):
                extend(some, stream, 13)
            some.prioritize(0, it.streams[0].next - 10, np.linspace(1, 3, 10))
        if twin.capacity == it.capacity:
            seeds = np.random.default_rng(8), np.random.default_rng(8)
            assert drawn(it, 100, seeds[0]) == drawn(twin, 100, seeds[1])


def test_a_state_without_priorities_starts_them_anew() -> None:
    it, twin = index(SelectionConfig()), index(KEPT, 0)
    twin.load(*state_of(it))
    assert_distributed(drawn(twin, 8000, np.random.default_rng(0)), dict.fromkeys(items(it), 1 / len(it)))


# --- through a store


def test_a_store_returns_how_many_steps_took_a_priority(make: MakeStore) -> None:
    store = make(selection=SelectionConfig(priority=0.5))
    fill(store, 12)
    keys = store.sample(5, LENGTH, np.random.default_rng(0))[1]
    assert store.set_priority(keys, np.ones((5, LENGTH))) == 5 * LENGTH
    keys[:, :, 1] += 100
    assert store.set_priority(keys, np.ones((5, LENGTH))) == 0
    with pytest.raises(ValueError, match="0 or more"):
        store.set_priority(keys, np.full((5, LENGTH), -1.0))


def test_a_store_draws_by_priority_of_the_learners_signal(make: MakeStore) -> None:
    store = make(selection=KEPT, online=False, length=3)
    for stream, n in ((0, 20), (1, 12), (2, 9)):
        store.append(stream, 0, rows(stream, 0, n))
        keys = np.stack(np.broadcast_arrays(stream, np.arange(n)), -1)[None].astype(np.int64)
        store.set_priority(keys, np.full((1, n), 0.0 if n < 20 else 2.0))
    home = store.shard(0) if hasattr(store, "shard") else store
    shared = {stream for stream in range(3) if home is store or store.shard(stream) is home}  # type: ignore[attr-defined]
    keys = store.sample(500, 3, np.random.default_rng(0))[1]
    assert not set(keys[:, 0, 0].tolist()) & (shared - {0})
    assert 0 in keys[:, 0, 0]


def test_online_sequences_come_before_the_mixture(make: MakeStore) -> None:
    store = make(selection=SelectionConfig(priority=0.5, recency=0.5), length=LENGTH)
    fill(store, 22)
    expected = {(stream, start) for stream in range(3) for start in (1, 5, 9, 13, 17)}
    keys = store.sample(15, LENGTH, np.random.default_rng(0))[1]
    assert {tuple(key) for key in keys[:, 0].tolist()} == expected


@pytest.mark.parametrize("make", SAVING, indirect=True)
def test_a_checkpoint_keeps_the_priorities(make: MakeStore, tmp_path: Path) -> None:
    settings = {"selection": SelectionConfig(priority=0.7, recency=0.1), "length": LENGTH, "capacity": 60}
    store, generator = make(**settings), np.random.default_rng(0)
    fill(store, 40)
    for _ in range(10):
        keys = store.sample(6, LENGTH, generator)[1]
        store.set_priority(keys, generator.exponential(1.0, keys.shape[:2]))
    store.checkpoint(tmp_path / "saved")
    other = make(**settings)
    other.restore(tmp_path / "saved")
    generators = [np.random.default_rng(3), np.random.default_rng(3)]
    for _ in range(20):
        keys, twin = (s.sample(6, LENGTH, g)[1] for s, g in zip((store, other), generators, strict=True))
        np.testing.assert_array_equal(keys, twin)
        for s in (store, other):
            s.set_priority(keys, np.abs(np.sin(keys[:, :, 1])))


def test_memory_counts_what_choosing_takes() -> None:
    plain, mixed = (memory(selection=s) for s in (SelectionConfig(), SelectionConfig(priority=0.5, recency=0.1)))
    each = (mixed.stats()["max_gb"] - plain.stats()["max_gb"]) * 1e9 / (plain.slots * plain.chunk_length)  # type: ignore[attr-defined]
    assert each == pytest.approx(29)
