"""What every replay store promises over its life: eviction, threads, checkpoints."""

import shutil
import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from replay.store import Store
from tests.contracts.stores import SAVING, STORES, MakeStore, check_sequences, fill, latents, rng, rows
from tests.replay.beside import meanwhile, progress


@pytest.fixture(params=STORES)
def make(request: pytest.FixtureRequest) -> MakeStore:
    return STORES[request.param]


# --- eviction


def test_capacity_in_items_drops_the_oldest(make: MakeStore) -> None:
    store = make(length=3, capacity=10, chunk_length=4, online=False)
    fill(store, 60, streams=1)
    assert len(store) == 10
    starts = {int(key[1]) for key in store.sample(400, 3, rng())[1][:, 0]}
    assert starts == set(range(48, 58))
    with pytest.raises(ValueError, match="Steps 0 to 2 of stream 0 are not all in replay"):
        store.read(0, 0, 3)


def test_capacity_in_gigabytes_is_never_exceeded(make: MakeStore) -> None:
    gb = 40e3 / 1e9
    store = make(length=3, capacity=None, capacity_gb=gb, chunk_length=4)
    shards = len(getattr(store, "shards", [store]))
    for first in range(0, 1200, 7):
        for stream in range(5):
            store.append(stream, first, rows(stream, first, 7))
        assert store.stats()["gb"] <= gb * shards
    assert store.stats()["gb"] > 0.8 * gb
    check_sequences(*store.sample(64, 3, rng()))


@pytest.mark.parametrize("streams", [1, 2, 3])
@pytest.mark.parametrize(("capacity", "gb"), [(20, None), (None, 30 * 48 / 1e9)])
def test_room_is_what_streams_that_write_equally_fast_reach(
    make: MakeStore, streams: int, capacity: int | None, gb: float | None
) -> None:
    store = make(length=4, capacity=capacity, capacity_gb=gb, chunk_length=3, streams=4, online=False)
    most = 0
    for step in range(60):
        for stream in range(streams):
            store.append(stream, step, rows(stream, step, 1))
            most = max(most, len(store))
    room = store.room(range(streams))
    assert room <= most < room + streams, (room, most)
    assert store.room([]) == 0


def test_a_block_larger_than_the_store(make: MakeStore) -> None:
    store = make(length=3, capacity=10, chunk_length=4, streams=1)
    assert store.append(0, 0, rows(0, 0, 500)) == 500
    assert len(store) == 10
    check_sequences(*store.sample(32, 3, rng()))


def test_evicted_online_sequences_are_skipped(make: MakeStore) -> None:
    store = make(length=3, capacity=10, chunk_length=4)
    fill(store, 100, streams=1)
    assert store.stats()["queue"] <= 10
    keys = store.sample(32, 3, rng())[1]
    assert keys[:, 0, 1].min() >= 100 - 10 - 3 - 4
    assert store.stats()["queue"] == 0


def test_items_of_a_dead_stream_stay_until_they_are_the_oldest(make: MakeStore) -> None:
    store = make(length=3, capacity=30, chunk_length=4, online=False, streams=2)
    store.append(7, 0, rows(7, 0, 9))
    fill(store, 12, streams=1)
    assert 7 in store.sample(300, 3, rng())[1][:, 0, 0]
    dead_shard = store.shard(7) if hasattr(store, "shard") else store
    alive = next(s for s in range(100, 200) if not hasattr(store, "shard") or store.shard(s) is dead_shard)
    fill_stream = [rows(alive, first, 10) for first in range(0, 300, 10)]
    for i, block in enumerate(fill_stream):
        store.append(alive, 10 * i, block)
    assert 7 not in store.sample(300, 3, rng())[1][:, 0, 0]
    check_sequences(*store.sample(300, 3, rng()))


def test_streams_that_die_young_cost_no_memory_for_ever(make: MakeStore) -> None:
    store = make(length=5, capacity=50, chunk_length=4, streams=2, online=False)
    for first in range(0, 500, 5):  # none of them ever makes an item
        young = [(stream, 0, rows(stream, 0, 3)) for stream in range(first, first + 5)]
        store.append_checked([*young, (1000, first, rows(1000, first, 5))])
    assert store.stats()["gb"] <= store.stats()["max_gb"]
    assert len(store) > 0
    check_sequences(*store.sample(100, 5, rng()))


