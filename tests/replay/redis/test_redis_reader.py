"""Looking into a replay on a real Redis server: while it is written, between others, with parts of it gone."""

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from replay.reading.episodes import Found, MissingStepsError, episodes
from replay.redis.redis_connection import Connection, ReplyError, ShardDownError
from replay.redis.redis_reader import RedisReader, open_replay
from replay.redis.redis_session import Reply
from replay.redis.redis_store import RedisStore
from tests.replay.cartpole import LENGTH, assert_same, play, schema, whole
from tests.replay.redis.redis_servers import RedisServer


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def server(shared: RedisServer) -> RedisServer:
    from replay.redis_url import parse

    connection = Connection(parse(shared.url_unix))
    connection.call("FLUSHALL")
    connection.close()
    return shared


def redis(server: RedisServer, prefix: str = "one", capacity: int = 5000) -> RedisStore:
    return RedisStore(
        server.url_unix, schema(), prefix=prefix, length=LENGTH, capacity=capacity, chunk_length=16, streams=4
    )


def texts(reader: RedisReader, good: bool | None) -> list[str]:
    return [finding.text for finding in reader.health(verify=True) if finding.good is good]


@pytest.mark.parametrize("capacity", [5000, 150])
def test_it_reads_what_the_store_has(server: RedisServer, capacity: int) -> None:
    store = redis(server, capacity=capacity)
    play(store, steps=200)
    reader = open_replay(server.url_unix)
    assert reader.where == f"unix://{server.socket} one"
    assert reader.schema == schema() and reader.length == LENGTH
    streams = store.streams()
    assert reader.streams() == streams
    for stream, steps in streams.items():
        assert_same([reader.read(stream, steps.start, len(steps))], [store.read(stream, steps.start, len(steps))])
        assert reader.read(stream, steps.start, 3)["deter"].any()
        with pytest.raises(ValueError, match=f"of stream {stream} are not all in"):
            reader.read(stream, steps.start, len(steps) + 1)
    assert_same(whole(reader), whole(store))
    facts, stats = reader.facts(), store.stats()
    for key in ("items", "chunks", "inserted", "evicted", "max_gb"):
        assert facts[key] == stats[key], key
    assert facts["gb"] == pytest.approx(stats["gb"], rel=0.5)
    assert not texts(reader, False)
    assert any("chunks of full size: " in line for line in texts(reader, True))
    assert any("AOF is off" in line for line in texts(reader, None))
    assert reader.facts()["stale"] == 0
    reader.close()
    store.close()


def test_steps_that_leave_meanwhile_are_stepped_over(server: RedisServer) -> None:
    store = redis(server, capacity=150)
    play(store, steps=100)
    reader = open_replay(server.url_unix)
    stale = reader.streams()
    play(store, steps=400, environments=3, seed=1)  # a third stream drives the others out
    got = list(episodes(reader, Found(), stale))
    assert all(one.rows["is_first"][0] and one.rows["is_last"][-1] for one in got)
    with pytest.raises(ValueError, match="are not all in"):
        reader.read(0, stale[0].start, 5)
    assert_same(whole(reader), whole(store))
    reader.close()
    store.close()


def test_lost_chunks_are_holes_and_lost_latents_are_stale(server: RedisServer) -> None:
    store = redis(server)
    play(store, steps=200)
    before = list(episodes(store, Found()))
    reader = open_replay(server.url_unix)
    reader.connection.call("DEL", "one:c:0000000000000000:4", "one:l:0000000000000001:2")
    with pytest.raises(MissingStepsError, match="Steps 64 to 79 of stream 0"):
        reader.read(0, 60, 10)
    kept = [one for one in before if one.stream or one.first + one.length <= 64 or one.first >= 80]
    found = Found()
    assert [(one.stream, one.first) for one in episodes(reader, found)] == [(one.stream, one.first) for one in kept]
    assert found.headless == 2 and len(kept) < len(before)
    assert texts(reader, False) == ["missing chunks: 1 of 26, such as one:c:0000000000000000:4"]
    assert reader.facts()["stale"] == 16
    assert not reader.read(1, 32, 16)["deter"].any() and reader.read(1, 48, 16)["deter"].any()
    reader.close()
    store.close()


def test_chunks_of_another_type_are_holes_and_are_named(server: RedisServer) -> None:
    store = redis(server)
    play(store, steps=200)
    before = list(episodes(store, Found()))
    reader = open_replay(server.url_unix)
    chunk, latents = "one:c:0000000000000000:4", "one:l:0000000000000001:2"
    reader.connection.call("DEL", chunk, latents)
    reader.connection.call("LPUSH", chunk, "x")
    reader.connection.call("SADD", latents, "x")
    with pytest.raises(MissingStepsError, match="Steps 64 to 79 of stream 0"):
        reader.read(0, 60, 10)
    assert reader.losses() == [f"another program's values are at {chunk} (list), which are keys of the replay"]
    kept = [one for one in before if one.stream or one.first + one.length <= 64 or one.first >= 80]
    assert [(one.stream, one.first) for one in episodes(reader, Found())] == [(one.stream, one.first) for one in kept]
    assert not reader.read(1, 32, 16)["deter"].any() and reader.read(1, 48, 16)["deter"].any()
    both = f"another program's values are at {chunk} (list), {latents} (set), which are keys of the replay"
    assert reader.losses()[-1] == both
    assert texts(reader, False) == [both] and "chunks of full size: 25 of 26" in texts(reader, True)
    assert reader.facts()["stale"] == 16 and reader.facts()["gb"] > 0
    fresh = open_replay(server.url_unix)  # it has read nothing yet
    assert texts(fresh, False)[-1] == both
    for one in (reader, fresh, store):
        one.close()


