"""What is left of a disk store after a kill, a full disk or damage: whole sequences, and a line that says it."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from replay.disk_store import DiskStore
from tests.contracts.stores import SCHEMA, check_sequences, fill, latents, rng, rows
from tests.replay.disk_process import CHUNK, LENGTH, STREAMS, store

pytestmark = pytest.mark.timeout(120)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A directory where syncing costs little, if there is one."""
    if not Path("/dev/shm").is_dir():
        yield tmp_path
        return
    directory = Path("/dev/shm") / f"nexus-{os.getpid()}-{tmp_path.name}"
    directory.mkdir()
    yield directory
    while directory.exists():  # a store that was not closed may still be removing files
        shutil.rmtree(directory, ignore_errors=True)


def process(way: str, directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.replay.disk_process", way, str(directory)],
        cwd=ROOT, text=True, stdout=subprocess.PIPE,
    )  # fmt: skip


def finished(way: str, directory: Path) -> list[str]:
    with process(way, directory) as running:
        assert running.stdout is not None
        lines = running.stdout.read().splitlines()
    assert running.returncode == 0, lines
    return lines


def check(it: DiskStore) -> None:
    """Every step that is said to be there can be read, is right and whole; and so is all that is sampled."""
    for stream, steps in it.streams().items():
        if steps:
            stored, expected = it.read(stream, steps.start, len(steps)), rows(stream, steps.start, len(steps))
            for key in SCHEMA.fields:
                np.testing.assert_array_equal(stored[key], expected[key], key)
    if len(it):
        for seed in range(5):
            check_sequences(*it.sample(16, LENGTH, rng(seed)))


def reopened(directory: Path, **settings: object) -> tuple[DiskStore, list[str]]:
    said: list[str] = []
    return store(directory, note=said.append, **settings), said


def abandon(it: DiskStore) -> None:
    """Leave a store without closing it; from a process that ends the kernel takes the lock and the mappings back."""
    it._sealer.drain()
    it._unlock()
    for chunk in it._chunks.values():
        chunk.rows = chunk.latents = None


# --- kills


def test_a_writer_killed_anywhere_leaves_whole_chunks(quick: Path) -> None:
    ends = [line.split() for line in finished("operations", quick)]
    assert len(ends) > 100 and {killed for _, killed, _ in ends[:-1]} == {"True"} and ends[-1][1] == "False"
    for number, _, acknowledged in ends:
        directory = quick / number
        it, said = reopened(directory, capacity=40)
        check(it)
        sealed = int(acknowledged) // CHUNK * CHUNK  # acknowledged when they were safe
        for stream in range(STREAMS if sealed else 0):
            assert it.streams()[stream].stop >= sealed, (number, said)
        assert len(it) <= 40
        assert not said or any("are there again" in line for line in said), said
        stats = it.stats()
        abandon(it)
        again, _ = reopened(directory, capacity=40)  # nothing more is lost by opening
        assert {k: again.stats()[k] for k in ("items", "steps", "chunks")} == {
            k: stats[k] for k in ("items", "steps", "chunks")
        }
        stop = {stream: steps.stop for stream, steps in again.streams().items()}
        for stream in range(STREAMS):
            again.append(stream, stop.get(stream, 0), rows(stream, stop.get(stream, 0), 10))
        check(again)
        again.close()
        files = {path.name for path in (directory / "chunks").iterdir()}
        assert not [name for name in files if name.endswith((".tmp", ".damaged"))]
        assert len([name for name in files if name.endswith((".rows", ".open"))]) == again.stats()["chunks"]


def test_latents_killed_in_writing_are_old_or_new_or_declared_stale(quick: Path) -> None:
    ends = [line.split() for line in finished("latents", quick)]
    assert len(ends) > 5
    torn = 0
    for number, _, _ in ends:
        it, _ = reopened(quick / number)
        for stream, steps in it.streams().items():
            got, old = it.read(stream, steps.start, len(steps)), rows(stream, steps.start, len(steps))
            new = latents(1, len(steps), 99)
            for i in range(len(steps)):
                there = np.concatenate([got[key][i].astype(np.float64) for key in SCHEMA.latents])
                wanted = [
                    np.concatenate([source[i].astype(np.float64) for source in sources])
                    for sources in (
                        [old[key] for key in SCHEMA.latents],
                        [new[key][0] for key in SCHEMA.latents],
                        [np.zeros((len(steps), *field.shape)) for field in SCHEMA.latents.values()],
                    )
                ]
                assert any(np.array_equal(there, one) for one in wanted), (number, stream, i, there)
                torn += np.array_equal(there, wanted[2]) and not np.array_equal(there, wanted[0])
        batch, keys = it.sample(200, LENGTH, rng())
        check_sequences(batch, keys)
        stale = ((batch["deter"] == 0).all(1) & ((keys[:, 0, 0] * 31 + keys[:, 0, 1]) % 251 != 0)).sum()
        assert it.stats()["stale"] >= stale
    assert torn > 0, "no kill tore a row: the test does not reach what it is for"


