"""A disk store over the lives of its processes: what comes back, what leaves, what it takes."""

import gc
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import replay.chunk_table
from replay.chunk_files import default_chunk_length
from replay.disk_store import DiskStore
from replay.mapped import map_file
from replay.selection import SelectionConfig
from replay.step import Field, Schema
from replay.store import GapError
from tests.contracts.disk_stores import new_directory
from tests.contracts.stores import SCHEMA, check_sequences, fill, latents, rng, rows
from tests.replay.disk_process import LENGTH, store

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def quick() -> Iterator[Path]:
    directory = new_directory()
    yield directory
    while directory.exists():
        shutil.rmtree(directory, ignore_errors=True)


def starts(it: DiskStore) -> list[tuple[int, ...]]:
    return [tuple(key) for key in it.items().tolist()]


def size(directory: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


# --- reopening


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
    assert said == [f"Replay {quick}: 111 sequences in 18 chunks of 3 streams are there again."]
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
    assert store(quick, note=said.append).streams() == {} and said[0].startswith(f"Replay {quick}: 0 sequences")


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
)
def test_any_life_keeps_what_it_promises(operations: list, chunk_length: int, length: int) -> None:
    directory = new_directory()
    capacity = 30
    refreshed: dict[tuple[int, ...], int] = {}
    it = store(directory, length=length, capacity=capacity, chunk_length=chunk_length)
    try:
        for name, first, second in operations:
            before = it.streams()
            if name == "append":
                stop = before.get(first, range(0)).stop
                assert it.append(first, stop, rows(first, stop, second)) == second
                assert it.streams()[first].stop == stop + second
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
                it = store(directory, length=length, capacity=capacity, chunk_length=chunk_length)
                for stream, steps in before.items():
                    least = steps.stop if name == "close" else steps.stop // chunk_length * chunk_length
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


# --- what it takes


def test_disk_and_memory_stay_within_their_bounds(quick: Path) -> None:
    schema = Schema(
        fields={"image": Field(dtype=np.dtype(np.uint8), shape=(1000,))},
        latents={"deter": Field(dtype=np.dtype(np.float16), shape=(200,))},
    )
    it = DiskStore(quick, schema, length=8, capacity_gb=2e6 / 1e9, streams=4, chunk_length=20)
    block: dict[str, np.ndarray] = {"image": np.ones((10, 1000), np.uint8), "deter": np.ones((10, 200), np.float16)}
    for first in range(0, 3000, 10):
        for stream in range(4):
            it.append(stream, first, block)
        if first % 100 == 0:
            it._sealer.drain()
            assert size(quick) <= 1.02 * 2e6 and it.stats()["gb"] <= it.max_gb <= 2e-3
    it._sealer.drain()
    kept = it.stats()["steps"] - sum(steps.stop % 20 for steps in it.streams().values())
    assert size(quick / "chunks") <= 1.05 * kept * 1400
    memory = [chunk for chunk in it._chunks.values() if not chunk.sealed]
    assert len(memory) <= 4


def test_memory_of_written_chunks_is_used_again(quick: Path) -> None:
    it = store(quick)
    fill(it, 500, block=7)
    it._sealer.drain()
    gc.collect()
    assert len(it.files._rows._free) <= 3 * 8  # streams at once, and what waited to be written


def test_more_chunks_than_may_be_mapped(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay.chunk_table, "_MAPS", 3)
    it, files = store(quick), len(os.listdir("/proc/self/fd"))
    fill(it, 70)
    it._sealer.drain()
    for seed in range(10):
        check_sequences(*it.sample(16, LENGTH, rng(seed)))
        assert sum(chunk.rows is not None for chunk in it._chunks.values() if chunk.sealed) <= 3
    assert len(os.listdir("/proc/self/fd")) <= files  # mappings keep no file open


def test_the_manifest_does_not_grow_for_ever(quick: Path) -> None:
    it = store(quick, capacity=20, chunk_length=1, streams=1)
    for first in range(0, 4000, 20):
        it.append(0, first, rows(0, first, 20))
    it._sealer.drain()
    assert (quick / "manifest").read_bytes().count(b"\n") < 1500
    it.close()
    assert store(quick, capacity=20, chunk_length=1, streams=1).streams()[0].stop == 4000