def test_a_stream_that_falls_silent_may_go_on(make: MakeStore) -> None:
    store = make(length=3, capacity=8, chunk_length=4, streams=1, online=False)
    store.append(0, 0, rows(0, 0, 2))
    home = store.shard(0) if hasattr(store, "shard") else store
    others = [s for s in range(100, 300) if not hasattr(store, "shard") or store.shard(s) is home][:3]
    for first in range(0, 60, 2):
        for stream in others:
            store.append(stream, first, rows(stream, first, 2))
    with pytest.raises(ValueError, match="a gap"):
        store.append(0, 3, rows(0, 3, 1))
    assert store.append(0, 1, rows(0, 1, 5)) == 4
    batch, keys = store.sample(500, 3, rng())
    check_sequences(batch, keys)
    assert {int(k[1]) for k in keys[:, 0] if k[0] == 0} <= {0, 1, 2, 3}
    assert store.append(0, 6, rows(0, 6, 30)) == 30
    check_sequences(*store.sample(500, 3, rng()))


# --- threads


def test_writers_samplers_and_write_backs_at_the_same_time(make: MakeStore) -> None:
    store, errors, stop = make(length=5, capacity=60, chunk_length=4), [], threading.Event()

    def guarded(work: object, *args: object) -> None:
        try:
            work(*args)  # type: ignore[operator]
        except BaseException as error:
            errors.append(error)
            stop.set()

    def write(stream: int) -> None:
        step = 0
        while not stop.is_set():
            n = 1 + step % 3
            store.append(stream, step, rows(stream, step, n))
            step += n

    def learn(seed: int) -> None:
        generator = rng(seed)
        while not stop.is_set():
            batch, keys = store.sample(6, 5, generator, timeout=100)
            check_sequences(batch, keys)
            mark = (keys[:, 0, 0] * 31 + keys[:, 0, 1]) % 251
            assert (batch["deter"] == mark[:, None]).all(), "another step's latents"
            value = ((keys[..., 0] * 31 + keys[..., 1]) % 251)[..., None]
            store.write_back(
                keys,
                {
                    "deter": np.broadcast_to(value, (6, 5, 4)).astype(np.float16),
                    "stoch": np.broadcast_to(value % 100, (6, 5, 2)).astype(np.int8),
                },
            )

    work = [(write, stream) for stream in range(4)] + [(learn, seed) for seed in range(2)]
    threads = [threading.Thread(target=guarded, args=args) for args in work]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while not stop.is_set() and (store.stats()["sampled"] < 1000 or store.stats()["evicted"] < 100):
        assert time.monotonic() < deadline, f"waited too long: {store.stats()}"
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not errors, errors[0]
    assert not any(thread.is_alive() for thread in threads)


def test_a_checkpoint_beside_live_traffic(make: MakeStore, tmp_path: Path) -> None:
    store = make(length=5, capacity=150, chunk_length=4)
    fill(store, 20, streams=4, block=5)

    def write(stream: int) -> None:
        first = store.streams()[stream].stop
        store.append(stream, first, rows(stream, first, 3))

    def learn(generator: np.random.Generator) -> None:
        batch, keys = store.sample(6, 5, generator, timeout=100)
        check_sequences(batch, keys)
        store.write_back(keys, latents(6, 5, float(generator.integers(100))))

    between = []
    with ExitStack() as traffic:
        for stream in range(4):
            traffic.enter_context(meanwhile(partial(write, stream)))
        for seed in range(2):
            traffic.enter_context(meanwhile(partial(learn, rng(seed))))
        for number in range(4):
            before = store.stats()["inserted"]
            store.checkpoint(tmp_path / str(number))
            between.append((before, store.stats()["inserted"]))
            progress(lambda before=before: store.stats()["inserted"] >= before + 40)  # type: ignore[misc]
    for number, (before, after) in enumerate(between if make in [STORES[name] for name in SAVING] else []):
        again = make(length=5, capacity=150, chunk_length=4)
        again.restore(tmp_path / str(number))
        check_sequences(*again.sample(100, 5, rng()))
        assert before <= again.stats()["inserted"] <= after
        for stream, steps in again.streams().items():
            content = again.read(stream, steps.start, len(steps))
            np.testing.assert_array_equal(content["step"], np.arange(steps.start, steps.stop))
            assert (content["deter"] == content["deter"][:, :1]).all(), "latents of two writes in one step"


