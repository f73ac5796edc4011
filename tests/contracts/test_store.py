"""What every replay store promises about steps going in and sequences coming out, whatever it is made of."""

import threading

import numpy as np
import pytest

from replay.store import Store, StreamExistsError
from tests.contracts.stores import SCHEMA, STORES, MakeStore, check_sequences, fill, latents, rng, rows


@pytest.fixture(params=STORES)
def make(request: pytest.FixtureRequest) -> MakeStore:
    return STORES[request.param]


def test_is_a_store(make: MakeStore) -> None:
    assert isinstance(make(), Store)


# --- append


def test_append_counts_only_new_steps(make: MakeStore) -> None:
    store = make()
    assert store.append(5, 0, rows(5, 0, 3)) == 3
    assert store.append(5, 0, rows(5, 0, 3)) == 0
    assert store.append(5, 1, rows(5, 1, 6)) == 4
    assert store.append(5, 7, rows(5, 7, 0)) == 0
    assert store.streams() == {5: range(0, 7)}
    np.testing.assert_array_equal(store.read(5, 0, 7)["step"], np.arange(7))


def test_repeated_steps_do_not_replace_what_is_stored(make: MakeStore) -> None:
    store = make()
    store.append(1, 0, rows(1, 0, 4))
    store.append(1, 2, rows(1, 2, 4, step=np.array([90, 91, 4, 5])))
    np.testing.assert_array_equal(store.read(1, 0, 6)["step"], np.arange(6))


def test_a_stream_that_exists_cannot_begin_again(make: MakeStore) -> None:
    store = make()
    store.begin([5, 6, 7], 111)
    store.begin([5, 6, 7], 111)  # the reply was lost
    with pytest.raises(StreamExistsError, match="Stream 6 cannot begin: .* step 0") as refused:
        store.begin([6], 222)
    assert refused.value.stream == 6
    assert store.append(5, 0, rows(5, 0, 6)) == 6
    assert store.append(5, 0, rows(5, 0, 6)) == 0  # this reply, too
    store.append(8, 0, rows(8, 0, 2))  # nobody has claimed it
    for stream, step, writer in ((5, 6, 222), (5, 6, 111), (8, 2, 111)):
        with pytest.raises(StreamExistsError, match=f"Stream {stream} cannot begin: .* step {step}"):
            store.begin([stream], writer)
    check_sequences(*store.sample(4, 4, rng()))
    assert store.append(6, 0, rows(6, 0, 5)) == 5
    assert {stream: len(steps) for stream, steps in store.streams().items()} == {5: 6, 6: 5, 7: 0, 8: 2}
    check_sequences(*store.sample(16, 4, rng()))


def test_a_stream_that_was_evicted_cannot_begin_again(make: MakeStore) -> None:
    store = make(length=3, capacity=6, chunk_length=2, streams=1)
    store.begin([0], 111)
    store.append(0, 0, rows(0, 0, 40))
    with pytest.raises(StreamExistsError, match="step 40"):
        store.begin([0], 111)


@pytest.mark.parametrize("first", [4, 100, -1])
def test_a_gap_is_refused_and_changes_nothing(make: MakeStore, first: int) -> None:
    store = make()
    store.append(1, 0, rows(1, 0, 3))
    with pytest.raises(ValueError, match=rf"Stream 1 continues at step 3, got step {first}"):
        store.append(1, first, rows(1, first, 2))
    with pytest.raises(ValueError, match="continues at step 0"):
        store.append(2, 1, rows(2, 1, 1))
    assert store.streams() == {1: range(0, 3)}


