"""A sharded store over real Redis servers, one of which goes away and comes back."""

import time
from contextlib import ExitStack

import numpy as np
import pytest

from replay.awaited import AwaitedStore
from replay.redis_store import RedisStore
from replay.sharding import ShardedStore
from replay.store import GapError, ShardDownError
from replay.writer import Writer
from tests.contracts.stores import SCHEMA, check_sequences, latents, rng, rows
from tests.replay.redis_servers import RedisServer

pytestmark = pytest.mark.timeout(120)


def _open(server: RedisServer, notes: list[str]) -> RedisStore:
    return RedisStore(
        server.url_unix, SCHEMA, prefix="t", length=4, capacity=5000, chunk_length=8, note=notes.append, patience=0.5
    )


def _vector(streams: tuple[int, ...], step: int) -> dict[str, np.ndarray]:
    each = [rows(stream, step, 1) for stream in streams]
    return {key: np.concatenate([row[key] for row in each]) for key in each[0]}


def _wait(condition: object, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_one_of_four_shards_goes_down_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.sharding.RETURN", 0.2)
    notes: list[str] = []
    with ExitStack() as stack:
        servers = [stack.enter_context(RedisServer(appendonly=True)) for _ in range(4)]
        store = ShardedStore([_open(server, notes) for server in servers], parallel=True, note=notes.append)
        stack.callback(store.close)
        fresh = iter(range(1000, 100_000))
        writer = Writer(store, range(8), flush_steps=4, max_seconds=1e9)
        writer.renew = lambda slot: next(fresh)
        # A stream's content follows from its id and step, so that sequences can be checked whoever wrote them.
        position = dict.fromkeys(range(8), 0)

        def write(steps: int) -> None:
            for _ in range(steps):
                each = [rows(stream, position[stream], 1) for stream in writer.streams]
                writer.add({key: np.concatenate([row[key] for row in each]) for key in each[0]})
                for stream in writer.streams:
                    position[stream] += 1

        write(40)
        gone = store.shards.index(store.shard(0))
        before = store.stats()["items"]
        keys = store.sample(16, 4, rng())[1]
        servers[gone].kill()

        batch, sampled = store.sample(64, 4, rng(1))
        check_sequences(batch, sampled)
        assert all(store.shards.index(store.shard(int(s))) != gone for s in sampled[:, 0, 0])
        (line,) = [line for line in notes if "is down" in line]
        assert f"shard-{gone} is down, 3 of 4 go on" in line
        assert store.down == [f"shard-{gone}"]
        away = sum(store.shards.index(store.shard(int(s))) == gone for s in keys[:, 0, 0])
        assert store.write_back(keys, latents(16, 4, 3)) == 4 * (16 - away)
        assert 0 < store.stats()["items"] < before
        with pytest.raises(GapError, match=f"shard-{gone} is down"):
            store.append(0, position[0], rows(0, position[0], 1))

        with pytest.raises(GapError):  # nobody gives new streams
            Writer(store, [0], flush_steps=1).add(_vector((0,), 0))
        writer.flush()
        assert all(store.shards.index(store.shard(s)) != gone for s in writer.streams)

        servers[gone].restart()
        _wait(lambda: not store.down)
        assert any(f"shard-{gone} is back after" in line for line in notes)
        sampled = np.concatenate([store.sample(64, 4, rng(seed))[1] for seed in range(5)])
        assert any(store.shards.index(store.shard(int(s))) == gone for s in sampled[:, 0, 0])
        assert store.stats()["items"] >= before


def test_all_shards_down_is_an_error_that_names_them() -> None:
    with RedisServer() as one, RedisServer() as two:
        store = ShardedStore([_open(one, []), _open(two, [])], names=["a", "b"], parallel=True)
        store.append(3, 0, rows(3, 0, 9))
        one.kill()
        two.kill()
        with pytest.raises(TimeoutError, match=r"shards, a, b down|a, b down"):
            store.sample(4, 4, rng(), timeout=3)
        store.close()


def test_a_shard_that_is_down_at_the_start_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.sharding.RETURN", 0.2)
    notes: list[str] = []
    with RedisServer() as one, RedisServer() as two:
        first = _open(one, notes)
        two.kill()
        with pytest.raises(ShardDownError):
            _open(two, [])
        awaited = AwaitedStore(lambda: _open(two, notes), SCHEMA, 4, durable=True)
        store = ShardedStore([first, awaited], parallel=True, note=notes.append)
        home = next(s for s in range(100) if store.shard(s) is first)
        store.append(home, 0, rows(home, 0, 9))
        check_sequences(*store.sample(8, 4, rng()))
        assert store.down == ["shard-1"]
        two.restart()
        _wait(lambda: not store.down)
        away = next(s for s in range(100) if store.shard(s) is awaited)
        assert store.append(away, 0, rows(away, 0, 9)) == 9
        assert store.stats()["steps"] == 18
        store.close()
