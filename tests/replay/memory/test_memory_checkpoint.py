"""Checkpoints of memory while others use it: of one moment, of what has changed, and without anybody waiting."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from replay.config import SelectionConfig
from replay.files.checkpoint import read_file, verified
from replay.memory import lineage
from replay.memory.checkpoint_contents import FORMATS, SPANS
from replay.memory.checkpoint_reader import CheckpointReader
from replay.memory.memory_store import MemoryStore
from tests.contracts.stores import SCHEMA, check_sequences, fill, latents, memory, rng, rows
from tests.contracts.test_store_lifetime import assert_same

FIRST_FORMAT = Path(__file__).parent / "checkpoint_format_1"
LENGTH, CHUNK, STREAMS = 4, 5, 4
PRIORITY = SelectionConfig(priority=0.5)


def store(capacity: int = 200, **settings: object) -> MemoryStore:
    it = memory(length=LENGTH, capacity=capacity, chunk_length=CHUNK, **settings)
    assert isinstance(it, MemoryStore)
    return it


def restored(directory: Path, like: MemoryStore) -> MemoryStore:
    again = store(like._capacity, selection=like.selection)
    again.restore(directory)
    return again


def held(directory: Path, before: Path | None = None) -> dict[str, int]:
    """Steps and items by the kind of file; of those files alone that an earlier checkpoint does not have."""
    old, out = {path.stat().st_ino for path in before.iterdir()} if before else set(), dict[str, int]()
    for path in directory.glob("*-*.safetensors"):
        if path.stat().st_ino not in old:
            arrays = read_file(directory, path.name, verified(directory, *FORMATS)["files"])
            kind = path.name.split("-")[0]
            n = len(arrays["items"]) if kind == "items" else int(arrays[SPANS][:, 2].sum())
            out[kind] = out.get(kind, 0) + n
    return out


def assert_same_content(it: MemoryStore, other: MemoryStore) -> None:
    np.testing.assert_array_equal(it.items(), other.items())
    for stream, steps in it.streams().items():
        mine, theirs = (
            [
                s._index.priorities.of_steps[a : a + n]
                for a, _, n in s._index.addresses.spans(stream, steps.start, len(steps))
            ]
            if s._index.priorities
            else []
            for s in (it, other)
        )
        np.testing.assert_array_equal(np.concatenate([*mine, [0]]), np.concatenate([*theirs, [0]]))
    assert_same(it, other, LENGTH)  # at last, for drawing by priority changes them


class Life:
    """A store's life as a row of changes, each the same whenever it comes: `done` of them make one state."""

    def __init__(self, it: MemoryStore) -> None:
        self.it, self.done = it, 0

    def go_on(self, changes: int = 1) -> None:
        for _ in range(changes):
            generator = rng(self.done)
            stream, kind = self.done % STREAMS, self.done // STREAMS % 3
            steps = self.it.streams().get(stream, range(0))
            if kind == 0 or len(steps) < 12:
                self.it.append(stream, steps.stop, rows(stream, steps.stop, 1 + self.done % 7))
            else:
                first = int(generator.integers(steps.start, steps.stop - 8, endpoint=True))
                keys = np.stack([np.full(8, stream), first + np.arange(8)], 1)[None]
                self.it.write_back(keys, latents(1, 8, self.done % 100))
                self.it.set_priority(keys, generator.exponential(1.0, (1, 8)))
            self.done += 1


