"""A disk store over the lives of its processes: what comes back, in which order, and what does not."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.config import SelectionConfig
from replay.disk.disk_store import DiskStore
from replay.store import GapError
from tests.contracts.disk_stores import new_directory
from tests.contracts.stores import SCHEMA, check_sequences, fill, latents, rng, rows
from tests.replay.disk.disk_lives import size
from tests.replay.disk.disk_process import KEEP, LENGTH, store


def starts(it: DiskStore) -> list[tuple[int, ...]]:
    return [tuple(key) for key in it.items().tolist()]


def test_a_closed_store_comes_back_as_it_was(quick: Path) -> None:
    it = store(quick)
    fill(it, 40, block=3)
    keys = it.sample(9, LENGTH, rng())[1]
    it.write_back(keys, latents(9, LENGTH, 55))
    before = {stream: it.read(stream, 0, 40) for stream in range(3)}
    stats, items = it.stats(), sorted(starts(it))
    it.close()
    said: list[str] = []
    it = store(quick, note=said.append)
    assert said == [f"Replay {quick} has 111 sequences in 18 chunks of 3 streams again."]
    for stream, expected in before.items():
        for key, value in it.read(stream, 0, 40).items():
            np.testing.assert_array_equal(value, expected[key], key)
    assert it.stats() == stats | {"queue": 0} and sorted(starts(it)) == items
    with pytest.raises(GapError):
        it.append(0, 41, rows(0, 41, 1))
    for stream in range(3):
        assert it.append(stream, 40, rows(stream, 40, 20)) == 20
    check_sequences(*it.sample(64, LENGTH, rng()))
    it.close()
    assert store(quick).streams() == dict.fromkeys(range(3), range(60))


def test_closing_again_and_again_keeps_open_chunks(quick: Path) -> None:
    for first in range(0, 20, 2):
        it = store(quick)
        it.append(4, first, rows(4, first, 2))
        it.close()
    it = store(quick)
    assert it.streams() == {4: range(20)}
    check_sequences(*it.sample(64, LENGTH, rng()))
    assert len(list((quick / "chunks").glob("*.open"))) == 1


def test_streams_without_steps_go_on_where_they_were(quick: Path) -> None:
    it = store(quick, capacity=10, streams=1)
    it.append(3, 0, rows(3, 0, 9))
    for first in range(0, 70, 7):
        for stream in (5, 6):
            it.append(stream, first, rows(stream, first, 7))
    assert it.streams()[3] == range(9, 9)
    it.close()
    it = store(quick, capacity=10, streams=1)
    assert it.streams()[3] == range(9, 9)
    assert it.append(3, 9, rows(3, 9, 9)) == 9
    check_sequences(*it.sample(64, LENGTH, rng()))


def test_items_come_back_in_the_order_of_their_chunks(quick: Path) -> None:
    it = store(quick)
    for first in range(0, 21, 7):
        for stream in (2, 0, 1):
            it.append(stream, first, rows(stream, first, 7))
    it.close()
    assert starts(store(quick)) == [
        (stream, start) for last in (7, 14, 21) for stream in (2, 0, 1)
        for start in range(max(0, last - 7 - LENGTH + 1), last - LENGTH + 1)
    ]  # fmt: skip


def test_a_smaller_capacity_lets_the_oldest_go(quick: Path) -> None:
    it = store(quick)
    fill(it, 70)
    it.close()
    it = store(quick, capacity=40)
    it._sealer.drain()
    assert len(it) == 40 and {tuple(key) for key in starts(it)} == set(starts(it))
    assert {steps.stop for steps in it.streams().values()} == {70}
    check_sequences(*it.sample(64, LENGTH, rng()))
    assert len(list((quick / "chunks").glob("*.rows"))) == it.stats()["chunks"]
    assert it.stats()["evicted"] == 3 * 67 - 40
    it.close()
    assert 40 <= len(store(quick, capacity=5000)) < 40 + 3 * 7  # what had left of the oldest chunks is there again


def test_sequences_of_another_length(quick: Path) -> None:
    it = store(quick)
    fill(it, 40)
    it.close()
    it = store(quick, length=9)
    assert len(it) == 3 * 32
    check_sequences(*it.sample(64, 9, rng()))


def test_nothing_waits_in_the_online_queue_that_was_there_before(quick: Path) -> None:
    it = store(quick)
    fill(it, 40)
    it.close()
    it = store(quick)
    assert it.available() == (111, 0)
    it.append(0, 40, rows(0, 40, 8))
    assert it.available() == (119, 2)
    assert it.sample(2, LENGTH, rng())[1][:, 0].tolist() == [[0, 37], [0, 41]]


def test_a_cleared_store_stays_empty(quick: Path) -> None:
    it = store(quick)
    fill(it, 40)
    it.clear()
    assert size(quick / "chunks") == 0
    fill(it, 20)
    check_sequences(*it.sample(64, LENGTH, rng()))
    it.clear()
    it.close()
    said: list[str] = []
    assert store(quick, note=said.append).streams() == {} and said[0].startswith(f"Replay {quick} has 0 sequences")


def test_a_restored_store_is_durable(quick: Path, tmp_path: Path) -> None:
    it = store(quick)
    fill(it, 40)
    it.checkpoint(tmp_path / "saved")
    fill(it, 50)
    it.restore(tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved")
    it._sealer.drain()
    it._unlock()  # the kernel does so when a process ends
    it = store(quick)
    assert it.streams() == dict.fromkeys(range(3), range(35))  # five steps each were in open chunks
    check_sequences(*it.sample(64, LENGTH, rng()))


def test_sealed_chunks_of_a_checkpoint_are_links(quick: Path) -> None:
    it = store(quick / "store")
    fill(it, 40)
    it.checkpoint(quick / "saved")
    for path in (quick / "saved").glob("sealed-*"):
        assert path.stat().st_ino == (quick / "store" / "chunks" / f"{path.name[7:]}.rows").stat().st_ino
    assert len(list((quick / "saved").glob("sealed-*"))) == 15
    other = store(quick / "other")
    other.restore(quick / "saved")
    assert (quick / "other" / "chunks" / "1-2.rows").stat().st_nlink == 3


def test_draws_by_priority(quick: Path) -> None:
    it = store(quick, selection=SelectionConfig(priority=1.0, initial=0.0, zero_on_sample=False), online=False)
    fill(it, 40)
    keys = np.array([[[1, step] for step in range(20, 20 + LENGTH)]])
    assert it.set_priority(keys, np.ones((1, LENGTH))) == LENGTH
    assert set(it.sample(50, LENGTH, rng())[1][:, 0, 0].tolist()) == {1}


@settings(max_examples=100, deadline=None)
@given(
    operations=st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(0, 3), st.integers(1, 15)),
            st.tuples(st.just("refresh"), st.integers(0, 2**32), st.integers(1, 99)),
            st.tuples(st.just("close"), st.integers(4, 30), st.just(0)),
            st.tuples(st.just("abandon"), st.integers(4, 30), st.just(0)),
        ),
        max_size=30,
    ),
    chunk_length=st.integers(1, 6),
    length=st.integers(1, 7),
    keep=st.sampled_from([0.0, KEEP]),
)
def test_any_life_keeps_what_it_promises(operations: list, chunk_length: int, length: int, keep: float) -> None:
    directory = new_directory()
    capacity = 30
    refreshed: dict[tuple[int, ...], int] = {}
    it = store(directory, length=length, capacity=capacity, chunk_length=chunk_length, keep_seconds=keep)
    try:
        for name, first, second in operations:
            before = it.streams()
            if name == "append":
                stop = before.get(first, range(0)).stop
                assert it.append(first, stop, rows(first, stop, second)) == second
                assert it.streams()[first].stop == stop + second
                it._sealer.drain()
            elif name == "refresh" and len(it):
                keys = it.sample(2, length, rng(first), online=False)[1]
                assert it.write_back(keys, latents(2, length, second)) == 2 * length
                refreshed |= dict.fromkeys(map(tuple, keys.reshape(-1, 2).tolist()), second)
            elif name in ("close", "abandon"):
                if name == "close":
                    it.close()
                else:
                    it._sealer.drain()
                    it._unlock()
                capacity = first
                it = store(directory, length=length, capacity=capacity, chunk_length=chunk_length, keep_seconds=keep)
                known = it.streams()  # one whose steps had all left may be forgotten, and begin at 0 again
                refreshed = {key: value for key, value in refreshed.items() if key[0] in known}
                for stream, steps in before.items():
                    least = steps.stop if name == "close" or keep else steps.stop // chunk_length * chunk_length
                    assert least <= it.streams().get(stream, range(least)).stop <= steps.stop
            assert len(it) <= capacity
            for stream, steps in it.streams().items():
                got, expected = it.read(stream, steps.start, len(steps)), rows(stream, steps.start, len(steps))
                for key in SCHEMA.fields:
                    np.testing.assert_array_equal(got[key], expected[key])
                for step, value in zip(steps, got["stoch"][:, 0].tolist(), strict=True):
                    wanted = refreshed.get((stream, step), (stream * 31 + step) % 251 % 100)
                    stale = name == "abandon" and value == 0 and step >= steps.stop // chunk_length * chunk_length
                    assert value == wanted or stale, (stream, step, value, wanted)
                    refreshed |= {(stream, step): 0} if stale else {}  # the open chunk a closed store had left
                for step in range(steps.stop, max((s for of, s in refreshed if of == stream), default=0) + 1):
                    refreshed.pop((stream, step), None)  # lost, and now written anew
            if len(it):
                check_sequences(*it.sample(6, length, rng(first)))
        it.close()
    finally:
        shutil.rmtree(directory)
