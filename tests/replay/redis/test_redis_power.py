"""A server that loses power twice: a transaction that was torn the first time must not come back in parts the second.

Redis drops a transaction that its append-only file does not have whole, but leaves its first commands in the file; with
the next transaction in it they are carried out when the file is read again.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from replay.redis.redis_connection import Connection
from replay.redis.redis_mirror import Mirror
from replay.redis.redis_store import RedisStore
from tests.contracts.stores import SCHEMA, check_sequences, fill, rows
from tests.replay.redis.redis_servers import RedisServer, connected

LENGTH, CHUNK, SLOTS = 4, 7, 24
BEGUN = 50
MULTI, EXEC = b"*1\r\n$5\r\nMULTI\r\n", b"*1\r\n$4\r\nEXEC\r\n"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer(appendonly=True, appendfsync="always", auto_aof_rewrite_percentage=0) as server:
        yield server


def opened(server: RedisServer) -> RedisStore:
    gb = SLOTS * 1.5 * CHUNK * SCHEMA.nbytes / 1e9
    return RedisStore(
        server.url_unix, SCHEMA, prefix="run", length=LENGTH, capacity_gb=gb, chunk_length=CHUNK, streams=4,
        online=False, patience=20.0,
    )  # fmt: skip


def commands(content: bytes) -> list[int]:
    """Where the commands of the last transaction begin, MULTI aside, and where it ends."""
    at = content.rindex(MULTI) + len(MULTI)
    starts = []
    while at < len(content):
        starts.append(at)
        n = int(content[at + 1 : content.index(b"\r\n", at)])
        at = content.index(b"\r\n", at) + 2
        for _ in range(n):
            size = int(content[at + 1 : content.index(b"\r\n", at)])
            at = content.index(b"\r\n", at) + 2 + size + 2
    assert content.endswith(EXEC)
    return [*starts, len(content)]


def assert_fits_together(store: RedisStore, connection: Connection) -> None:
    """Counts, streams, log and chunks are of one state, and every sequence is whole."""
    mirror = Mirror(store._replay, online=False, selection=store._selection, note=lambda line: None)
    index = mirror.sync()
    counts = mirror.counts
    assert counts is not None
    stored = {(stream, chunk) for stream, known in index.streams.items() for chunk in known.slots}
    keys = connection.call("KEYS", "run:c:*")
    assert isinstance(keys, list)
    there = {(int(key.split(b":")[2], 16), int(key.split(b":")[3])) for key in keys if isinstance(key, bytes)}
    assert stored <= there, stored - there
    assert there - stored <= {(BEGUN, 0)}, "only a stream that nobody knows leaves something behind"
    assert counts.chunks == len(stored) <= counts.slots
    assert counts.steps == sum(len(steps) for steps in store.streams().values())
    assert len(index) == counts.items == len(store.items())
    check_sequences(*store.sample(100, LENGTH, np.random.default_rng(0), online=False))
    idle = connection.call("ZRANGE", "run:idle", 0, -1)
    assert isinstance(idle, list)
    without = {s.id for s in index.streams.values() if s.oldest > s.next - LENGTH and s.begin < s.next}
    assert {int.from_bytes(stream, "big") for stream in idle if isinstance(stream, bytes)} == without


def _goes_on(store: RedisStore) -> object:
    return store.append(0, store.streams()[0].stop, rows(0, store.streams()[0].stop, 9))


def _begins(store: RedisStore) -> object:
    return store.append(BEGUN, 0, rows(BEGUN, 0, 2))


def _evicts_many(store: RedisStore) -> object:
    return store.append(1, store.streams()[1].stop, rows(1, store.streams()[1].stop, 60))


def _gives_up(store: RedisStore) -> object:
    return store._replay.writes(b"evict", 5, 4)


@pytest.mark.parametrize("torn", [_goes_on, _begins, _evicts_many, _gives_up])
def test_a_transaction_torn_at_the_first_loss_does_not_come_back_at_the_second(
    server: RedisServer, torn: Callable[[RedisStore], object], tmp_path: Path
) -> None:
    store = opened(server)
    store.append(9, 0, rows(9, 0, 3))  # ends without an item
    fill(store, 80, streams=4, block=5)
    before = store.streams()
    torn(store)
    store.close()
    server.kill()
    [file] = server.folder.rglob("appendonly*aof")
    shutil.copy(file, tmp_path / "whole")
    starts = commands((tmp_path / "whole").read_bytes())
    assert len(starts) > 4
    within = list(zip(starts[:-1], starts[1:], strict=True))
    for start, stop in within[:: max(1, len(within) // 8)] + within[-2:]:
        shutil.copy(tmp_path / "whole", file)
        os.truncate(file, (start + stop) // 2)  # within a command: all before it stay in the file
        server.restart()
        store = opened(server)
        assert store.streams() == before
        store.append(2, 80, rows(2, 80, 1))  # the next transaction, of another stream
        first = {stream: steps.stop for stream, steps in store.streams().items()}
        store.close()
        server.restart()
        with connected(server.url_unix) as connection:
            store = opened(server)
            assert_fits_together(store, connection)
            assert first.items() >= {s: steps.stop for s, steps in store.streams().items() if steps.stop}.items()
            for stream in range(4):  # and whoever wrote goes on
                assert store.append(stream, first[stream], rows(stream, first[stream], 40)) == 40
            assert_fits_together(store, connection)
            store.close()
        server.kill()
