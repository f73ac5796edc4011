"""The bookkeeping under pressure: what goes first when there is no room, and what is never given out again."""

import contextlib

import numpy as np
import pytest

from replay.indexing.index import Index
from replay.indexing.index_state import state_of


def index(
    *, length: int = 3, chunk_length: int = 2, slots: int = 4, capacity: int = 100, online: bool = False
) -> Index:
    return Index(length=length, chunk_length=chunk_length, slots=slots, capacity=capacity, online=online)


def extend(index: Index, stream: int, n: int) -> int:
    first = index.streams[stream].next if stream in index.streams else 0
    return sum(count for _, _, count in index.extend(stream, first, n))


def starts(index: Index) -> list[tuple[int, ...]]:
    return [tuple(key) for key in index.items().tolist()]


def test_items_leave_oldest_first_when_slots_run_out() -> None:
    it = index(slots=3)
    extend(it, 0, 6)
    assert starts(it) == [(0, 0), (0, 1), (0, 2), (0, 3)]
    extend(it, 0, 1)  # a fourth chunk: the two items of the first one go
    assert starts(it) == [(0, 2), (0, 3), (0, 4)] and it.addresses.used_slots == 3


def test_the_rest_of_a_dead_stream_goes_before_younger_items() -> None:
    it = index(slots=4)
    extend(it, 9, 2)  # never gets an item
    extend(it, 0, 6)
    extend(it, 0, 1)  # all slots are taken; stream 9 is older than the oldest item
    assert it.addresses.of(9, 0) is None and starts(it)[0] == (0, 0)


def test_a_young_stream_without_items_outlives_older_items() -> None:
    it = index(slots=4)
    extend(it, 0, 6)
    extend(it, 9, 2)
    extend(it, 0, 1)
    assert it.addresses.of(9, 0) is not None and starts(it)[0] == (0, 2)


def test_a_stream_never_makes_room_for_itself_by_its_own_rest() -> None:
    it = index(length=5, slots=3)
    extend(it, 0, 4)
    extend(it, 1, 1)
    extend(it, 0, 1)
    assert starts(it) == [(0, 0)] and it.addresses.of(1, 0) is None


def test_an_online_sequence_of_a_dropped_stream_is_not_handed_out() -> None:
    it = index(length=2, chunk_length=8, slots=2, online=True)
    extend(it, 0, 3)  # item 1 waits in the queue
    assert list(it.queue) == [(0, 1)]
    extend(it, 1, 5)  # the items of stream 0 leave ...
    extend(it, 2, 1)  # ... and its chunk too
    assert it.addresses.of(0, 1) is None
    extend(it, 1, 3)
    extend(it, 0, 3)  # in the chunk of step 1 again
    assert it.streams[0].begin == 3 and it.addresses.of(0, 3) is not None
    assert next(iter(it.queue)) == (0, 1)
    addresses, fresh = it.draw(1, np.random.default_rng(0), True)
    assert fresh == 1 and it.addresses.keys(addresses, 2)[0].tolist() != [[0, 1], [0, 2]]


def test_evicting_to_a_count() -> None:
    it = index(slots=20)
    extend(it, 0, 8)
    it.evict_to(5)
    assert it.evicted == 5 and starts(it) == [(0, 5)] and it.addresses.of(0, 3) is None
    it.evict_to(2)
    assert it.evicted == 5
    it.evict_to(6)
    assert len(it) == 0
    extend(it, 0, 1)
    assert starts(it) == [(0, 6)]
    with pytest.raises(ValueError, match=r"evict_to\(8\): only 7"):
        it.evict_to(8)


def test_chunks_that_leave_are_told() -> None:
    it = index(slots=3)
    told: list[int] = []
    it.addresses.released = told.append
    extend(it, 9, 1)  # slot 0, without items
    extend(it, 0, 4)
    assert not told
    extend(it, 0, 1)  # no slot is left: the rest of stream 9 goes, for it is older than any item
    assert told == [0] and it.addresses.of(9, 0) is None
    it.evict_to(3)  # items 0 to 2: the chunk of steps 0 and 1
    assert told == [0, 1]


