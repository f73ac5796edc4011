"""Stores on a real redis-server: one, started when the first is made, has them all, by prefix."""

import functools
from collections import OrderedDict
from typing import Any

from replay.redis.redis_store import RedisStore
from replay.store import Store
from tests.replay.redis.redis_servers import RedisServer
from tests.session import shared

KEPT = 6  # stores open at a time; no test uses more


@functools.cache
def server() -> RedisServer:
    started = shared.enter_context(RedisServer())
    shared.callback(close)
    return started


stores: OrderedDict[int, RedisStore] = OrderedDict()
numbers = iter(range(1 << 30))


def close() -> None:
    for store in stores.values():
        store.close()


def redis_store(**settings: Any) -> Store:
    from tests.contracts.stores import SCHEMA

    settings = {"length": 4, "capacity": 1000, "chunk_length": 7, "streams": 8, "patience": 5.0, **settings}
    number = next(numbers)
    stores[number] = store = RedisStore(server().url_unix, SCHEMA, prefix=f"contract-{number}", **settings)
    while len(stores) > KEPT:
        stores.popitem(last=False)[1].close()
    return store
