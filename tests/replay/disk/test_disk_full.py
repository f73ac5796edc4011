"""A disk store on a full disk: it goes on with less or says why it cannot, and nothing is torn."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.stores import check_sequences, rng, rows
from tests.replay.disk.disk_lives import abandon, check, reopened, store
from tests.replay.disk.disk_process import KEEP, LENGTH


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    directory = tmp_path / "disk"
    directory.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except FileNotFoundError:
        pytest.skip("a file system of its own needs the mount command")
    if done.returncode:
        pytest.skip(f"a file system of its own needs the right to mount one: {done.stderr.strip()}")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True, timeout=60)


def fill_up(path: Path) -> None:
    with pytest.raises(OSError, match="No space"), open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_full_disk_costs_the_oldest_chunks(small_disk: Path) -> None:
    it, said = reopened(small_disk, capacity=1_000_000, chunk_length=200)
    for first in range(0, 20_000, 50):
        for stream in range(2):
            it.append(stream, first, rows(stream, first, 50))
            if first % 1000 == 0 and len(it):
                check_sequences(*it.sample(4, LENGTH, rng(first)))
    it._sealer.drain()
    assert "is full: it has evicted its 1 oldest chunks so far, and continues." in said[0] and len(said) < 10
    check(it)
    assert {stream: steps.stop for stream, steps in it.streams().items()} == {0: 20_000, 1: 20_000}
    kept = {stream: steps.start for stream, steps in it.streams().items()}
    assert min(kept.values()) > 10_000 and max(kept.values()) < 19_000
    assert 0 < it.stats()["evicted"] == 2 * (20_000 - LENGTH + 1) - len(it)
    abandon(it)
    it, said = reopened(small_disk, capacity=1_000_000, chunk_length=0)
    check(it)
    assert it.streams()[0].stop >= 19_800 and " again" in said[-1]
    chunks = it.stats()["chunks"]
    abandon(it)
    fill_up(small_disk / "filler")
    it, said = reopened(small_disk, capacity=1_000_000, chunk_length=0)  # there is no room for a new manifest
    assert any("is full: its oldest chunk makes room for the manifest" in line for line in said)
    check(it)
    assert it.stats()["chunks"] == chunks - 1


def test_a_full_disk_does_not_cost_what_would_make_no_room(small_disk: Path) -> None:
    it, said = reopened(small_disk / "store", capacity=1_000_000, chunk_length=200)
    for first in range(0, 4000, 50):
        it.append(0, first, rows(0, first, 50))
    it.checkpoint(small_disk / "saved")  # every chunk has a second name
    for path in (small_disk / "store" / "chunks").glob("*.latents"):
        os.link(path, small_disk / "saved" / path.name)
    fill_up(small_disk / "filler")
    with pytest.raises(OSError, match="evicting older ones frees no space"):
        for first in range(4000, 9000, 50):
            it.append(0, first, rows(0, first, 50))
    assert it.streams()[0].start == 200, said
    check(it)


def test_a_disk_that_others_filled_is_said_and_nothing_is_torn(small_disk: Path) -> None:
    it, said = reopened(small_disk, capacity=1_000_000, chunk_length=200)
    fill_up(filler := small_disk / "filler")
    done = 0
    with pytest.raises(
        OSError, match="cannot write its full chunks.* evicting older ones frees no space; free some space"
    ) as caught:
        while done < 10_000:
            it.append(0, done, rows(0, done, 50))
            done += 50
    assert caught.value.errno == errno.ENOSPC
    assert 8 * 200 <= done < 9 * 200  # so much waits in memory
    check(it)  # all of it can be sampled
    with pytest.raises(OSError, match="cannot write"):
        it.append(0, done, rows(0, done, 50))
    assert it.streams()[0].stop == done
    filler.unlink()
    it.append(0, done, rows(0, done, 50))
    it._sealer.drain()
    check(it)
    assert it.streams() == {0: range(done + 50)}
    assert len(said) == 2 and "wait in memory: [Errno 28]" in said[0] and "writes its full chunks again" in said[1]
    it.close()
    it, _ = reopened(small_disk, capacity=1_000_000, chunk_length=0)
    check(it)
    assert it.streams() == {0: range(done + 50)}


def test_open_chunks_that_cannot_be_kept_are_said_once_and_appending_goes_on(small_disk: Path) -> None:
    it, said = reopened(small_disk, capacity=1_000_000, chunk_length=5000, keep_seconds=KEEP)

    def append(first: int, stop: int) -> None:
        for step in range(first, stop, 50):
            for stream in range(2):
                assert it.append(stream, step, rows(stream, step, 50)) == 50
            it._sealer.drain()

    append(0, 500)
    before = {path.name: path.read_bytes() for path in (small_disk / "chunks").iterdir()}
    assert before.keys() == {"0-0.open", "1-0.open"} and not said
    fill_up(filler := small_disk / "filler")
    append(500, 1000)
    assert {path.name: path.read_bytes() for path in (small_disk / "chunks").iterdir()} == before
    assert len(said) == 1 and "cannot keep its open chunks; a kill would lose them: [Errno 28]" in said[0], said
    filler.unlink()
    append(1000, 1500)
    assert len(said) == 2 and "keeps its open chunks again" in said[1]
    abandon(it)
    it, said = reopened(small_disk, capacity=1_000_000, chunk_length=0)
    check(it)
    assert it.streams() == dict.fromkeys(range(2), range(1500))


def test_open_chunks_are_kept_in_place_of_the_oldest_on_a_full_disk(small_disk: Path) -> None:
    it, said = reopened(small_disk, capacity=1_000_000, chunk_length=200, keep_seconds=KEEP)
    for first in range(0, 20_000, 50):
        for stream in range(2):
            it.append(stream, first, rows(stream, first, 50))
    it.append(0, 20_000, rows(0, 20_000, 50))
    it._sealer.drain()
    check(it)
    assert len(it.streams()[0]) > 1000 and len(said) < 20, said
    abandon(it)
    it, _ = reopened(small_disk, capacity=1_000_000, chunk_length=0)
    check(it)
    assert {stream: steps.stop for stream, steps in it.streams().items()} == {0: 20_050, 1: 20_000}


def test_a_restore_without_room_for_both_states_changes_nothing(small_disk: Path, tmp_path: Path) -> None:
    other, _ = reopened(tmp_path / "other", capacity=20_000, chunk_length=200)
    other.append(0, 0, rows(0, 0, 10_000))
    other.checkpoint(tmp_path / "saved")
    it, _ = reopened(small_disk, capacity=20_000, chunk_length=200)
    it.append(1, 0, rows(1, 0, 10_000))
    it._sealer.drain()
    fill_up(small_disk / "filler")
    with pytest.raises(OSError, match="No space.*and keeps what it holds; free some space"):
        it.restore(tmp_path / "saved")
    assert it.streams() == {1: range(0, 10_000)}
    check(it)
    (small_disk / "filler").unlink()
    it.close()
    it, said = reopened(small_disk, capacity=20_000, chunk_length=200)
    assert it.streams() == {1: range(0, 10_000)}, said
    check(it)


def test_a_log_that_cannot_be_written_either_keeps_no_steps_from_their_files(small_disk: Path) -> None:
    said: list[str] = []

    def note(line: str) -> None:
        said.append(line)
        raise OSError(errno.ENOSPC, "the log is on the same disk")

    it = store(small_disk, note=note, capacity=1_000_000, chunk_length=200)
    fill_up(filler := small_disk / "filler")
    done = 0
    with pytest.raises(OSError, match="cannot write its full chunks"):
        while done < 10_000:
            it.append(0, done, rows(0, done, 50))
            done += 50
    filler.unlink()
    it.append(0, done, rows(0, done, 50))
    it._sealer.drain(timeout=200.0)
    assert len(said) == 2 and "writes its full chunks again" in said[1]
    check(it)
    assert it.streams() == {0: range(done + 50)}
    it.close()
