"""Windows are whole, as old as they should be, and the same for every store."""

import numpy as np
import pytest

from learner.health.windows import Ages
from replay.keys import stream_id
from replay.step import Rows
from replay.store import ShardDownError, Store
from tests.contracts.stores import STORES, check_sequences, fill, memory, rng, rows


@pytest.mark.parametrize("name", STORES)
def test_every_store_has_windows_by_age(name: str) -> None:
    store: Store = STORES[name]()
    fill(store, 100, block=20)
    before = store.stats()
    ages = Ages(store, 9)  # longer than the sequences that the store samples
    assert len(ages) == 3 * 92
    for low, high, steps in ((0.0, 0.1, range(10)), (0.9, 1.0, range(82, 92)), (0.0, 1.0, range(92))):
        windows = ages.draw(16, low, high, rng())
        assert windows is not None and len(windows) == 16
        keys = windows.keys[:, None] + np.stack([np.zeros(9, np.int64), np.arange(9)], -1)  # [n T 2]
        check_sequences(windows.rows, keys)
        assert set(windows.keys[:, 1].tolist()) <= set(steps)
        assert windows.rows["is_first"][:, 0].all() and windows.rows["deter"].shape == (16, 4)
    assert store.stats() == before


def test_draws_repeat_and_cover_their_share() -> None:
    store = memory()
    fill(store, 200)
    found = [Ages(store, 5).draw(32, 0.5, 1.0, rng(3)) for _ in range(2)]
    assert found[0] is not None and found[1] is not None
    np.testing.assert_array_equal(found[0].keys, found[1].keys)
    assert found[0].keys[:, 1].min() >= 98 and len(set(found[0].keys[:, 0].tolist())) == 3


def test_lives_of_an_environment_follow_one_another() -> None:
    store = memory()
    early, late, other = stream_id(0, 2, 1), stream_id(0, 10, 1), stream_id(3, 11, 0)
    for stream in (late, early, other):
        store.append(stream, 0, rows(stream % 1000, 0, 50))
    ages = Ages(store, 5)
    oldest, newest = ages.draw(64, 0.0, 0.4, rng()), ages.draw(64, 0.6, 1.0, rng())
    assert oldest is not None and newest is not None
    assert set(oldest.keys[:, 0].tolist()) == {early, other} and set(newest.keys[:, 0].tolist()) == {late, other}


def test_the_newest_windows_are_side_by_side_and_taken_in_turn() -> None:
    store = memory()
    fill(store, 40)
    found = Ages(store, 8).newest(6, 5, rng())
    assert found is not None
    assert sorted(map(tuple, found.keys.tolist())) == [(stream, step) for stream in range(3) for step in (27, 32)]
    everything = Ages(store, 8).newest(21, 5, rng())
    assert everything is not None and everything.keys[:, 1].min() == 2
    assert Ages(store, 8).newest(22, 5, rng()) is None


def test_workers_that_are_gone_have_no_newest_windows() -> None:
    store = memory()
    fill(store, 40)
    before = Ages(store, 8).ends
    assert before == [(0, 40), (1, 40), (2, 40)]
    store.append(1, 40, rows(1, 40, 10))
    ages = Ages(store, 8, before)
    assert (ages.playing, len(ages)) == (43, 33 + 43 + 33) and ages.ends == [(0, 40), (1, 50), (2, 40)]
    found = ages.newest(4, 5, rng())
    assert found is not None and found.keys.tolist() == [[1, step] for step in (42, 37, 32, 27)]
    new = stream_id(0, 1, 2)  # another life of the third environment, too short to have windows
    store.append(new, 0, rows(7, 0, 4))
    found = Ages(store, 8, before).newest(4, 5, rng())
    assert found is not None and set(found.keys[:, 0].tolist()) == {1, 2}
    idle = Ages(store, 8, Ages(store, 8).ends)  # nobody has stepped
    assert idle.playing == len(idle)


def test_windows_can_be_read_again_while_they_are_stored() -> None:
    store = memory()
    fill(store, 40)
    found = Ages(store, 8).again([(0, 3), (9, 0), (2, 36), (2, 32)])
    assert found is not None and found.keys.tolist() == [[0, 3], [2, 32]]
    check_sequences(found.rows, found.keys[:, None] + np.stack([np.zeros(8, np.int64), np.arange(8)], -1))
    assert Ages(store, 8).again([(9, 0)]) is None


def test_what_is_gone_is_replaced_by_another_window() -> None:
    store = memory()
    fill(store, 60)
    ages, read = Ages(store, 8), store.read

    def lossy(stream: int, first_step_id: int, n: int) -> Rows:
        if stream == 0:
            raise ValueError("evicted")
        if stream == 1:
            raise ShardDownError("it does not answer")
        return read(stream, first_step_id, n)

    store.read = lossy  # type: ignore[method-assign]
    found = ages.draw(8, 0.0, 1.0, rng())
    assert found is not None and set(found.keys[:, 0].tolist()) == {2}
    assert ages.draw(200, 0.0, 1.0, np.random.default_rng(0)) is not None
    store.read = lambda stream, first_step_id, n: lossy(0, first_step_id, n)  # type: ignore[method-assign]
    assert ages.draw(8, 0.0, 1.0, rng()) is None


def test_an_empty_store_has_no_windows() -> None:
    ages = Ages(memory(), 8)
    assert len(ages) == 0 and ages.draw(4, 0.0, 1.0, rng()) is None and ages.newest(4, 5, rng()) is None
