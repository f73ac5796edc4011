import sys
from typing import Any

import numpy as np
import pytest

from replay.step import check_rows
from replay.store import Block, GapError, StreamExistsError
from replay.writer import Writer
from tests.contracts.stores import SCHEMA, STORES, MakeStore, check_sequences, memory, rows


def vector(streams: list[int], step: int) -> dict[str, np.ndarray]:
    each = [rows(stream, step, 1) for stream in streams]
    return {key: np.concatenate([row[key] for row in each]) for key in each[0]}


def test_blocks_arrive_whole_and_in_order() -> None:
    store = memory()
    writer = Writer(store, [3, 4], flush_steps=5, max_seconds=1e9)
    for step in range(14):
        writer.add(vector([3, 4], step))
        assert store.stats()["inserted"] == 2 * 5 * ((step + 1) // 5)
    writer.flush()
    assert store.streams() == {3: range(14), 4: range(14)}
    check_sequences(*store.sample(32, 4, np.random.default_rng(0)))


def test_rows_do_not_wait_longer_than_asked() -> None:
    store = memory()
    writer = Writer(store, [0], flush_steps=100, max_seconds=0.0)
    writer.add(vector([0], 0))
    assert store.stats()["inserted"] == 1


def test_a_refused_block_is_sent_again_and_stored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    store = memory()
    writer = Writer(store, [0, 1], flush_steps=2, max_seconds=1e9)
    append_checked, calls = store.append_checked, []

    def unreliable(blocks: list[Block]) -> list[int]:
        new = []
        for block in blocks:
            calls.append(block)
            if len(calls) in (2, 3):
                raise ConnectionError("the store is away")
            new += append_checked([block])
        return new

    monkeypatch.setattr(store, "append_checked", unreliable)
    writer.add(vector([0, 1], 0))
    with pytest.raises(ConnectionError):
        writer.add(vector([0, 1], 1))  # taken, but stream 1 could not be sent
    with pytest.raises(ConnectionError):
        writer.add(vector([0, 1], 2))  # not taken: the buffer is full
    writer.add(vector([0, 1], 2))
    writer.flush()
    assert store.streams() == {0: range(3), 1: range(3)}
    for stream in (0, 1):
        np.testing.assert_array_equal(store.read(stream, 0, 3)["step"], [0, 1, 2])


def test_a_restarted_environment_gets_a_new_stream() -> None:
    store = memory()
    writer = Writer(store, [0, 1], flush_steps=50, max_seconds=1e9)
    for step in range(3):
        writer.add(vector([0, 1], step))
    writer.replace(1, 9)
    for step in range(3, 5):
        one, two = rows(0, step, 1), rows(9, step - 3, 1)
        writer.add({key: np.concatenate([one[key], two[key]]) for key in one})
    writer.flush()
    assert writer.streams == (0, 9)
    assert store.streams() == {0: range(5), 1: range(3), 9: range(2)}
    with pytest.raises(ValueError, match="Stream 0 is written by another"):
        writer.replace(1, 0)


def test_streams_without_a_row_wait_for_their_next_one() -> None:
    store = memory()
    writer, steps = Writer(store, [0, 1, 2], flush_steps=4, max_seconds=1e9), [0, 0, 0]
    for there in ([1, 1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]):
        row = {key: np.concatenate([rows(s, steps[s], 1)[key] for s in range(3)]) for key in SCHEMA.all}
        writer.add(row, np.array(there, bool))
        steps = [step + one for step, one in zip(steps, there, strict=True)]
        assert writer.next_steps == steps
    assert store.streams() == {0: range(4), 1: range(3), 2: range(4)}, "sent when the first is full"
    writer.flush()
    assert store.streams() == {0: range(4), 1: range(4), 2: range(4)}
    for stream in range(3):
        np.testing.assert_array_equal(store.read(stream, 0, 4)["step"], [0, 1, 2, 3])


def test_a_stream_that_is_cut_goes_on_in_a_new_one() -> None:
    store = memory()
    writer = Writer(store, [0, 1], flush_steps=50, max_seconds=1e9)
    writer.renew = lambda i: 20 + i
    writer.add(vector([0, 1], 0))
    writer.cut(1)
    assert store.streams() == {0: range(1), 1: range(1)} and writer.next_steps == [1, 0]
    one, two = rows(0, 1, 1), rows(21, 0, 1)
    writer.add({key: np.concatenate([one[key], two[key]]) for key in one})
    writer.flush()
    assert store.streams() == {0: range(2), 1: range(1), 21: range(1)}


def test_wrong_rows_are_refused_at_once() -> None:
    writer = Writer(memory(), [0, 1])
    with pytest.raises(ValueError, match="'reward': got float64"):
        writer.add(vector([0, 1], 0) | {"reward": np.zeros(2)})
    with pytest.raises(ValueError, match="rows of 1 environments for 2 streams"):
        writer.add(vector([0], 0))
    with pytest.raises(ValueError, match="must differ"):
        Writer(memory(), [1, 1])
    assert set(vector([0], 0)) == set(SCHEMA.all)


def test_a_store_that_lost_steps_gets_the_rest_as_a_new_stream() -> None:
    store = memory()
    writer = Writer(store, [0, 1], flush_steps=2, max_seconds=1e9)
    for step in range(2):
        writer.add(vector([0, 1], step))
    store.clear()
    store.append(1, 0, rows(1, 0, 2))  # stream 0 alone is lost
    with pytest.raises(GapError, match="Stream 0 continues at step 0, got step 2"):
        for step in range(2, 4):
            writer.add(vector([0, 1], step))
    writer.renew = lambda i: 20 + i
    for step in range(4, 6):
        writer.add(vector([0, 1], step))
    assert store.streams() == {20: range(4), 1: range(6)}
    assert writer.streams == (20, 1)


def test_a_stream_that_another_writer_has_begun_is_refused_or_left_for_a_new_one() -> None:
    store = memory()
    first, second = (Writer(store, [0, 1], flush_steps=2, max_seconds=1e9) for _ in range(2))
    for step in range(2):
        first.add(vector([0, 1], step))
    with pytest.raises(StreamExistsError, match=r"Stream 0 cannot begin: .* it continues at step 2\. Use a stream id"):
        for step in range(2):
            second.add(vector([0, 1], step))
    second.renew = lambda i: 20 + i
    second.flush()
    for step in range(2, 4):
        first.add(vector([0, 1], step))
        second.add(vector([0, 1], step))
    assert store.streams() == {stream: range(4) for stream in (0, 1, 20, 21)}


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
def test_rows_are_checked_when_they_are_added_and_not_again(make: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, calls = Writer(make(), [3, 4], flush_steps=5, max_seconds=1e9), []

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return check_rows(*arguments)

    for module in [module for name, module in sys.modules.items() if name.startswith(("replay.", "deploy."))]:
        if getattr(module, "check_rows", None) is check_rows:
            monkeypatch.setattr(module, "check_rows", counted)
    for step in range(10):
        writer.add(vector([3, 4], step))
    assert len(calls) == 10
    with pytest.raises(ValueError, match="'reward': got float64"):
        writer.add(vector([3, 4], 10) | {"reward": np.zeros(2)})
