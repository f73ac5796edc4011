"""Clips from every kind of stored replay: never across an episode's end, uniform, repeatable, also during eviction."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from replay.disk.disk_reader import DiskReader
from replay.disk.disk_store import DiskStore
from replay.memory.checkpoint_reader import CheckpointReader
from replay.memory.memory_store import MemoryStore
from replay.reading.clips import Clips, NoClipError
from replay.reading.reader import Reader
from replay.redis.redis_reader import open_replay
from replay.redis.redis_store import RedisStore
from replay.step import Field, Rows, Schema
from replay.store import ShardDownError, Store
from tests.replay.beside import meanwhile
from tests.replay.redis.redis_servers import RedisServer

LENGTH = 4
SCHEMA = Schema.transitions(
    {"image": Field(dtype=np.dtype(np.uint8), shape=(2, 2, 3)), "place": Field(dtype=np.dtype(np.float32), shape=(2,))},
    {"action": Field(dtype=np.dtype(np.float32), shape=(3,))},
    latents={"deter": Field(dtype=np.dtype(np.float16), shape=(4,))},
)


def clips_of(opened: Callable[[], list[Reader]], frames: int, stride: int = 1) -> Clips:
    return Clips(opened, ["image", "place"], leaving=["action"], arriving=["reward"], frames=frames, stride=stride)


def steps(stream: int, first: int, n: int, episode: int) -> Rows:
    """Rows that say where they are: place (stream, step), action (stream, step, episode); each `episode` rows long."""
    ids = np.arange(first, first + n)
    return {
        "image": np.broadcast_to((ids % 256).astype(np.uint8)[:, None, None, None], (n, 2, 2, 3)).copy(),
        "place": np.stack([np.full(n, stream), ids], 1).astype(np.float32),
        "action": np.stack([np.full(n, stream), ids, ids // episode], 1).astype(np.float32),
        "reward": ids.astype(np.float32),
        "is_first": ids % episode == 0,
        "is_last": ids % episode == episode - 1,
        "is_terminal": np.zeros(n, bool),
        "version": np.zeros(n, np.int32),
        "deter": np.zeros((n, 4), np.float16),
    }


def fill(store: Store, streams: int = 2, n: int = 60, episode: int = 12) -> None:
    for stream in range(streams):
        begin = store.streams().get(stream, range(0)).stop
        store.append(stream, begin, steps(stream, begin, n, episode))


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[RedisServer, RedisServer]]:
    with RedisServer() as one, RedisServer() as other:
        yield one, other


def redis(server: RedisServer, prefix: str, capacity: int = 5000) -> RedisStore:
    return RedisStore(
        server.url_unix, SCHEMA, prefix=prefix, length=LENGTH, capacity=capacity, chunk_length=8, streams=4
    )


@pytest.fixture(params=["checkpoint", "disk", "redis", "two servers"])
def opened(
    request: pytest.FixtureRequest, tmp_path: Path, servers: tuple[RedisServer, RedisServer]
) -> Callable[[], list[Reader]]:
    """Opens a stored replay of two streams."""
    if request.param == "checkpoint":
        memory = MemoryStore(SCHEMA, length=LENGTH, capacity=5000, chunk_length=8)
        fill(memory)
        memory.checkpoint(tmp_path / "saved")
        return lambda: [CheckpointReader(tmp_path / "saved")]
    if request.param == "disk":
        with closing(DiskStore(tmp_path, SCHEMA, length=LENGTH, capacity=5000, chunk_length=8, streams=4)) as disk:
            fill(disk)
        return lambda: [DiskReader(tmp_path)]
    prefix = tmp_path.name
    if request.param == "redis":
        with closing(redis(servers[0], prefix)) as store:
            fill(store)
        return lambda: [open_replay(servers[0].url_unix, prefix)]
    for stream, server in enumerate(servers):
        with closing(redis(server, prefix)) as store:
            store.append(stream, 0, steps(stream, 0, 60, 12))
    return lambda: [open_replay(server.url_unix, prefix) for server in servers]


def check(clip: Rows, frames: int, stride: int) -> None:
    """The clip is `frames` steps, `stride` apart, of one episode, with the actions between them."""
    assert clip.keys() == {"image", "place", "action", "reward"}
    stream, first = clip["place"][0]
    np.testing.assert_array_equal(clip["place"][:, 0], stream)
    np.testing.assert_array_equal(clip["place"][:, 1], first + stride * np.arange(frames))
    np.testing.assert_array_equal(clip["image"][:, 0, 0, 0], clip["place"][:, 1].astype(int) % 256)
    assert clip["action"].shape == (frames - 1, stride, 3)
    np.testing.assert_array_equal(clip["action"].reshape(-1, 3)[:, 1], first + np.arange((frames - 1) * stride))
    np.testing.assert_array_equal(clip["reward"], clip["action"][..., 1] + 1)
    assert len({*clip["action"][..., 2].ravel().tolist(), clip["place"][-1, 1] // 12}) == 1  # one episode


@pytest.mark.parametrize(("frames", "stride"), [(1, 1), (3, 1), (4, 3), (12, 1)])
def test_clips_are_steps_of_one_episode(opened: Callable[[], list[Reader]], frames: int, stride: int) -> None:
    with closing(clips_of(opened, frames, stride)) as clips:
        rng = np.random.default_rng(0)
        got = [clips.draw(rng) for _ in range(60)]
    for clip in got:
        check(clip, frames, stride)
    assert {int(clip["place"][0, 0]) for clip in got} == {0, 1}
    with closing(clips_of(opened, frames, stride)) as clips:
        rng = np.random.default_rng(0)
        for clip in got:
            again = clips.draw(rng)
            assert all(np.array_equal(clip[key], again[key]) for key in clip)


def test_every_clip_is_as_likely_as_any_other(opened: Callable[[], list[Reader]]) -> None:
    with closing(Clips(opened, ["place"], frames=9)) as clips:
        rng = np.random.default_rng(1)
        drawn = [tuple(clips.draw(rng)["place"][0].tolist()) for _ in range(1600)]
    counts = {start: drawn.count(start) for start in set(drawn)}
    assert counts.keys() == {(s, e * 12 + i) for s in (0, 1) for e in range(5) for i in range(4)}
    expected = 1600 / len(counts)
    chi2 = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi2 < 80  # 39 degrees of freedom: exceeded once in 10,000 seeds


def test_what_cannot_be_had_is_said(opened: Callable[[], list[Reader]]) -> None:
    with pytest.raises(NoClipError, match=r"13 frames, 5 apart, spans 61 steps; the longest stream in .* has 60"):
        Clips(opened, ["place"], frames=13, stride=5)
    with closing(Clips(opened, ["place"], frames=13)) as clips, pytest.raises(NoClipError, match="cross the end of an"):
        clips.draw(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"does not store \['depth'\]; it has .*'place'"):
        Clips(opened, ["image", "depth"], frames=2)
    with pytest.raises(ValueError, match="frames >= 1 and stride >= 1"):
        Clips(opened, ["image"], frames=2, stride=0)


@pytest.mark.parametrize("kind", ["disk", "redis"])
def test_clips_are_found_while_a_run_writes_and_evicts(
    kind: str, tmp_path: Path, servers: tuple[RedisServer, RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replay.reading.clips._REFRESH", 0.2)
    monkeypatch.setattr("replay.reading.clips._RETRY", 0.02)
    prefix = tmp_path.name
    store: Store
    if kind == "disk":
        store = DiskStore(tmp_path, SCHEMA, length=LENGTH, capacity=300, chunk_length=8, streams=4)
    else:
        store = redis(servers[0], prefix, capacity=300)
    fill(store)
    with closing(store):

        def opened() -> list[Reader]:
            return [DiskReader(tmp_path)] if kind == "disk" else [open_replay(servers[0].url_unix, prefix)]

        with closing(clips_of(opened, 3, 2)) as clips, meanwhile(lambda: fill(store, n=24)):
            rng, begin = np.random.default_rng(0), store.streams()[0].start
            while store.streams()[0].start < begin + 600:
                clip = clips.draw(rng)
                check(clip, 3, 2)
            assert clip["place"][0, 1] > begin  # not only what was there in the beginning


def test_a_replay_that_went_is_opened_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.reading.clips._REFRESH", 0.0)
    memory = MemoryStore(SCHEMA, length=LENGTH, capacity=5000, chunk_length=8)
    saved: list[Path] = []

    def save() -> None:
        fill(memory)
        saved.append(tmp_path / str(len(saved)))
        memory.checkpoint(saved[-1])

    save()
    with closing(clips_of(lambda: [CheckpointReader(saved[-1])], 2)) as clips:
        before = len(clips)
        save()
        clips.draw(np.random.default_rng(0))
        assert len(clips) == before  # the checkpoint is still there
        (saved[0] / "index.json").unlink()
        check(clips.draw(np.random.default_rng(0)), 2, 1)
        assert len(clips) == before + 120


def test_damaged_chunks_are_named_and_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.reading.clips._RETRY", 0.0)
    with closing(DiskStore(tmp_path, SCHEMA, length=LENGTH, capacity=5000, chunk_length=8, streams=4)) as disk:
        fill(disk)
    file = sorted((tmp_path / "chunks").glob("*.rows"))[3]
    raw = bytearray(file.read_bytes())
    raw[-20] ^= 255
    file.write_bytes(raw)
    told: list[str] = []
    with closing(Clips(lambda: [DiskReader(tmp_path)], ["place"], frames=3, note=told.append)) as clips:
        rng = np.random.default_rng(0)
        drawn = {tuple(place) for _ in range(400) for place in clips.draw(rng)["place"].tolist()}
    stream, chunk = map(int, file.stem.split("-"))
    lost = {(stream, step) for step in range(8 * chunk, 8 * chunk + 8)}
    assert drawn == {(stream, step) for stream in (0, 1) for step in range(60)} - lost
    assert len(told) == 1 and told[0].startswith(f"{tmp_path}: ") and file.stem in told[0]


def test_a_server_that_is_down_is_done_without_until_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.reading.clips._REFRESH", 0.1)
    monkeypatch.setattr("replay.redis.redis_reader.PATIENCE", 0.2)
    with RedisServer(appendonly=True, appendfsync="always") as one, RedisServer() as other:
        for stream, server in enumerate((one, other)):
            with closing(redis(server, "run")) as store:
                store.append(stream, 0, steps(stream, 0, 60, 12))

        def opened() -> list[Reader]:
            readers: list[Reader] = []
            for server in (one, other):
                with suppress(ShardDownError):
                    readers.append(open_replay(server.url_unix, "run"))
            return readers

        def streams() -> set[int]:
            return {int(clips.draw(rng)["place"][0, 0]) for _ in range(40)}

        rng = np.random.default_rng(0)
        with closing(Clips(opened, ["place"], frames=2)) as clips:
            assert streams() == {0, 1}
            one.kill()
            while streams() != {1}:
                time.sleep(0.1)
            one.restart()
            while streams() != {0, 1}:
                time.sleep(0.1)
