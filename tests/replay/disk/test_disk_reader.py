"""Looking into a disk replay: while its store is open, after it was closed, after it was killed, after damage."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from replay.disk.disk_reader import DiskReader, lock_holder
from replay.disk.disk_store import DiskStore
from replay.reading.episodes import Found, MissingStepsError, episodes
from tests.replay.cartpole import LENGTH, assert_same, play, schema, whole


def disk(directory: Path, capacity: int = 5000) -> DiskStore:
    return DiskStore(directory, schema(), length=LENGTH, capacity=capacity, chunk_length=16, streams=4)


def played(directory: Path, capacity: int = 5000, steps: int = 200) -> DiskStore:
    store = disk(directory, capacity)
    play(store, steps=steps)
    return store


def texts(reader: DiskReader, good: bool | None, verify: bool = True) -> list[str]:
    return [finding.text for finding in reader.health(verify) if finding.good is good]


@pytest.mark.parametrize("capacity", [5000, 150])
def test_a_closed_store_reads_as_it_was(tmp_path: Path, capacity: int) -> None:
    store = played(tmp_path, capacity)
    streams, before = store.streams(), whole(store)
    everything = {stream: store.read(stream, steps.start, len(steps)) for stream, steps in streams.items()}
    store.close()
    files = sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    reader = DiskReader(tmp_path)
    assert reader.schema == schema() and reader.length == LENGTH
    assert reader.streams() == streams
    for stream, steps in streams.items():
        assert_same([reader.read(stream, steps.start, len(steps))], [everything[stream]])
        with pytest.raises(ValueError, match=f"of stream {stream} are not all in"):
            reader.read(stream, steps.start, len(steps) + 1)
    assert_same(whole(reader), before)
    assert not texts(reader, False) and not texts(reader, None)
    facts = reader.facts()
    assert facts["stale"] == 0 and facts["inserted"] == 400 and facts["max_gb"] == store.max_gb
    assert facts["items"] == sum(max(0, len(steps) - LENGTH + 1) for steps in streams.values())
    assert facts["gb"] == pytest.approx(
        sum(p.stat().st_size for p in tmp_path.rglob("*") if p.suffix or p.name == "manifest") / 1e9
    )
    reader.close()
    assert sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == files
    disk(tmp_path, capacity).close()  # and nothing is locked


def test_a_store_in_use_is_read_without_disturbing_it(tmp_path: Path) -> None:
    store = played(tmp_path)
    store._sealer.drain()
    reader = DiskReader(tmp_path)
    (line,) = texts(reader, None)
    assert f"process {os.getpid()} is using it" in line
    for stream, steps in reader.streams().items():
        assert steps == range(0, 200 // 16 * 16)
        assert_same([reader.read(stream, 0, len(steps))], [store.read(stream, 0, len(steps))])
    small = played(tmp_path / "small", capacity=150)
    small._sealer.drain()
    slow = DiskReader(tmp_path / "small")
    play(small, steps=600, environments=3, seed=1)  # a third stream drives the chunks out that were found
    small._sealer.drain()
    found = Found()
    assert list(episodes(slow, found)) == []
    assert not texts(slow, False)
    store.close()
    small.close()


def test_what_a_killed_process_left_is_read(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from tests.replay.disk.test_disk_reader import played; "
        "store = played(Path(sys.argv[1])); store._sealer.drain(); os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, cwd=root, timeout=500)
    assert done.returncode == -9
    reader = DiskReader(tmp_path)
    assert lock_holder(tmp_path) is None
    (line,) = texts(reader, None)
    assert line.startswith("it was not closed")
    assert {len(steps) for steps in reader.streams().values()} == {192}


def test_a_damaged_chunk_is_a_hole_between_whole_episodes(tmp_path: Path) -> None:
    store = played(tmp_path)
    before = list(episodes(store, Found()))
    store.close()
    (tmp_path / "copy").mkdir()
    shutil.copytree(tmp_path / "chunks", tmp_path / "copy" / "chunks")
    shutil.copy(tmp_path / "manifest", tmp_path / "copy")
    file = tmp_path / "chunks" / "0-4.rows"
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    (tmp_path / "copy" / "chunks" / "0-4.rows").unlink()
    (tmp_path / "copy" / "chunks" / "1-2.latents").unlink()
    with (tmp_path / "copy" / "manifest").open("a") as manifest:
        manifest.write("00000000 torn")
    for directory, said in ((tmp_path, "0-4.rows: its content fails its checksum"), (tmp_path / "copy", "16 steps")):
        reader = DiskReader(directory)
        with pytest.raises(MissingStepsError, match="Steps 64 to 79 of stream 0"):
            reader.read(0, 60, 10)
        kept = [one for one in before if one.stream or one.first + one.length <= 64 or one.first >= 80]
        found = Found()
        assert [(one.stream, one.first, one.length) for one in episodes(reader, found)] == [
            (one.stream, one.first, one.length) for one in kept
        ]
        assert found.headless == 2 and len(kept) < len(before)
        assert any(said in line for line in texts(reader, False))
    assert any("stale latents: 16 of 384" in line for line in texts(reader, None))
    assert any("1 of" in line and "lines of the manifest" in line for line in texts(reader, None))
    assert "1 chunk files are missing, such as 0-4.rows" in texts(reader, False)
    assert not reader.read(1, 32, 16)["deter"].any() and reader.read(1, 48, 16)["deter"].any()
    assert reader.facts()["stale"] == 16


def test_a_folder_without_a_replay_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no readable manifest of a disk replay"):
        DiskReader(tmp_path)
