"""A disk store in one life: what it takes, what appending waits for, what others see meanwhile."""

import gc
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

import replay.disk.chunk_table
from replay.disk.chunk_files import default_chunk_length
from replay.disk.disk_store import DiskStore
from replay.files.mapped import map_file
from replay.step import Field, Schema
from tests.contracts.stores import SCHEMA, check_sequences, fill, latents, rng, rows
from tests.replay.beside import meanwhile_once
from tests.replay.disk.disk_lives import size
from tests.replay.disk.disk_process import LENGTH, store

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
    monkeypatch.setattr(replay.disk.chunk_table, "_MAPS", 3)
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


# --- what others see


def test_sampling_goes_on_while_a_checkpoint_is_written(
    quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = store(quick)
    fill(it, 300, block=7)
    before = {stream: it.read(stream, steps.start, len(steps)) for stream, steps in it.streams().items()}
    it._sealer.drain()
    syncs, sync = 0, os.fsync

    def sampled(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        with meanwhile_once(lambda: it.sample(5, LENGTH, rng(syncs))) as batches:
            pass
        check_sequences(*batches[0])  # type: ignore[misc]
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", sampled)
    it.checkpoint(tmp_path / "saved")
    monkeypatch.undo()
    assert syncs > 4
    fill(it, 330, block=7)
    it.restore(tmp_path / "saved")
    for stream, there in before.items():
        again = it.read(stream, it.streams()[stream].start, len(there["step"]))
        for key, value in there.items():
            np.testing.assert_array_equal(again[key], value, key)


# --- appending that has to wait


def test_appending_waits_for_the_disk_and_says_what_for(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it, hang, sync = store(quick, timeout=0.2), threading.Event(), os.fsync

    def slow(file: int) -> None:
        hang.wait(300)
        sync(file)

    monkeypatch.setattr(os, "fsync", slow)
    first = 0
    with pytest.raises(TimeoutError, match=r"waited 0.2 s, and 8 full chunks are still to be written"):
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
    with pytest.raises(ValueError, match="100 bytes, expected 101"):
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