def test_a_killed_process_is_followed_by_the_next(quick: Path) -> None:
    lost = []
    for _ in range(3):
        with process("write", quick) as writer:
            assert writer.stdout is not None
            acknowledged: list[tuple[float, int, int]] = []
            begun = time.monotonic()
            while time.monotonic() - begun < 0.7 or len(acknowledged) < 50:
                stream, stop = map(int, writer.stdout.readline().split())
                acknowledged.append((time.monotonic(), stream, stop))
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout.read().splitlines():
                if len(line.split()) == 2:
                    acknowledged.append((time.monotonic(), *map(int, line.split())))  # type: ignore[arg-type]
            writer.wait(20)
        it, said = reopened(quick, capacity=400)
        assert any("was not closed" in line for line in said), said
        check(it)
        for stream in range(4):
            stops = [(when, stop) for when, of, stop in acknowledged if of == stream]
            settled = max((stop for when, stop in stops if when < stops[-1][0] - 1), default=0)
            kept = it.streams()[stream].stop
            assert kept >= settled // CHUNK * CHUNK
            lost.append(stops[-1][1] - kept)
        abandon(it)
    assert any(lost), "nothing was in memory: the test does not reach what it is for"


# --- a full disk


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
            timeout=20,
        )
    except FileNotFoundError:
        pytest.skip("a file system of its own needs the mount command")
    if done.returncode:
        pytest.skip(f"a file system of its own needs the right to mount one: {done.stderr.strip()}")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True, timeout=20)


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
    assert "is full: it gave up its 1 oldest chunks so far, and goes on." in said[0] and len(said) < 10
    check(it)
    assert {stream: steps.stop for stream, steps in it.streams().items()} == {0: 20_000, 1: 20_000}
    kept = {stream: steps.start for stream, steps in it.streams().items()}
    assert min(kept.values()) > 10_000 and max(kept.values()) < 19_000
    assert 0 < it.stats()["evicted"] == 2 * (20_000 - LENGTH + 1) - len(it)
    abandon(it)
    it, said = reopened(small_disk, capacity=1_000_000, chunk_length=0)
    check(it)
    assert it.streams()[0].stop >= 19_800 and "are there again" in said[-1]
    chunks = it.stats()["chunks"]
    abandon(it)
    fill_up(small_disk / "filler")
    it, said = reopened(small_disk, capacity=1_000_000, chunk_length=0)  # there is no room for a new manifest
    assert any("is full: its oldest chunk goes, for the manifest" in line for line in said)
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
    with pytest.raises(OSError, match="evicting older ones makes no room"):
        for first in range(4000, 9000, 50):
            it.append(0, first, rows(0, first, 50))
    assert it.streams()[0].start == 200, said
    check(it)