# --- checkpoints

saving = pytest.mark.parametrize("make", SAVING, indirect=True)


def assert_same(store: Store, other: Store, length: int) -> None:
    assert len(store) == len(other) and store.streams() == other.streams()
    assert store.stats() == other.stats()
    for stream, steps in store.streams().items():
        if len(steps):
            mine, theirs = (s.read(stream, steps.start, len(steps)) for s in (store, other))
            for key in mine:
                np.testing.assert_array_equal(mine[key], theirs[key])
    generators = [rng(4), rng(4)]
    for _ in range(10):
        (batch, keys), (twin, twin_keys) = (
            s.sample(5, length, g) for s, g in zip((store, other), generators, strict=True)
        )
        np.testing.assert_array_equal(keys, twin_keys)
        for key in batch:
            np.testing.assert_array_equal(batch[key], twin[key])
    assert generators[0].bit_generator.state == generators[1].bit_generator.state


def of_rows(directory: Path) -> list[Path]:
    """Files of steps that are linked from checkpoint to checkpoint: on disk chunks, of memory what was new."""
    return [*directory.rglob("sealed-*"), *directory.rglob("rows-*")]


def used(make: MakeStore) -> Store:
    """A store in the middle of its life: evictions, latents written back, waiting online sequences."""
    store = make(length=4, capacity=60, chunk_length=5)
    fill(store, 41, streams=4, block=2)
    keys = store.sample(6, 4, rng())[1]
    store.write_back(keys[:, 1:], latents(6, 3, 33))
    return store


@saving
def test_a_restored_store_goes_on_as_the_saved_one(make: MakeStore, tmp_path: Path) -> None:
    store, other = used(make), make(length=4, capacity=60, chunk_length=5)
    fill(other, 9, streams=9)  # forgotten by restoring
    store.checkpoint(tmp_path / "saved")
    other.restore(tmp_path / "saved")
    assert_same(store, other, 4)
    for stream in range(5):
        start = store.streams().get(stream, range(0)).stop
        for s in (store, other):
            assert s.append(stream, start, rows(stream, start, 25)) == 25
    assert_same(store, other, 4)


def test_a_cleared_store_begins_anew(make: MakeStore) -> None:
    store = used(make)
    store.clear()
    assert len(store) == 0 and not store.streams() and store.stats()["inserted"] == 0
    fill(store, 9)
    check_sequences(*store.sample(8, 4, rng()))


@saving
def test_an_empty_store_is_saved_and_restored(make: MakeStore, tmp_path: Path) -> None:
    make().checkpoint(tmp_path / "saved")
    store = make()
    store.restore(tmp_path / "saved")
    assert len(store) == 0
    fill(store, 9)
    check_sequences(*store.sample(8, 4, rng()))


@saving
def test_rows_are_written_once(make: MakeStore, tmp_path: Path) -> None:
    store = used(make)
    store.checkpoint(tmp_path / "temporary")
    (tmp_path / "temporary").rename(tmp_path / "0")  # as a run does that saves more than its replay
    fill(store, 46, streams=4)
    store.checkpoint(tmp_path / "1")
    old, new = ({path.stat().st_ino for path in of_rows(tmp_path / name)} for name in ("0", "1"))
    assert old & new and new - old
    shutil.rmtree(tmp_path / "0")
    restored = make(length=4, capacity=60, chunk_length=5)
    restored.restore(tmp_path / "1")
    assert_same(store, restored, 4)
    shutil.rmtree(tmp_path / "1")  # nothing to link to: all is written again
    for s, name in ((store, "2"), (restored, "3")):
        s.checkpoint(tmp_path / name)
        again = make(length=4, capacity=60, chunk_length=5)
        again.restore(tmp_path / name)
        assert_same(s, again, 4)