@pytest.mark.parametrize("name", ["counts", "life", "meta", "streams"])
def test_what_a_replay_is_known_by_is_of_another_type(server: RedisServer, name: str) -> None:
    store = redis(server)
    play(store, steps=60)
    store.close()
    reader, key = open_replay(server.url_unix), f"one:{name}"
    reader.connection.call("RENAME", key, "aside")
    reader.connection.call("ZADD", key, 1, "x")
    said = rf"another program's values are at {key} \(zset\), which are keys of the replay"
    for prefix in ("one", ""):
        with pytest.raises(ValueError, match=said):
            open_replay(server.url_unix, prefix).streams()
    if name != "meta":  # it is read once
        with pytest.raises(ValueError, match=said):
            reader.streams()
    reader.close()


@pytest.mark.parametrize("state", ["1 2", "x 0 0 0"])
def test_a_stream_of_which_nobody_knows_where_it_is(server: RedisServer, state: str) -> None:
    store = redis(server)
    play(store, steps=60)
    with closing(open_replay(server.url_unix)) as reader:
        reader.connection.call("HSET", "one:streams", "0000000000000001", state)
        for call in (reader.streams, store.streams, lambda: store.sample(4, LENGTH, np.random.default_rng(0))):
            with pytest.raises(ValueError, match=f"has '{state}' instead of four numbers: the replay is damaged"):
                call()
    store.close()


def test_one_of_several_is_chosen_by_its_prefix(server: RedisServer) -> None:
    with pytest.raises(ValueError, match="has no replay in this database"):
        open_replay(server.url_unix)
    stores = [redis(server, name) for name in ("one", "two:b")]
    play(stores[1], steps=50)
    two = open_replay(server.url_unix, "two:b")
    two.connection.call("SET", "other:meta", "{}")  # of another program
    two.connection.call("LPUSH", "list:meta", "1")
    two.connection.call("HSET", "other:counts", "clicks", "1")
    with pytest.raises(ValueError, match=r"2 replays; choose one with --prefix:\n  one: 0 steps, .*\n  two:b: 100 st"):
        open_replay(server.url_unix)
    with pytest.raises(ValueError, match="has no replay under three; it has one, two:b"):
        open_replay(server.url_unix, "three")
    one = open_replay(server.url_unix, "one")
    assert one.streams() == {} and len(two.streams()) == 2
    for reader in (one, two):
        reader.close()
    for store in stores:
        store.close()


@pytest.mark.parametrize("damage", [("DEL",), ("SET", "[1"), ("LPUSH", "x")])
@pytest.mark.parametrize("name", ["meta", "counts"])
def test_a_damaged_replay_beside_a_whole_one_is_not_passed_over(
    server: RedisServer, name: str, damage: tuple[str, ...]
) -> None:
    stores = [redis(server, prefix) for prefix in ("one", "two")]
    play(stores[1], steps=50)
    for store in stores:
        store.close()
    two = open_replay(server.url_unix, "two")
    two.connection.call("DEL", f"one:{name}")
    two.connection.call(damage[0], f"one:{name}", *damage[1:])
    with pytest.raises(ValueError, match=r"2 replays; choose one with --prefix:\n  one: damaged\n  two: 100 steps"):
        open_replay(server.url_unix)
    with pytest.raises(ValueError, match="one"):
        open_replay(server.url_unix, "one")
    assert len(two.streams()) == 2
    two.connection.call("DEL", "two:meta", "two:counts")
    with pytest.raises(ValueError, match=f"one:{name}"):  # the only one
        open_replay(server.url_unix)
    two.close()


def test_it_sends_nothing_that_writes(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    store = redis(server)
    play(store, steps=60)
    sent: set[str] = set()
    original = Connection.pipeline

    def listening(self: Connection, commands: list[tuple]) -> list[Reply | ReplyError]:
        sent.update(str(command[0]) for command in commands)
        return original(self, commands)

    monkeypatch.setattr(Connection, "pipeline", listening)
    reader = open_replay(server.url_unix)
    whole(reader)
    reader.facts()
    list(reader.health(verify=True))
    reading = {"SCAN", "GET", "HMGET", "HGETALL", "GETRANGE", "STRLEN", "HLEN", "TYPE", "MEMORY", "INFO"}
    assert sent == {"MULTI", "EXEC", *reading}
    reader.close()
    store.close()


def test_a_server_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.redis.redis_reader.PATIENCE", 0.1)
    with pytest.raises(ShardDownError, match="has not answered"):
        open_replay("unix:///nowhere/socket")