def test_a_disk_that_others_filled_is_said_and_nothing_is_torn(small_disk: Path) -> None:
    it, said = reopened(small_disk, capacity=1_000_000, chunk_length=200)
    fill_up(filler := small_disk / "filler")
    done = 0
    with pytest.raises(
        OSError, match="cannot write its full chunks.* evicting older ones makes no room; free some space"
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


# --- damage


def filled(directory: Path, steps: int = 60) -> None:
    it = store(directory)
    fill(it, steps)
    it.close()


@pytest.mark.parametrize("place", [72, 72 + 3 * 24 + 5, -1])
def test_a_flipped_byte_costs_its_chunk_alone(quick: Path, place: int) -> None:
    filled(quick)
    path = quick / "chunks" / "1-4.rows"  # steps 28 to 34
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    it, said = reopened(quick)
    assert len(said) == 1  # opening reads no payload
    batch, keys = it.sample(2000, LENGTH, rng())
    check_sequences(batch, keys)
    assert len(said) == 2 and "chunk set aside, its sequences are lost, 1-4.rows: its content fails" in said[1]
    starts = set(map(tuple, keys[:, 0].tolist()))
    around = [(1, start) for start in range(57) if not 28 - LENGTH < start < 35]
    assert starts == {(s, start) for s in (0, 2) for start in range(57)} | set(around)
    with pytest.raises(ValueError, match="chunk 1-4 is damaged"):
        it.read(1, 30, 2)
    it.write_back(np.array([[[1, step] for step in range(26, 38)]]), latents(1, 12, 99))
    it._sealer.drain()
    assert (quick / "chunks" / "1-4.rows.damaged").exists() and not path.exists()
    it.close()
    it, said = reopened(quick)  # the hole stays where it is
    assert set(map(tuple, it.sample(2000, LENGTH, rng())[1][:, 0].tolist())) == starts
    assert (it.read(1, 26, 2)["deter"] == 99).all() and (it.read(1, 35, 3)["deter"] == 99).all()
    assert it.append(1, 60, rows(1, 60, 3)) == 3


@pytest.mark.parametrize("damage", ["short", "gone", "empty"])
def test_chunk_files_that_are_not_whole(quick: Path, damage: str) -> None:
    filled(quick)
    path = quick / "chunks" / "0-2.rows"
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(content[: {"short": len(content) - 1, "empty": 0}[damage]])
    it, said = reopened(quick)
    assert ("1 chunk files missing" if damage == "gone" else "chunk set aside, 0-2.rows: it has") in said[0], said
    keys = it.sample(2000, LENGTH, rng())[1]
    assert not {(0, start) for start in range(14 - LENGTH + 1, 21)} & set(map(tuple, keys[:, 0].tolist()))
    assert len(set(map(tuple, keys[:, 0].tolist()))) == 3 * 57 - (CHUNK + LENGTH - 1)


def test_latents_that_are_lost_are_zeros_and_counted(quick: Path) -> None:
    filled(quick)
    for number in (0, 1, 2):
        (quick / "chunks" / f"0-{number}.latents").unlink()
    it, _ = reopened(quick)
    assert (it.read(0, 0, 3 * CHUNK)["deter"] == 0).all()
    batch, keys = it.sample(400, LENGTH, rng())
    stale = (keys[:, 0, 0] == 0) & (keys[:, 0, 1] < 3 * CHUNK)
    assert stale.any() and (batch["deter"][stale] == 0).all() and it.stats()["stale"] == stale.sum()
    assert it.write_back(keys[stale][:1, :1], {"stoch": np.full((1, 1, 2), 7, np.int8)}) == 1
    row = it.read(0, int(keys[stale][0, 0, 1]), 1)
    assert (row["stoch"] == 7).all() and (row["deter"] == 0).all()


def test_a_manifest_truncated_at_any_byte(quick: Path) -> None:
    filled(quick, 30)
    it, _ = reopened(quick)
    expected, items = it.streams(), len(it)
    it.close()
    path = quick / "manifest"
    whole = path.read_bytes()
    adopted = []
    for size in range(0, len(whole), 3):
        path.write_bytes(whole[:size])
        it, said = reopened(quick)
        assert (it.streams(), len(it)) == (expected, items), (size, said)
        adopted.append(any("adopted that the manifest does not list" in line for line in said))
        if size % 60 == 0:
            check(it)
        it.close()
    assert adopted == sorted(adopted, reverse=True) and 0.5 < np.mean(adopted) < 1


def test_a_manifest_damaged_in_the_middle(quick: Path) -> None:
    filled(quick, 30)
    path = quick / "manifest"
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        it, said = reopened(quick)
        assert it.streams() == dict.fromkeys(range(3), range(30))
        assert "lines of the manifest torn or damaged" in said[0]
        it.close()


def test_stray_files_are_removed_or_left_alone(quick: Path) -> None:
    filled(quick)
    chunks = quick / "chunks"
    for name in ("0-9.rows.tmp", "5-1.latents", "2-0.open", "notes.txt"):
        (chunks / name).write_bytes(b"x")
    shutil.copy(chunks / "0-1.rows", chunks / "7-1.rows")  # says it is another one
    it, said = reopened(quick)
    check(it)
    it._sealer.drain()
    assert set(it.streams()) == {0, 1, 2}
    names = {path.name for path in chunks.iterdir()}
    assert "notes.txt" in names and not names & {"0-9.rows.tmp", "5-1.latents", "2-0.open", "7-1.rows"}
    assert "7-1.rows: it holds chunk 1 of stream 0" in said[0] and "1 temporary files removed" in said[1]


# --- somebody else's


def test_a_second_process_is_refused(quick: Path) -> None:
    it = store(quick)
    assert f"is in use by process {os.getpid()}" in finished("open", quick)[0]
    fill(it, 20)
    check(it)
    it.close()
    assert finished("open", quick) == []


def test_another_schema_format_or_chunk_length_is_refused(quick: Path) -> None:
    filled(quick)
    small = type(SCHEMA)(fields={"x": SCHEMA.fields["step"]}, latents={})
    with pytest.raises(ValueError, match="steps of another schema.*choose another directory"):
        DiskStore(quick, small, length=3, capacity=50)
    with pytest.raises(ValueError, match="chunks of 7 steps, asked for are 9; give 0"):
        store(quick, chunk_length=9)
    manifest = (quick / "manifest").read_bytes()
    (quick / "manifest").unlink()
    with pytest.raises(ValueError, match="another schema"):
        DiskStore(quick, small, length=3, capacity=50)
    (quick / "manifest").write_bytes(manifest)
    it, _ = reopened(quick, chunk_length=0)
    check(it)
    it.close()
    other = manifest.split(b"\n", 1)[0][9:].replace(b"nexus-replay-disk-1", b"nexus-replay-disk-9")
    (quick / "manifest").write_bytes(f"{zlib.crc32(other):08x} ".encode() + other + b"\n")
    with pytest.raises(ValueError, match="format 'nexus-replay-disk-9', this program writes 'nexus-replay-disk-1'"):
        store(quick)