def test_rows_must_fit_the_schema(make: MakeStore) -> None:
    store, good = make(), rows(0, 0, 3)
    for bad, message in [
        ({k: v for k, v in good.items() if k != "reward"}, r"missing \['reward'\]"),
        (good | {"speed": good["reward"]}, r"unknown \['speed'\]"),
        (good | {"reward": good["reward"].astype(np.float64)}, "'reward': got float64 .* expected float32"),
        (good | {"image": good["image"][:, :1]}, r"'image': got uint8 \[3, 1, 3\], expected uint8 \[3\] \+ \[2, 3\]"),
        (good | {"is_first": good["is_first"][:2]}, r"'is_first': got bool \[2\], expected bool \[3\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            store.append(0, 0, bad)
    assert len(store) == 0 and not store.streams()


# --- sample


@pytest.mark.parametrize(("length", "chunk_length"), [(4, 7), (4, 4), (9, 2), (1, 3), (5, 1), (2, 100)])
def test_sequences_are_whole_over_chunk_borders(make: MakeStore, length: int, chunk_length: int) -> None:
    store = make(length=length, chunk_length=chunk_length)
    fill(store, 40, block=3)
    assert len(store) == 3 * (40 - length + 1)
    for seed in range(20):
        check_sequences(*store.sample(8, length, rng(seed)))


def test_batch_layout(make: MakeStore) -> None:
    store = make()
    fill(store, 20)
    batch, keys = store.sample(6, 4, rng())
    assert keys.shape == (6, 4, 2) and batch.keys() == SCHEMA.all.keys()
    for name, field in SCHEMA.fields.items():
        assert batch[name].shape == (6, 4, *field.shape) and batch[name].dtype == field.dtype
    for name, field in SCHEMA.latents.items():  # of the first column only
        assert batch[name].shape == (6, *field.shape) and batch[name].dtype == field.dtype
    assert all(value.flags.aligned and value.flags.writeable for value in batch.values())
    first = [rows(int(stream), int(step), 1) for stream, step in keys[:, 0]]
    for name in SCHEMA.latents:
        np.testing.assert_array_equal(batch[name], np.concatenate([row[name] for row in first]))


def test_a_batch_is_a_copy(make: MakeStore) -> None:
    store = make(online=False)
    fill(store, 4, streams=1)
    for value in store.sample(2, 4, rng())[0].values():
        value.fill(0)
    check_sequences(*store.sample(2, 4, rng()))


def test_first_column_is_first_and_abandoned_episodes_end(make: MakeStore) -> None:
    store = make(length=4)
    first, last = np.zeros(9, bool), np.zeros(9, bool)
    first[[0, 3, 6]] = True  # steps 2 and 5 are not marked as last: those episodes were abandoned
    store.append(0, 0, rows(0, 0, 9, is_first=first, is_last=last))
    batch, keys = store.sample(64, 4, rng())
    for i, start in enumerate(keys[:, 0, 1]):
        expected = first[start : start + 4].copy()
        expected[0] = True
        np.testing.assert_array_equal(batch["is_first"][i], expected)
        np.testing.assert_array_equal(batch["is_last"][i], [*first[start + 1 : start + 4], False])
    stored = store.read(0, 0, 9)
    np.testing.assert_array_equal(stored["is_first"], first)
    np.testing.assert_array_equal(stored["is_last"], last)


def test_shorter_sequences_than_items(make: MakeStore) -> None:
    store = make(length=6)
    fill(store, 30)
    batch, keys = store.sample(8, 3, rng())
    assert keys.shape == (8, 3, 2)
    check_sequences(batch, keys)
    with pytest.raises(ValueError, match="length of 1 to 6"):
        store.sample(8, 7, rng())


def test_online_sequences_come_first_and_once(make: MakeStore) -> None:
    store = make(length=4)
    fill(store, 22, streams=3)
    expected = {(stream, start) for stream in range(3) for start in (1, 5, 9, 13, 17)}
    assert store.stats()["queue"] == len(expected)
    store.sample(50, 4, rng(), online=False)
    assert store.stats()["queue"] == len(expected)
    handed = [store.sample(5, 4, rng())[1][:, 0] for _ in range(3)]
    assert {tuple(key) for key in np.concatenate(handed).tolist()} == expected
    assert store.stats()["queue"] == 0 and store.stats()["sampled_online"] == 15
    check_sequences(*store.sample(5, 4, rng()))


def test_without_online_queue_all_draws_are_uniform(make: MakeStore) -> None:
    store = make(online=False)
    fill(store, 40)
    assert store.stats()["queue"] == 0
    store.sample(9, 4, rng())
    assert store.stats()["sampled_online"] == 0


def test_items_are_drawn_uniformly_whatever_stream_they_are_of(make: MakeStore) -> None:
    store = make(length=3, online=False)
    lengths = {0: 40, 1: 7, 2: 3, 3: 22}
    for stream, n in lengths.items():
        store.append(stream, 0, rows(stream, 0, n))
    items = sum(n - 2 for n in lengths.values())
    counts: dict[tuple[int, ...], int] = {}
    draws, generator = 200, rng(3)
    for _ in range(draws):
        for key in store.sample(items, 3, generator)[1][:, 0].tolist():
            counts[tuple(key)] = counts.get(tuple(key), 0) + 1
    assert len(counts) == items
    chi_square = sum((count - draws) ** 2 / draws for count in counts.values())
    assert abs(chi_square - (items - 1)) < 5 * np.sqrt(2 * (items - 1)), chi_square


def test_sampling_depends_on_content_and_generator_only(make: MakeStore) -> None:
    stores = [make(), make()]
    for store in stores:
        fill(store, 30)
    stores[0].read(0, 0, 5)
    generators = [rng(9), rng(9)]
    for _ in range(12):
        (batch, keys), (other, other_keys) = (s.sample(7, 4, g) for s, g in zip(stores, generators, strict=True))
        np.testing.assert_array_equal(keys, other_keys)
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key])


