"""What the tests of refusing Redis servers have in common."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from replay.redis.redis_connection import Connection
from replay.redis.redis_reader import open_replay
from replay.redis.redis_store import RedisStore
from tests.contracts.stores import SCHEMA, check_sequences, rng, rows


def open_store(url: str, patience: float = 0.3, **settings: Any) -> RedisStore:
    return RedisStore(
        url, SCHEMA, prefix="run[1]", length=4, capacity=500, chunk_length=8, streams=2, patience=patience, **settings
    )


@contextmanager
def meanwhile(work: Callable[[], Any]) -> Iterator[list[Any]]:
    """Work that goes on beside the block and ends after it; the list has its result then."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    yield results
    thread.join(60)
    assert results, "the work did not end"


def works(url: str) -> None:
    """A replay can be filled, sampled and looked into."""
    store = open_store(url)
    stop = store.streams().get(0, range(0)).stop
    assert store.append(0, stop, rows(0, stop, 20)) == 20
    check_sequences(*store.sample(4, 4, rng()))
    store.clear()
    store.close()
    open_replay(url, "run[1]").close()


def refused(url: str, *said: str) -> str:
    """Opening fails at once with one message that says all of this; returned is its last redis-cli line."""
    with pytest.raises(ValueError, match=re.escape(said[0])) as error:
        open_store(url)
    text = str(error.value)
    assert all(part in text for part in said), text
    assert "user_script" not in text and "\n" not in text
    return text.split("redis-cli ")[-1].rstrip(".").removesuffix(", and the same in redis").split(", and the")[0]


# ---- what Redis says ----


def setting_of(admin: Connection, name: str) -> bytes:
    reply = admin.call("CONFIG", "GET", name)
    assert isinstance(reply, list)
    return reply[1]


def until(condition: Callable[[], bool], timeout: float = 200.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout:g} s"
        time.sleep(0.02)
