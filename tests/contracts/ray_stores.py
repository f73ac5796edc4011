"""Stores behind a real Ray actor: one process, started when the first is made, serves them all."""

import functools
from collections import OrderedDict
from contextlib import chdir
from pathlib import Path
from typing import Any

import ray

from deploy.distributed.ray_cluster import start_local
from deploy.distributed.remote import ask, start
from deploy.distributed.shard_client import ShardClient
from deploy.distributed.shard_server import StoreServer
from replay.store import Store
from tests.session import shared

ROOT = Path(__file__).parents[2]
KEPT = 6  # stores alive at a time; no test uses more


class Stores:
    """In the actor: stores by number, the newest few."""

    def __init__(self) -> None:
        self.servers: OrderedDict[int, StoreServer] = OrderedDict()

    def make(self, number: int, settings: dict[str, Any]) -> None:
        from tests.contracts.stores import memory

        self.servers[number] = StoreServer(memory(**settings))
        while len(self.servers) > KEPT:
            self.servers.popitem(last=False)

    def on(self, number: int, method: str, *arguments: Any) -> Any:
        return getattr(self.servers[number], method)(*arguments)


class Handle:
    """Of one store, as `ShardClient` uses an actor's handle: `handle.call.remote(method, ...)`."""

    def __init__(self, actor: Any, number: int):
        self.actor, self.number, self.call = actor, number, self

    def remote(self, method: str, *arguments: Any) -> Any:
        return self.actor.call.remote("on", self.number, method, *arguments)


@functools.cache
def started() -> None:
    """Ray, once for all tests of this process. Its workers import `tests` from the folder in which it is started."""
    with chdir(ROOT):
        start_local("contracts", 256 << 20)
    shared.callback(ray.shutdown)


@functools.cache
def actor() -> Any:
    started()
    return start("tests.contracts.ray_stores.Stores", cpus=0, threads=8)


numbers = iter(range(1 << 30))


def ray_shard(**settings: Any) -> Store:
    from tests.contracts.stores import SCHEMA, memory

    memory(**settings)  # a wrong setting is refused here, without Ray's wrapping
    number = next(numbers)
    ask(actor(), "make", number, settings)
    return ShardClient(f"shard-{number}", Handle(actor(), number), SCHEMA, settings.get("length", 4))  # type: ignore[arg-type]