def test_adopted_chunks_are_as_if_they_had_been_written() -> None:
    it, other = index(length=3, chunk_length=4, slots=20), index(length=3, chunk_length=4, slots=20)
    extend(it, 0, 8)
    extend(it, 5, 4)
    extend(it, 0, 3)
    for stream, chunk, first, stop in ((0, 0, 0, 4), (0, 1, 4, 8), (5, 0, 0, 4), (0, 2, 8, 11)):
        slot = other.adopt(stream, chunk, first, stop)
        assert other.addresses.of(stream, first) == slot * 4
    assert starts(it) == starts(other)
    assert extend(it, 0, 2) == extend(other, 0, 2) and starts(it) == starts(other)


def test_an_adopted_stream_may_begin_anywhere_and_older_chunks_make_room() -> None:
    it = index(length=3, chunk_length=4, slots=2)
    it.adopt(7, 5, 22, 24)  # its earlier steps are gone
    assert it.streams[7].stored(4) == range(22, 24) and starts(it) == []
    it.adopt(7, 6, 24, 28)
    assert starts(it) == [(7, step) for step in range(22, 26)]
    it.adopt(7, 7, 28, 32)
    assert starts(it) == [(7, step) for step in range(24, 30)]
    it.know(3, 40)
    assert it.streams[3].stored(4) == range(40, 40) and extend(it, 3, 1) == 1
    assert it.addresses.of(3, 40) is not None


def test_addresses_of_what_is_not_there() -> None:
    it = index()
    extend(it, 0, 3)
    assert [it.addresses.of(0, step) is None for step in (-1, 0, 2, 3, 4)] == [True, False, False, True, True]
    assert it.addresses.of(5, 0) is None
    assert list(it.addresses.spans(0, 1, 6)) == [(it.addresses.of(0, 1), 0, 1), (it.addresses.of(0, 2), 1, 1)]
    assert list(it.addresses.spans(5, 0, 3)) == []


def test_a_state_that_does_not_fit_is_refused() -> None:
    it = index(slots=20)
    extend(it, 0, 30)
    with pytest.raises(ValueError, match="28 items in 15 chunks, this store has room for 8 in 4"):
        index(slots=4).load(*state_of(it))


def test_steps_that_were_not_written_are_not_published() -> None:
    it = index()
    with contextlib.closing(it.extend(0, 0, 3)) as writing:  # type: ignore[type-var]
        next(writing)  # the writer fails here
    assert it.streams[0].next == 0 and len(it) == 0
    assert extend(it, 0, 3) == 3


@pytest.mark.parametrize(("length", "chunk_length"), [(1, 1), (2, 5), (6, 6), (9, 2), (4, 3), (7, 1)])
def test_addresses_and_keys_of_sequences_over_any_number_of_chunks(length: int, chunk_length: int) -> None:
    it = index(length=length, chunk_length=chunk_length, slots=100)
    for n in (3, 1, 2, 8, 5):
        for stream in (4, 7, 5):
            extend(it, stream, n)
    items = it.items()
    first = np.array([it.addresses.of(stream, step) for stream, step in items.tolist()])
    expected = [[it.addresses.of(stream, step + i) for i in range(length)] for stream, step in items.tolist()]
    assert it.addresses.of_sequences(first, length).tolist() == expected
    keys = it.addresses.keys(first, length)
    assert (keys[:, :, 0] == items[:, :1]).all() and (keys[:, :, 1] == items[:, 1:] + np.arange(length)).all()
    assert it.addresses.of_sequences(first[:0], length).shape == (0, length)


@pytest.mark.parametrize("slots", [60, 9])
def test_blocks_and_single_steps_leave_the_same_behind(slots: int) -> None:
    whole, single = (index(length=4, chunk_length=3, slots=slots, capacity=20, online=True) for _ in range(2))
    for stream, n in [(0, 5), (1, 11), (0, 1), (2, 30), (1, 2), (3, 4), (0, 17)]:
        extend(whole, stream, n)
        for _ in range(n):
            extend(single, stream, 1)
        assert starts(whole) == starts(single)
        assert whole.addresses.used_slots == single.addresses.used_slots
        assert {s.id: s.stored(3) for s in whole.streams.values()} == {
            s.id: s.stored(3) for s in single.streams.values()
        }
    waiting = [[key for key in it.queue if it.addresses.of(*key) is not None] for it in (whole, single)]
    assert waiting[0] == waiting[1] and waiting[0]