class Disk:
    """Takes its time to sync: meanwhile, in a thread of their own, changes are made for which nobody may wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
        self.syncs, self._work = 0, work
        monkeypatch.setattr(os, "fsync", self)

    def __call__(self, descriptor: int) -> None:
        self.syncs += 1
        failed: list[BaseException] = []

        def guarded() -> None:
            try:
                self._work()
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive(), "the store's lock is held while files are written"
        if failed:
            raise failed[0]


@pytest.mark.parametrize(
    "selection",
    [SelectionConfig(), SelectionConfig(priority=0.5, zero_on_sample=False)],  # sampling changes nothing
    ids=["uniform", "priority"],
)
def test_a_checkpoint_is_of_one_moment_however_much_changes_while_it_is_written(
    selection: SelectionConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "_FILE_BYTES", 300)  # many files, between which the store goes on
    live = Life(store(selection=selection))
    live.go_on(160)
    moments = []

    def meanwhile() -> None:
        live.go_on(4)
        check_sequences(*live.it.sample(3, LENGTH, rng(), online=False))
        assert live.it.stats()["items"] == len(live.it) == live.it.available()[0] > 0

    disk = Disk(monkeypatch, meanwhile)
    for number in range(3):
        moments.append(live.done)
        live.it.checkpoint(tmp_path / str(number))
    monkeypatch.undo()
    assert disk.syncs > 40
    assert live.it.stats()["evicted"] > 150  # chunks that waited were evicted, and their slots used again
    for number, done in enumerate(moments):
        twin = Life(store(selection=selection))
        twin.go_on(done)
        again = restored(tmp_path / str(number), twin.it)
        assert again.stats() | {"sampled": 0} == twin.it.stats() | {"sampled": 0}
        again._counters["sampled"] = 0
        assert_same_content(again, twin.it)


def test_what_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    it = store(capacity=1000, selection=PRIORITY)
    fill(it, 200, streams=STREAMS)
    it.checkpoint(tmp_path / "0")
    it.checkpoint(tmp_path / "1")
    assert held(tmp_path / "1", tmp_path / "0") == {}
    fill(it, 203, streams=STREAMS)
    keys = np.array([[[1, step] for step in range(50, 61)], [[2, step] for step in range(198, 209)]])
    assert it.write_back(keys, latents(2, 11, 7)) == 11 + 5
    it.checkpoint(tmp_path / "2")
    # Three new steps of each stream; 11 latents, and two that are older than the new ones.
    assert held(tmp_path / "2", tmp_path / "1") == {
        "rows": 12,
        "latents": 12 + 11 + 2,
        "priorities": 12,
        "items": 12,
    }
    assert_same_content(restored(tmp_path / "2", it), it)


def test_what_a_failed_checkpoint_wrote_is_written_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = store(selection=PRIORITY)
    live = Life(it)
    live.go_on(200)
    it.checkpoint(tmp_path / "0")
    live.go_on(30)
    for after in range(4):  # latents, priorities, rows and items of what is new

        def full(descriptor: int, left: list[int] = [after]) -> None:  # noqa: B006
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            it.checkpoint(tmp_path / "full")
        monkeypatch.undo()
        assert [path.name for path in tmp_path.iterdir()] == ["0"]
        live.go_on(3)
    it.checkpoint(tmp_path / "1")
    assert_same_content(restored(tmp_path / "1", it), it)
    it.checkpoint(tmp_path / "2")
    assert held(tmp_path / "2", tmp_path / "1") == {}


def test_files_neither_pile_up_nor_hold_more_than_twice_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # many checkpoints, none of them to last
    monkeypatch.setattr(lineage, "_SMALL_FILES", 10)
    it = store(capacity=300)
    fill(it, 60, streams=STREAMS, block=10)
    merged = 0
    for number in range(45):
        stream, next = number % STREAMS, it.streams()[number % STREAMS].stop
        if stream:
            it.append(stream, next, rows(stream, next, 1))
        first = next - 40 + number * 37 % 30
        it.write_back(np.array([[[stream, step] for step in range(first, first + 8)]]), latents(1, 8, number % 100))
        it.checkpoint(tmp_path / str(number))
        there = held(tmp_path / str(number))
        new = held(tmp_path / str(number), tmp_path / str(number - 1) if number else None)
        steps = int(it.stats()["steps"])
        for kind in ("rows", "latents"):
            assert steps <= there[kind] <= 2 * steps + new.get(kind, 0), (number, kind)
            files = len(list((tmp_path / str(number)).glob(f"{kind}-*")))
            assert files <= 12, (number, kind)
            merged += number > 0 and new.get(kind, 0) > 40
        assert len(it) <= there["items"] <= 500 and len(list((tmp_path / str(number)).glob("items-*"))) <= 12
        if number in (20, 44):
            assert_same(restored(tmp_path / str(number), it), it, LENGTH)
            it = restored(tmp_path / str(number), it)  # and links what it was restored from
    assert merged > 2
    assert sum(held(tmp_path / "44", tmp_path / "43").values()) < 60


def test_a_step_that_changes_again_and_again_while_it_waits_takes_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = store(capacity=1000)
    fill(it, 100, streams=STREAMS)
    tracked, kept = it._steps["latents"], 0
    monkeypatch.setattr(lineage, "_FILE_BYTES", 600)

    def refresh() -> None:
        nonlocal kept
        for number in range(40):
            it.write_back(np.array([[[3, step] for step in range(90, 97)]]), latents(1, 7, number))
        it.write_back(np.array([[[2, step] for step in range(90, 97)]]), latents(1, 7, disk.syncs))
        kept = max(kept, sum(len(old) for pieces in tracked._kept.values() for _, old in pieces))

    before = it.read(3, 90, 7)
    disk = Disk(monkeypatch, refresh)
    it.checkpoint(tmp_path / "0")
    monkeypatch.undo()
    assert disk.syncs > 3 and kept <= 4 * 2 * CHUNK and not tracked._kept and not tracked._aside
    for key, value in restored(tmp_path / "0", it).read(3, 90, 7).items():
        np.testing.assert_array_equal(value, before[key])
    it.checkpoint(tmp_path / "1")  # what was replaced while it waited is news by now
    assert_same(restored(tmp_path / "1", it), it, LENGTH)


def test_checkpoints_of_the_first_format_are_read_and_gone_on_from(tmp_path: Path) -> None:
    twin = store(capacity=60, selection=PRIORITY)
    fill(twin, 33, streams=4, block=2)
    for stream in range(4):
        twin.append(stream, 33, rows(stream, 33, 8))
    keys = twin.sample(6, 4, rng())[1]
    twin.write_back(keys[:, 1:], latents(6, 3, 33))
    twin.set_priority(keys, np.arange(24, dtype=np.float64).reshape(6, 4))
    it = restored(FIRST_FORMAT, twin)
    it.verify(FIRST_FORMAT)
    snapshot = CheckpointReader(FIRST_FORMAT)
    assert snapshot.streams() == it.streams() and [finding.good for finding in snapshot.health(verify=True)] == [True]
    assert snapshot.facts()["items"] == len(it)
    for stream, steps in it.streams().items():
        mine, theirs = it.read(stream, steps.start, len(steps)), snapshot.read(stream, steps.start, len(steps))
        assert mine.keys() == theirs.keys() == SCHEMA.all.keys()
        for key, value in mine.items():
            np.testing.assert_array_equal(value, theirs[key])
    it.checkpoint(tmp_path / "next")
    assert_same(it, twin, LENGTH)
    assert_same(restored(tmp_path / "next", it), restored(FIRST_FORMAT, it), LENGTH)
