"""A disk store whose files are damaged, or somebody else's: it costs what is damaged, and a line that says it."""

import os
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from replay.disk.disk_reader import DiskReader
from replay.disk.disk_store import DiskStore
from replay.keys import step_keys
from replay.reading.episodes import pieces
from tests.contracts.stores import SCHEMA, check_sequences, fill, latents, rng, rows
from tests.replay.disk.disk_lives import check, filled, finished, reopened
from tests.replay.disk.disk_process import CHUNK, LENGTH, store


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


@pytest.mark.parametrize("when", ["open", "closed"])
@pytest.mark.parametrize("suffix", ["latents", "rows"])
@pytest.mark.parametrize("damage", ["gone", "short", "flipped"])
def test_what_sampling_goes_on_without_nothing_else_needs(
    quick: Path, tmp_path: Path, damage: str, suffix: str, when: str
) -> None:
    filled(quick)
    it, said = reopened(quick, capacity=200)
    it.append(0, 60, rows(0, 60, 10))  # chunk 8, of steps 56 to 62, is sealed by this process
    it._sealer.drain()
    if when == "closed":
        it.close()
    spoiled = [3] if when == "open" and damage == "flipped" else [3, 8]  # what it wrote, it does not check
    for number in spoiled:
        spoil(quick / "chunks" / f"0-{number}.{suffix}", damage)
    if when == "closed":
        it, said = reopened(quick, capacity=200)
    it.checkpoint(tmp_path / "saved")
    other = store(tmp_path / "other", capacity=200)
    other.restore(tmp_path / "saved")
    reader = DiskReader(quick)
    found, lost = list(pieces(reader, 0, reader.streams()[0])), suffix == "rows"
    assert sum(len(got["step"]) for _, got in found) == 70 - lost * len(spoiled) * CHUNK
    for one in (it, other):
        batch, keys = one.sample(1000, LENGTH, rng())
        check_sequences(batch, keys)
        starts = {start for stream, start in keys[:, 0].tolist() if stream == 0}
        assert bool(starts & set(range(22, 28))) != lost and starts >= set(range(28, 53))
        if suffix == "latents":
            assert one.stats()["stale"] > 0 and (one.read(0, 27, 1)["deter"] == 0).all()
            assert one.write_back(step_keys(0, 21, 7)[None], latents(1, 7, 9)) == 7
    assert any("0-3.rows" in line or "chunk files missing" in line for line in said) == lost, said
    for first in range(70, 400):
        it.append(0, first, rows(0, first, 1))  # all of it is evicted
    it.checkpoint(tmp_path / "later")
    it.close()
    it, said = reopened(quick, capacity=200)
    check(it)
    assert not any("missing" in line or "aside" in line for line in said), said


def spoil(path: Path, damage: str) -> None:
    content = path.read_bytes()
    path.unlink()  # a checkpoint may have it too
    if damage != "gone":
        place = len(content) - 9
        path.write_bytes(content[:place] + (bytes([content[place] ^ 1]) + content[place + 1 :]) * (damage == "flipped"))


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
    with pytest.raises(ValueError, match="chunks of 7 steps, not 9; set chunk_length to 0"):
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
