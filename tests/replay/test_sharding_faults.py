"""A sharded store over real Redis servers, one of which goes away and comes back."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import redis

from replay.awaited import AwaitedStore
from replay.redis.redis_store import RedisStore
from replay.sharding import ShardedStore
from replay.store import GapError, ShardDownError
from replay.writer import Writer
from tests.contracts.stores import SCHEMA, check_sequences, latents, rng, rows
from tests.replay.redis.redis_servers import RedisServer
from tests.replay.redis.refusing_redis import meanwhile


def _open(server: RedisServer, notes: list[str]) -> RedisStore:
    return RedisStore(
        server.url_unix, SCHEMA, prefix="t", length=4, capacity=5000, chunk_length=8, note=notes.append, patience=0.5
    )


def _vector(streams: tuple[int, ...], step: int) -> dict[str, np.ndarray]:
    each = [rows(stream, step, 1) for stream in streams]
    return {key: np.concatenate([row[key] for row in each]) for key in each[0]}


def _wait(condition: object, timeout: float = 100.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def _never(*arguments: object) -> None:
    raise AssertionError("a shard that is down was asked")


def test_one_of_four_shards_goes_down_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.shard_calls.RETURN", 0.2)
    notes: list[str] = []
    with ExitStack() as stack:
        servers = [stack.enter_context(RedisServer(appendonly=True)) for _ in range(4)]
        store = ShardedStore([_open(server, notes) for server in servers], parallel=True, note=notes.append)
        stack.callback(store.close)
        fresh = iter(range(1000, 100_000))
        writer = Writer(store, range(8), flush_steps=4, max_seconds=1e9)
        writer.renew = lambda slot: next(fresh)
        # A stream's content follows from its id and step, so that sequences can be checked whoever wrote them.
        position: defaultdict[int, int] = defaultdict(int)

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
        with monkeypatch.context() as patched:
            patched.setattr(store.shards[gone], "read", _never)
            with pytest.raises(ShardDownError, match=f"Stream 0 cannot be read: its shard shard-{gone} is down"):
                store.read(0, 0, 4)  # without asking again, which would wait

        with pytest.raises(GapError):  # nobody gives new streams
            Writer(store, [0], flush_steps=1).add(_vector((0,), 0))
        write(4)
        assert all(store.shards.index(store.shard(s)) != gone for s in writer.streams)

        servers[gone].restart()
        _wait(lambda: not store.down)
        assert any(f"shard-{gone} is back after" in line for line in notes)
        sampled = np.concatenate([store.sample(64, 4, rng(seed))[1] for seed in range(5)])
        assert any(store.shards.index(store.shard(int(s))) == gone for s in sampled[:, 0, 0])
        assert store.stats()["items"] >= before


def test_the_read_that_finds_a_shard_down_is_the_only_one_that_waits() -> None:
    notes: list[str] = []
    with RedisServer() as one, RedisServer() as two:
        store = ShardedStore([_open(one, notes), _open(two, notes)], parallel=True, note=notes.append)
        stream = next(s for s in range(100) if store.shard(s) is store.shards[1])
        store.append(stream, 0, rows(stream, 0, 9))
        two.kill()
        with pytest.raises(ShardDownError):
            store.read(stream, 0, 9)
        assert store.down == ["shard-1"] and any("shard-1 is down" in line for line in notes)
        store.close()


def test_all_shards_down_is_an_error_that_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.shard_calls.PATIENCE", 0.5)
    with RedisServer() as one, RedisServer() as two:
        store = ShardedStore([_open(one, []), _open(two, [])], names=["a", "b"], parallel=True)
        store.append(3, 0, rows(3, 0, 9))
        keys = store.sample(4, 4, rng())[1]
        one.kill()
        two.kill()
        calls: list[Callable[[], object]] = [
            store.streams, store.stats, lambda: len(store), lambda: store.begin([5], 1),
            lambda: store.sample(4, 4, rng(), timeout=3), lambda: store.append(3, 9, rows(3, 9, 1)),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(ShardDownError, match="down for .*: a, b"):
                call()
        assert store.available() == (0, 0) and store.each_stats() == {}
        assert store.write_back(keys, latents(4, 4, 3)) == 0
        store.close()


def test_what_all_shards_hold_is_waited_for_while_none_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.shard_calls.RETURN", 0.2)
    with RedisServer(appendonly=True, appendfsync="always") as one, RedisServer() as two:
        store = ShardedStore([_open(one, []), _open(two, [])], parallel=True)
        stream = next(s for s in range(100) if store.shard(s) is store.shards[0])
        store.append(stream, 0, rows(stream, 0, 9))
        one.kill()
        two.kill()
        with meanwhile(lambda: (store.streams(), store.stats()["steps"], len(store))) as told:
            _wait(lambda: len(store.down) == 2)
            one.restart()
        assert told == [({stream: range(9)}, 9, 6)]
        store.close()


def test_a_shard_that_is_down_at_the_start_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.shard_calls.RETURN", 0.2)
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


def test_a_store_that_opens_after_it_was_closed_keeps_no_connection() -> None:
    with RedisServer() as server:

        def open_late() -> RedisStore:
            store = _open(server, [])
            awaited.close()
            return store

        awaited = AwaitedStore(open_late, SCHEMA, 4, durable=True)
        with pytest.raises(ShardDownError):
            len(awaited)


class Waits:
    """How many calls of a store are under way, by what the process that makes them is told."""

    def __init__(self) -> None:
        self.begun = self.open = 0
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self.begun, self.open = self.begun + 1, self.open + 1
        try:
            yield
        finally:
            with self._lock:
                self.open -= 1


@pytest.mark.parametrize("servers", [1, 2])
def test_whoever_waits_for_servers_that_are_away_says_so_and_goes_on_when_they_are_back(
    servers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replay.shard_calls.RETURN", 0.1)
    waits, errors = Waits(), list[BaseException]()
    with ExitStack() as stack:
        running = [stack.enter_context(RedisServer(appendonly=True)) for _ in range(servers)]
        patience = 60.0 if servers == 1 else 0.2
        shards = [
            RedisStore(server.url_unix, SCHEMA, prefix="t", length=4, capacity=500, chunk_length=8, patience=patience)
            for server in running
        ]
        store = ShardedStore(shards, parallel=True, waiting=waits)
        stack.callback(store.close)
        for stream in range(4):
            store.append(stream, 0, rows(stream, 0, 8))
        keys = store.sample(4, 4, rng())[1]
        calls: dict[str, Callable[[], object]] = {
            "append": lambda: store.append(0, 8, rows(0, 8, 1)),
            "sample": lambda: store.sample(4, 4, rng(1), timeout=0.5),
        }
        if servers == 1:  # several leave out who is away
            calls |= {
                "write_back": lambda: store.write_back(keys, latents(4, 4, 3)),
                "available": store.available,
                "read": lambda: store.read(1, 0, 4),
                "stats": store.stats,
            }

        def work(call: Callable[[], object]) -> None:
            try:
                call()
            except BaseException as error:
                errors.append(error)

        for server in running:
            server.kill()
        if servers > 1:
            store.available()  # finds out
            assert len(store.down) == servers
        before = waits.begun
        threads = [threading.Thread(target=work, args=(call,), daemon=True) for call in calls.values()]
        for thread in threads:
            thread.start()
        _wait(lambda: waits.begun >= before + len(calls) and waits.open >= len(calls))
        time.sleep(1.0)  # longer than a sampler waits for the first sequence
        assert waits.open >= len(calls) and not errors, errors
        for server in running:
            server.restart()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads) and not errors, errors
        assert waits.open == 0


def test_a_shard_is_taken_back_whatever_was_wrong_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.shard_calls.RETURN", 0.1)
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        if "cannot be taken back" in line:
            raise OSError("the disk of the log is full")

    def said(reason: str) -> bool:
        return any("shard-1 cannot be taken back yet: " in line and reason in f"{line}\n" for line in notes)

    with RedisServer() as one, RedisServer(tcp=True) as two:
        store = ShardedStore([_open(one, []), _open(two, [])], parallel=True, note=note)
        home, away = (next(s for s in range(100) if store.shard(s) is shard) for shard in store.shards)
        store.append(away, 0, rows(away, 0, 9))
        two.kill()
        store.append(home, 0, rows(home, 0, 9))
        assert len(store) == 6 and store.down == ["shard-1"]
        two.settings |= {"requirepass": "sesame", "maxmemory-policy": "allkeys-lru"}
        two.start()
        with redis.Redis(unix_socket_path=str(two.socket), password="sesame") as admin:
            for trouble in ("RPUSH t:counts x", "ACL SETUSER default -setrange", "REPLICAOF 127.0.0.1 1"):
                admin.execute_command(*trouble.split())
            _wait(lambda: said("requires a password"))
            for remedy, next_reason in (
                (("CONFIG", "SET", "requirepass", ""), "noeviction is allowed: redis-cli CONFIG SET maxmemory-policy"),
                (("CONFIG", "SET", "maxmemory-policy", "noeviction"), "is a replica"),
                (("REPLICAOF", "NO", "ONE"), "another program's values are at t:counts"),
                (
                    ("DEL", "t:counts"),
                    "used: user default may not run SETRANGE; allow it: redis-cli ACL SETUSER default +setrange.\n",
                ),
                (("ACL", "SETUSER", "default", "+setrange"), "refuses writes: OOM"),
            ):
                if "OOM" in next_reason:
                    admin.execute_command("CONFIG", "SET", "maxmemory", 1)
                admin.execute_command(*remedy)
                _wait(lambda reason=next_reason: said(reason))
            assert store.down == ["shard-1"]
            admin.execute_command("CONFIG", "SET", "maxmemory", 0)
        _wait(lambda: not store.down)
        _wait(lambda: "is back after" in notes[-1])
        assert len(notes) == len(set(notes)) == 8, "\n".join(notes)
        assert store.append(away, 0, rows(away, 0, 9)) == 9
        store.close()


@pytest.mark.parametrize("known", [False, True])
def test_a_shard_that_will_not_do_when_a_process_starts_is_awaited(
    known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replay.shard_calls.RETURN", 0.1)
    notes: list[str] = []
    with RedisServer() as one, RedisServer(maxmemory_policy="allkeys-lru") as two:

        def open_two() -> RedisStore:
            return RedisStore(
                two.url_unix, SCHEMA, prefix="t", length=4, capacity=500, chunk_length=8, patience=0.3, known=known
            )

        awaited = AwaitedStore(open_two, SCHEMA, 4, durable=True)
        store = ShardedStore([_open(one, notes), awaited], parallel=True, note=notes.append)
        home, away = (next(s for s in range(100) if store.shard(s) is shard) for shard in store.shards)
        store.append(home, 0, rows(home, 0, 9))
        check_sequences(*store.sample(8, 4, rng()))
        assert len(notes) == 1 and "shard-1 is down, 1 of 2 go on" in notes[0] and "allkeys-lru" in notes[0], notes
        with redis.Redis(unix_socket_path=str(two.socket)) as admin:
            admin.config_set("maxmemory-policy", "noeviction")
        _wait(lambda: not store.down)
        assert store.append(away, 0, rows(away, 0, 9)) == 9
        store.close()