def test_sampling_names_what_it_waited_for(make: MakeStore) -> None:
    store = make(length=4)
    store.append(0, 0, rows(0, 0, 3))
    with pytest.raises(TimeoutError, match="waited 0.05 s for the first sequence of 4 steps.* 3 steps"):
        store.sample(1, 4, rng(), timeout=0.05)


def test_a_step_can_be_sampled_as_soon_as_it_is_written(make: MakeStore) -> None:
    store, got = make(), []
    thread = threading.Thread(target=lambda: got.append(store.sample(1, 4, rng(), timeout=100)))
    thread.start()
    fill(store, 4, streams=1)
    thread.join(20)
    np.testing.assert_array_equal(got[0][1][0, :, 1], np.arange(4))
    fill(store, 6, streams=1)
    assert store.sample(1, 4, rng())[1][0, 0].tolist() == [0, 1]  # the online queue's newest


# --- latents


def test_latents_are_written_back_over_chunk_borders(make: MakeStore) -> None:
    store = make(length=6, chunk_length=4)
    fill(store, 30, streams=2)
    keys = store.sample(1, 6, rng(2), online=False)[1]
    stream, first = keys[0, 0].tolist()
    assert store.write_back(keys[:, 1:], latents(1, 5, 77)) == 5
    after = store.read(stream, 0, 30)
    for name, value in rows(stream, 0, 30).items():
        if name in SCHEMA.latents:
            value[first + 1 : first + 6] = 77
        np.testing.assert_array_equal(after[name], value, name)
    np.testing.assert_array_equal(store.read(1 - stream, 0, 30)["deter"], rows(1 - stream, 0, 30)["deter"])


def test_one_latent_may_be_written_back_alone(make: MakeStore) -> None:
    store = make()
    fill(store, 8, streams=1)
    keys = store.sample(1, 4, rng())[1]
    assert store.write_back(keys, {"stoch": np.full((1, 4, 2), 9, np.int8)}) == 4
    start = int(keys[0, 0, 1])
    assert (store.read(0, start, 4)["stoch"] == 9).all()
    np.testing.assert_array_equal(store.read(0, start, 4)["deter"], rows(0, start, 4)["deter"])


