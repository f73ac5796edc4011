"""Things that break under a replay on Redis: the run goes on, nothing is torn, and it is said in one line."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from replay.redis.redis_connection import Connection, ReplyError, ShardDownError
from replay.redis.redis_store import RedisStore
from replay.redis_url import parse
from tests.replay.redis.redis_servers import RedisServer, connected
from tests.replay.redis.redis_workers import (
    LENGTH,
    STREAMS,
    Worker,
    check_everything,
    check_rows,
    crew,
    latents,
    learn,
    open_store,
    rows,
    write,
)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer(appendonly=True) as server:
        yield server


@pytest.fixture
def store(server: RedisServer) -> Iterator[RedisStore]:
    store = open_store(server.url_unix)
    yield store
    store.close()


def written_out(server: RedisServer, timeout: float = 200.0) -> None:
    """Until all that the server has answered so far is in the append-only file, which it writes when the disk can."""
    with connected(server.url_unix) as connection:
        written = info(connection, "aof_current_size", "persistence") + info(
            connection, "aof_buffer_length", "persistence"
        )
        deadline = time.monotonic() + timeout
        while info(connection, "aof_current_size", "persistence") < written:
            assert time.monotonic() < deadline, f"the append-only file is behind for {timeout:g} s"
            time.sleep(0.02)


def sample(store: RedisStore, times: int = 10) -> None:
    for seed in range(times):
        check_rows(*store.sample(8, LENGTH, np.random.default_rng(seed)))


def test_a_writer_killed_in_the_middle_of_a_chunk(server: RedisServer, store: RedisStore) -> None:
    for life in range(3):
        writer = Worker(write, server.url_unix, block=5, base=10 * life)
        with crew(writer):
            writer.wait("wrote", 5 + 2 * life)
            writer.kill()
        told = [event.value for event in writer.said if event.kind == "wrote"][-1]
        streams = store.streams()
        for stream, step in told.items():
            assert streams[stream].stop >= step, "an answered append is not there"
        assert any(steps.stop % store.chunk_length for steps in streams.values())
        assert check_everything(store) > 0
        sample(store)
    stream, steps = next(iter(store.streams().items()))  # another process goes on where it stopped
    assert store.append(stream, steps.stop - 2, rows(stream, steps.stop - 2, 40)) == 38
    sample(store)


def test_a_server_killed_in_the_middle_of_batches(server: RedisServer, store: RedisStore) -> None:
    writer, learner = Worker(write, server.url_unix, pause=0.01), Worker(learn, server.url_unix, pause=0.01)
    with crew(writer, learner):
        for _ in range(3):
            writer.wait("wrote", 20)
            learner.wait("sampled", 20)
            answered = [event.value for event in writer.said if event.kind == "wrote"][-1]
            written_out(server)
            writer.wait("wrote", 5)
            server.kill()
            server.restart()
            streams = store.streams()
            for stream, step in answered.items():
                assert streams[stream].stop >= step, "what was in the file is lost"
            writer.wait("wrote", 5)
            learner.wait("sampled", 5)
    assert check_everything(store) > 0
    sample(store)
    assert store.stats()["items"] == len(store.items()) == len(store)
    said = learner.notes()
    assert sum("was restarted and has" in line for line in said) == 3, said
    assert sum("trying again" in line for line in said) == 3 == sum("answers again" in line for line in said), said
    assert sum("answers again" in line for line in writer.notes()) == 3


def test_what_the_append_only_file_keeps(server: RedisServer, store: RedisStore) -> None:
    said: list[str] = []
    sampler = open_store(server.url_unix, online=False, note=said.append)
    for first in range(0, 400, 8):
        store.append_checked([(stream, first, rows(stream, first, 8)) for stream in range(STREAMS)])
    keys = sampler.sample(8, LENGTH, np.random.default_rng(0))[1]
    sampler.write_back(keys, latents(np.full(keys.shape[:2], 77)))
    before = sampler.items()
    size = sum(path.stat().st_size for path in server.folder.rglob("appendonly*") if path.is_file())
    assert size < 1.1 * 400 * STREAMS * store.schema.row_dtype.itemsize  # and no latents, half as much again
    written_out(server)
    server.restart()
    np.testing.assert_array_equal(sampler.items(), before)
    batch, keys = sampler.sample(64, LENGTH, np.random.default_rng(1))
    check_rows(batch, keys)
    assert (batch["deter"] == 0).all() and sampler.stats()["stale"] == 64
    assert sampler.write_back(keys, latents(np.full(keys.shape[:2], 5))) == 64 * LENGTH
    batch, _ = sampler.sample(64, LENGTH, np.random.default_rng(1))
    assert (batch["deter"] == 5).all() and (batch["stoch"] == 5).all() and sampler.stats()["stale"] == 64
    assert store.append(0, 400, rows(0, 400, 8)) == 8  # in the open chunk, of which the latents are gone
    assert (sampler.read(0, 400, 8)["stoch"][:, 0] == (np.arange(400, 408) % 251) % 100).all()
    assert check_everything(store) == 400 * STREAMS + 8
    assert [line for line in said if "restarted and has" in line and line.endswith("; it lost none.")], said
    sampler.close()


def test_an_append_only_file_that_is_rewritten(server: RedisServer, store: RedisStore) -> None:
    sampler, direct = open_store(server.url_unix, online=False), Connection(parse(server.url_unix))
    position = 0

    def go_on(n: int) -> None:
        nonlocal position
        for first in range(position, position + n, 8):
            store.append_checked([(stream, first, rows(stream, first, 8)) for stream in range(STREAMS)])
        position += n

    go_on(400)
    keys = sampler.sample(64, LENGTH, np.random.default_rng(0))[1]
    sampler.write_back(keys, latents(np.full(keys.shape[:2], 7)))
    direct.call("BGREWRITEAOF")
    while info(direct, "aof_rewrite_in_progress", "persistence"):
        time.sleep(0.02)
    sampler.write_back(keys, latents(np.full(keys.shape[:2], 8)))  # not in the file any more
    go_on(720)  # evicts chunks that are in the rewritten part
    written_out(server)
    server.restart()
    assert check_everything(sampler) == store.stats()["steps"]
    assert not (sampler.read(0, position - 700, 700)["stoch"] == 8).any()
    for stream, steps in sampler.streams().items():
        read = sampler.read(stream, steps.start, len(steps))
        assert (
            (read["stoch"][:, 0] == (stream * 31 + read["step"]) % 251 % 100) | (read["stoch"][:, 0] % 7 == 0)
        ).all()
    names = direct.call("KEYS", "run:*")
    assert isinstance(names, list)
    chunks, theirs = ([name for name in names if name.startswith(kind)] for kind in (b"run:c:", b"run:l:"))
    assert len(chunks) == store.stats()["chunks"] and {b"run:c:" + name[6:] for name in theirs} < set(chunks)
    sample(sampler)
    sampler.close()
    direct.close()


def test_an_append_only_file_that_lost_its_end(server: RedisServer, store: RedisStore) -> None:
    """As after a power failure, in the middle of an append."""
    writer, learner = Worker(write, server.url_unix, pause=0.01), Worker(learn, server.url_unix, pause=0.01)
    with crew(writer, learner):
        for _ in range(2):
            writer.wait("wrote", 30)
            writer.pause()  # so that the learner knows all that is there, and what is lost of it
            learner.wait("sampled", 10)
            server.kill()
            writer.resume()
            file = max(server.folder.rglob("appendonly*aof"), key=lambda path: path.stat().st_size)
            with file.open("r+b") as end:
                end.truncate(file.stat().st_size - 100_000)  # some 100 steps
            server.restart()
            writer.wait("wrote", 30)
            learner.wait("sampled", 10)
        assert any(stream >= 1000 for stream in store.streams()), "the writer did not notice"
    assert check_everything(store) > 0
    sample(store)
    said = [line for line in learner.notes() if "was restarted and has" in line]
    assert len(said) == 2 and all("it lost the newest " in line for line in said), said


def test_a_learner_killed_in_the_middle_of_a_write_back(server: RedisServer, store: RedisStore) -> None:
    for first in range(0, 320, 8):
        store.append_checked([(stream, first, rows(stream, first, 8)) for stream in range(STREAMS)])
    for life in range(4):
        learner = Worker(learn, server.url_unix)
        with crew(learner):
            learner.wait("sampled", 5 + 3 * life)
            learner.kill()
        assert check_everything(store) == 320 * STREAMS
    sample(store)


def test_connections_that_are_cut(server: RedisServer, store: RedisStore) -> None:
    writer, learner = Worker(write, server.url_unix), Worker(learn, server.url_unix)
    scissors = Connection(parse(server.url_unix))
    with crew(writer, learner):
        for _ in range(30):
            scissors.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(0.03)
        writer.wait("wrote", 5)
        learner.wait("sampled", 5)
    scissors.close()
    assert any("answers again" in line for line in writer.notes() + learner.notes())
    assert not any("restarted" in line for line in writer.notes() + learner.notes())
    assert set(store.streams()) == set(range(STREAMS))  # no stream was given up
    assert check_everything(store) > 0
    sample(store)


def test_a_server_that_is_full(server: RedisServer, store: RedisStore) -> None:
    writer, learner = Worker(write, server.url_unix, pause=0.01), Worker(learn, server.url_unix, pause=0.01)
    other = Connection(parse(server.url_unix))
    with crew(writer, learner):
        while store.stats()["evicted"] < 100:
            writer.wait("wrote", 20)
        chunks = store.stats()["chunks"]
        used = info(other, "used_memory")
        taken = int(0.45 * 1e9 * store.stats()["gb"])
        other.call("CONFIG", "SET", "maxmemory", used - taken)  # it says so once a quarter is gone
        with pytest.raises(ReplyError, match="OOM"):
            other.call("SET", "junk", b"junk")
        writer.wait("wrote", 50)
        learner.wait("sampled", 50)
        assert store.stats()["chunks"] < 0.75 * chunks
        assert info(other, "used_memory") < used - taken // 2
        other.call("CONFIG", "SET", "maxmemory", 0)
        writer.wait("wrote", 50)
        learner.wait("sampled", 20)
    other.close()
    assert store.stats()["max_gb"] < 0.9 * store.max_gb
    assert set(store.streams()) == set(range(STREAMS))
    assert check_everything(store) > 0
    sample(store)
    said = [line for line in writer.notes() + learner.notes() if "is full" in line]
    assert 1 <= len(said) <= 20, said


def info(connection: Connection, field: str, section: str = "memory") -> int:
    text = connection.call("INFO", section)
    assert isinstance(text, bytes)
    return int(next(line for line in text.decode().splitlines() if line.startswith(f"{field}:")).split(":")[1])


def test_a_server_that_stays_full_is_named(server: RedisServer) -> None:
    store = open_store(server.url_unix, patience=0.5)
    for first in range(0, 400, 8):
        store.append_checked([(stream, first, rows(stream, first, 8)) for stream in range(STREAMS)])
    other = Connection(parse(server.url_unix))
    other.call("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(
        ShardDownError, match=r"refused to store steps for 0.5 s .*OOM.*down to \d+ chunks. Give the ser"
    ):
        for first in range(400, 800, 8):
            store.append_checked([(stream, first, rows(stream, first, 8)) for stream in range(STREAMS)])
    other.call("CONFIG", "SET", "maxmemory", 0)
    where = store.streams()[0].stop
    assert store.append(0, where, rows(0, where, 100)) == 100
    check_everything(store)
    sample(store)
    store.close()
    other.close()


def test_a_server_that_comes_back_empty(store: RedisStore) -> None:
    with RedisServer() as server:
        writer, learner = Worker(write, server.url_unix, pause=0.01), Worker(learn, server.url_unix, pause=0.01)
        with crew(writer, learner):
            writer.wait("wrote", 20)
            learner.wait("sampled", 10)
            server.restart()
            writer.wait("wrote", 20)
            learner.wait("sampled", 10)
        said = writer.notes() + learner.notes()
        assert sum("has lost the replay run, an empty one" in line for line in said) == 1, said
        again = open_store(server.url_unix)
        assert min(again.streams()) >= 1000
        assert check_everything(again) > 0
        sample(again)
        again.close()