@saving
def test_checkpoints_along_a_run_do_not_grow_and_do_not_touch_each_other(make: MakeStore, tmp_path: Path) -> None:
    store, length = make(length=4, capacity=60, chunk_length=5), 4
    size, content = [], []
    for i in range(30):
        for stream in range(4):
            first = store.streams().get(stream, range(0)).stop
            store.append(stream, first, rows(stream, first, 7))
        store.checkpoint(tmp_path / str(i))
        size.append(sum(path.stat().st_size for path in (tmp_path / str(i)).rglob("*") if path.is_file()))
        content.append({path: path.read_bytes() for path in of_rows(tmp_path / str(i))})
        if i == 4:
            store = make(length=4, capacity=60, chunk_length=5)
            store.restore(tmp_path / str(i))
    assert max(size[26:]) < 1.3 * max(size[8:12])
    assert all(path.read_bytes() == whole for files in content for path, whole in files.items())
    restored = make(length=4, capacity=60, chunk_length=5)
    restored.restore(tmp_path / "29")
    assert_same(store, restored, length)


@saving
def test_any_damaged_file_is_recognised(make: MakeStore, tmp_path: Path) -> None:
    used(make).checkpoint(tmp_path / "saved")
    store = make(length=4, capacity=60, chunk_length=5)
    files = [path for path in (tmp_path / "saved").rglob("*") if path.is_file()]
    assert len(files) >= 5
    for path in files:
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        for damage in (bytes(flipped), whole[:-1], b""):
            path.write_bytes(damage)
            with pytest.raises(ValueError, match=r"damaged|not a complete replay checkpoint"):
                store.restore(tmp_path / "saved")
        path.unlink()
        with pytest.raises(ValueError, match=r"damaged|not a complete replay checkpoint"):
            store.restore(tmp_path / "saved")
        path.write_bytes(whole)
    store.restore(tmp_path / "saved")
    check_sequences(*store.sample(8, 4, rng()))


@saving
def test_a_failed_restore_leaves_the_store_as_it_was(make: MakeStore, tmp_path: Path) -> None:
    other = used(make)
    other.append(9, 0, rows(9, 0, 20, reward=np.full(20, -1, np.float32)))
    other.checkpoint(tmp_path / "other")
    store, twin = used(make), used(make)
    for path in sorted((tmp_path / "other").rglob("latents-*"))[-1:]:  # of the last shard: the first ones are whole
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"):
        store.restore(tmp_path / "other")
    with pytest.raises(ValueError, match="not a complete replay checkpoint"):
        store.restore(tmp_path / "nowhere")
    assert_same(store, twin, 4)
    for s, name in ((store, "next"), (twin, "twin")):  # and what it saves later is its own
        s.append(0, 41, rows(0, 41, 5))
        s.checkpoint(tmp_path / name)
    restored = make(length=4, capacity=60, chunk_length=5)
    restored.restore(tmp_path / "next")
    assert_same(restored, twin, 4)


@saving
def test_a_checkpoint_of_another_store_is_refused(make: MakeStore, tmp_path: Path) -> None:
    used(make).checkpoint(tmp_path / "saved")
    with pytest.raises(ValueError, match="other settings.*'length': 4.*'length': 5"):
        make(length=5, capacity=60, chunk_length=5).restore(tmp_path / "saved")
    small = make(length=4, capacity=5, chunk_length=5, streams=1)
    fill(small, 8, streams=1)
    items = len(small)
    with pytest.raises(ValueError, match="restore it with the capacity"):
        small.restore(tmp_path / "saved")
    assert len(small) == items > 0
    with pytest.raises(ValueError, match="exists"):
        used(make).checkpoint(tmp_path / "saved")
    with pytest.raises(ValueError, match="not a complete replay checkpoint"):
        make().restore(tmp_path / "nowhere")


def test_stats_are_finite_numbers(make: MakeStore) -> None:
    store = used(make)
    stats = store.stats()
    assert all(np.isfinite(value) for value in stats.values())
    assert stats["items"] == len(store) and stats["inserted"] == 4 * 41
    assert stats["steps"] == sum(len(steps) for steps in store.streams().values())