def test_later_sampling_reads_refreshed_latents(make: MakeStore) -> None:
    store = make(online=False)
    fill(store, 4, streams=1)
    keys = store.sample(1, 4, rng())[1]
    store.write_back(keys, latents(1, 4, 5))
    assert (store.sample(3, 4, rng())[0]["deter"] == 5).all()


def test_stale_keys_write_nowhere(make: MakeStore) -> None:
    store = make(length=3, capacity=6, chunk_length=2, streams=1)
    store.append(0, 0, rows(0, 0, 5))
    keys = store.sample(4, 3, rng(), online=False)[1]
    for first in range(0, 300, 3):  # every slot has been used again, by this stream and by another
        store.append(0, 5 + first, rows(0, 5 + first, 3))
        store.append(1, first, rows(1, first, 3))
    assert store.write_back(keys, latents(4, 3, 99)) == 0
    for stream, steps in store.streams().items():
        for name, value in rows(stream, steps.start, len(steps)).items():
            np.testing.assert_array_equal(store.read(stream, steps.start, len(steps))[name], value)


def test_a_partly_evicted_sequence_is_refreshed_where_it_is_left(make: MakeStore) -> None:
    store = make(length=4, capacity=4, chunk_length=2, streams=1, online=False)
    store.append(0, 0, rows(0, 0, 5))
    keys = store.sample(1, 4, rng(1))[1]
    keys[0, :, 1] = np.arange(4)
    store.append(0, 5, rows(0, 5, 5))
    left = store.streams()[0]
    assert 0 < left.start < 10
    keys[0, :, 1] = np.arange(left.start - 2, left.start + 2)
    assert store.write_back(keys, latents(1, 4, 50)) == 2
    assert (store.read(0, left.start, 2)["deter"] == 50).all()
    np.testing.assert_array_equal(store.read(0, left.start + 2, 2)["deter"], rows(0, left.start + 2, 2)["deter"])


def test_keys_of_steps_to_come_or_unknown_streams_write_nowhere(make: MakeStore) -> None:
    store = make()
    fill(store, 6, streams=1)
    ahead = np.stack([np.array([[0, 4], [0, 5], [0, 6], [0, 7]]), np.array([[8, 0], [8, 1], [8, 2], [8, 3]])])
    assert store.write_back(ahead, latents(2, 4, 3)) == 2
    assert store.append(0, 6, rows(0, 6, 2)) == 2
    np.testing.assert_array_equal(store.read(0, 6, 2)["deter"], rows(0, 6, 2)["deter"])


def test_wrong_write_backs_are_refused(make: MakeStore) -> None:
    store = make()
    fill(store, 12)
    keys = store.sample(2, 4, rng())[1]
    torn = keys.copy()
    torn[1, 2, 1] += 1
    for bad_keys, values, message in [
        (torn, latents(2, 4, 1), "Row 1 of the step keys"),
        (keys.astype(np.int32), latents(2, 4, 1), "Step keys are int64"),
        (keys[0], latents(2, 4, 1), "Step keys are int64"),
        (keys, latents(2, 3, 1), "Latents are"),
        (keys, {"reward": np.zeros((2, 4), np.float32)}, r"\['reward'\] cannot be written back"),
        (keys, {"deter": np.zeros((2, 4, 4))}, "'deter': got float64"),
    ]:
        with pytest.raises(ValueError, match=message):
            store.write_back(bad_keys, values)


def test_priorities_are_checked(make: MakeStore) -> None:
    store = make()
    fill(store, 12)
    keys = store.sample(2, 4, rng())[1]
    assert store.set_priority(keys, np.ones((2, 4))) == 0  # uniform sampling uses none
    with pytest.raises(ValueError, match="one per step"):
        store.set_priority(keys, np.ones((2, 3)))