def test_chunks_of_about_four_megabytes_unless_there_is_room_for_few() -> None:
    image = Schema(fields={"image": Field(dtype=np.dtype(np.uint8), shape=(64, 64, 3))}, latents={})
    vector = Schema(fields={"vector": Field(dtype=np.dtype(np.float32), shape=(24,))}, latents={})
    assert default_chunk_length(image, 10**6, 16) == 341
    assert default_chunk_length(vector, 10**6, 16) == 1024
    assert default_chunk_length(vector, 4000, 16) == 62
    assert default_chunk_length(vector, 100, 16) == 32


def test_the_bounds_are_checked(quick: Path) -> None:
    with pytest.raises(ValueError, match="DiskStore has no bound"):
        DiskStore(quick, SCHEMA, length=4)
    with pytest.raises(ValueError, match="16 streams need 32; allow at least"):
        DiskStore(quick, SCHEMA, length=4, capacity_gb=1e-6, streams=16, chunk_length=8)
    store(quick).close()  # a refused store has not kept the directory


# --- compressed


def pictures(first: int, n: int) -> dict[str, np.ndarray]:
    """Rows of a schema with pictures that lz4 makes smaller."""
    picture = (np.arange(first, first + n)[:, None] + np.arange(3000) // 100) % 251
    return {"picture": picture.astype(np.uint8), "step": np.arange(first, first + n)}


PICTURES = Schema(
    fields={
        "picture": Field(dtype=np.dtype(np.uint8), shape=(3000,)),
        "step": Field(dtype=np.dtype(np.int64)),
    },
    latents={},
)


def test_compressed_chunks_take_less_and_give_the_same(quick: Path) -> None:
    pytest.importorskip("lz4")

    def opened(compression: str, said: list[str] | None = None) -> DiskStore:
        note = (said if said is not None else []).append
        return DiskStore(quick / "store", PICTURES, length=30, capacity=900, compression=compression, note=note)

    it = opened("lz4")
    assert it.chunk_length == 32
    for first in range(0, 500, 25):
        it.append(0, first, pictures(first, 25))
    it.close()
    it = opened("")  # what comes now is not compressed
    for first in range(500, 1000, 25):
        it.append(0, first, pictures(first, 25))
    it._sealer.drain()
    sizes = {int(path.stem[2:]): path.stat().st_size for path in (quick / "store" / "chunks").glob("*.rows")}
    assert max(sizes[number] for number in range(4, 14)) < 0.2 * sizes[20] and sizes[20] == 72 + 32 * 3008
    for seed in range(10):
        batch, keys = it.sample(16, 30, rng(seed))
        for i, start in enumerate(keys[:, 0, 1].tolist()):
            for key, value in pictures(start, 30).items():
                np.testing.assert_array_equal(batch[key][i], value)
    steps = it.streams()[0]
    for key, value in pictures(steps.start, len(steps)).items():
        np.testing.assert_array_equal(it.read(0, steps.start, len(steps))[key], value)
    it.checkpoint(quick / "saved")
    it.clear()
    it.restore(quick / "saved")
    np.testing.assert_array_equal(it.read(0, steps.start, 40)["step"], np.arange(steps.start, steps.start + 40))
    it.close()
    path = quick / "store" / "chunks" / "0-9.rows"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    said: list[str] = []
    it = opened("lz4", said)
    for seed in range(30):
        batch, keys = it.sample(16, 30, rng(seed))
        np.testing.assert_array_equal(batch["step"], keys[:, :, 1])
    assert len(said) == 2 and "0-9.rows: its content fails its checksum" in said[1]


def test_chunks_that_get_no_smaller_stay_as_they_are(quick: Path) -> None:
    pytest.importorskip("lz4")
    it = DiskStore(quick, PICTURES, length=30, capacity=900, compression="lz4")
    noise = rng().integers(0, 256, (64, 3000)).astype(np.uint8)
    it.append(0, 0, {"picture": noise, "step": rng().integers(0, 1 << 62, 64)})
    it._sealer.drain()
    assert (quick / "chunks" / "0-1.rows").stat().st_size == 72 + 32 * 3008
    np.testing.assert_array_equal(it.read(0, 0, 64)["picture"], noise)


def test_compression_that_is_not_there_is_refused(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="compression is 'zip', allowed 'lz4'"):
        store(quick, compression="zip")
    pytest.importorskip("lz4")
    it = DiskStore(quick, PICTURES, length=30, capacity=900, compression="lz4")
    it.append(0, 0, pictures(0, 64))
    it.close()
    monkeypatch.setitem(sys.modules, "lz4.block", None)  # as where it is not installed
    with pytest.raises(ValueError, match="needs the package lz4: pip install"):
        DiskStore(quick, PICTURES, length=30, capacity=900, compression="lz4")
    with pytest.raises(ValueError, match="needs the package lz4: pip install"):
        DiskStore(quick, PICTURES, length=30, capacity=900)
    monkeypatch.undo()
    assert DiskStore(quick, PICTURES, length=30, capacity=900).streams() == {0: range(64)}


# --- appending that has to wait


def test_appending_waits_for_the_disk_and_says_what_for(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it, hang, sync = store(quick, timeout=0.2), threading.Event(), os.fsync

    def slow(file: int) -> None:
        hang.wait(30)
        sync(file)

    monkeypatch.setattr(os, "fsync", slow)
    first = 0
    with pytest.raises(TimeoutError, match=r"waited 0.2 s for replay .*, where 8 full chunks are still to be written"):
        while first < 1000:
            it.append(0, first, rows(0, first, 5))
            first += 5
    assert 8 * 7 <= first < 9 * 7 and len(it) == first - LENGTH + 1
    check_sequences(*it.sample(32, LENGTH, rng()))  # what waits can be sampled
    keys = it.sample(32, LENGTH, rng())[1]
    it.write_back(keys, latents(32, LENGTH, 77))  # and refreshed
    hang.set()
    it._sealer.drain()
    assert it.append(0, first, rows(0, first, 5)) == 5
    for stream, start in keys[:, 0].tolist():
        assert (it.read(stream, start, LENGTH)["deter"] == 77).all()


def test_a_closed_store_is_not_written_to(quick: Path) -> None:
    it = store(quick)
    fill(it, 20)
    keys = it.sample(1, LENGTH, rng())[1]
    it.close()
    it.close()
    for work in (
        lambda: it.append(0, 20, rows(0, 20, 1)),
        lambda: it.write_back(keys, latents(1, LENGTH, 1)),
        it.clear,
        lambda: it.restore(quick / "nowhere"),
    ):
        with pytest.raises(ValueError, match="was closed; open it again"):
            work()
    check_sequences(*it.sample(8, LENGTH, rng()))


def test_a_forgotten_store_gives_its_directory_free(quick: Path) -> None:
    it = store(quick)
    fill(it, 20)
    it._sealer.drain()
    del it
    gc.collect()
    assert store(quick).streams() == dict.fromkeys(range(3), range(14))


def test_latents_are_refreshed_while_their_chunk_is_written(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it, rename, keys = store(quick), os.rename, np.array([[[0, step] for step in range(7)]])
    reached: list[Path] = []

    def killed(source: Path, target: Path) -> None:
        if not reached:
            it.write_back(keys, latents(1, 7, 66))
            reached.append(shutil.copytree(quick, quick / "before"))
        rename(source, target)
        if len(reached) == 1:
            it.write_back(keys, latents(1, 7, 77))
            reached.append(shutil.copytree(quick, quick / "after", ignore=lambda *_: {"before"}))

    monkeypatch.setattr(os, "rename", killed)
    it.append(0, 0, rows(0, 0, 10))
    it._sealer.drain()
    assert (it.read(0, 0, 7)["deter"] == 77).all()
    assert store(reached[0]).streams() == {}
    assert (store(reached[1]).read(0, 0, 7)["deter"] == 77).all()  # what a kill at this moment would have left


def test_a_mapping_lives_as_long_as_a_view_of_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    file = os.open(path, os.O_RDONLY)
    array = map_file(file, 100)
    with pytest.raises(ValueError, match="100 bytes of 101"):
        map_file(file, 101)
    os.close(file)
    path.unlink()
    view = array[10:20]
    del array
    gc.collect()
    assert view.tolist() == list(range(10, 20)) and not view.flags.writeable
    assert str(path) in Path("/proc/self/maps").read_text()
    del view
    gc.collect()
    assert str(path) not in Path("/proc/self/maps").read_text()
