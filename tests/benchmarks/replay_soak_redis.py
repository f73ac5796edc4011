"""Two Redis servers with append-only files as one replay: two writers, a sampler, and what is done to them."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from replay.redis.redis_connection import Connection
from replay.redis.redis_server import parse_info
from replay.redis_url import parse
from tests.benchmarks.replay_soak_ledger import Audit, Ledger, Loss
from tests.benchmarks.replay_soak_rows import LENGTH
from tests.benchmarks.replay_soak_site import Fault, Kind, Site
from tests.benchmarks.replay_soak_workers import Worker, audit, open_redis, sample_from_redis, write_to_redis
from tests.replay.redis.redis_servers import RedisServer

SERVERS, WRITERS = 2, 2
CAPACITY = 8000  # sequences of each server
WINDOW = 2.0
"""Seconds: the file is synced every second, and Redis waits one more for a slow disk before it writes on."""
ALONE = 60.0
"""Seconds until the workers go on without a server: one that hangs is only silent at first."""


class RedisSite(Site):
    name = "redis"

    def __init__(self, seed: int, only: Sequence[str]) -> None:
        within = f"appends of the last {WINDOW:g} s"
        self.kinds = {
            "writer killed": Kind(2, "nothing", self.kill_writer),
            "sampler killed in a write-back": Kind(2, "nothing", self.kill_sampler),
            "server killed": Kind(3, within, self.kill_server),
            "server loses power": Kind(3, within, self.cut_power),
            "server away for long": Kind(1, within, self.kill_for_long),
            "server stopped": Kind(2, "nothing", self.stop_server),
            "server hangs for long": Kind(1, "nothing", self.stop_for_long),
            "connections cut": Kind(2, "nothing", self.cut_connections),
            "server full": Kind(2, "the oldest steps", self.fill_server),
        }
        self.servers = [RedisServer(appendonly=True, tcp=True) for _ in range(SERVERS)]
        try:
            for server in self.servers:
                server.start()
            # One is reached by its socket, the other by TCP.
            self.urls = [s.url_tcp if i % 2 else s.url_unix for i, s in enumerate(self.servers)]
            self.eyes = [open_redis(url, CAPACITY, online=False, patience=20.0) for url in self.urls]
            self.hands = [Connection(parse(url)) for url in self.urls]
        except BaseException:
            for server in self.servers:
                server.stop()
            raise
        super().__init__(seed, only, [Ledger(LENGTH, eye.chunk_length) for eye in self.eyes], [CAPACITY] * SERVERS)
        self._life = 0
        self._crew: dict[str, Worker] = {}

    def begin(self) -> None:
        for actor in range(WRITERS):
            self._write(actor)
        self._sample()

    def end(self) -> None:
        for worker in self._crew.values():
            worker.kill()
        for eye, hand in zip(self.eyes, self.hands, strict=True):
            eye.close()
            hand.close()
        for server in self.servers:
            server.stop()

    def workers(self) -> list[str]:
        return list(self._crew)

    def look(self, store: int) -> Audit:
        return audit(self.eyes[store], self.eyes[store].chunk_length)

    def kill_writer(self) -> Fault:
        actor = int(self.rng.integers(WRITERS))
        self._crew[f"writer {actor}"].kill()
        time.sleep(self.rng.uniform(0, 0.5))
        return Fault(self._write(actor))

    def kill_sampler(self) -> Fault:
        sampler = self._crew["sampler"]
        self.strike(sampler, "refreshed")
        note = sampler.kill("sampler")
        time.sleep(self.rng.uniform(0, 0.5))
        return Fault(self._sample(), note=note)

    def kill_server(self) -> Fault:
        """One or both, some of them once more while they read their files."""
        some = list(range(SERVERS)) if self.rng.random() < 0.25 else [self._any()]
        killed = time.monotonic()
        for i in some:
            self.servers[i].kill()
        time.sleep(self.rng.uniform(0, 3))
        for i in some:
            if self.rng.random() < 0.25:
                self.servers[i].start(wait=False)
                time.sleep(self.rng.uniform(0, 0.5))
            self.servers[i].restart()
        return Fault(time.monotonic(), _lately(some, killed), killed=killed, note="both" if len(some) > 1 else "")

    def cut_power(self) -> Fault:
        """Of what was written since the file was last synced, a part is there."""
        i = self._any()
        file = self._file(i)
        synced = file.stat().st_size
        time.sleep(1.0)
        killed = time.monotonic()
        self.servers[i].kill()
        file = self._file(i)
        written = file.stat().st_size
        if cut := written > synced:  # else the file was just written anew
            os.truncate(file, int(self.rng.integers(synced, written)))
        time.sleep(self.rng.uniform(0, 1))
        self.servers[i].restart()
        return Fault(time.monotonic(), _lately([i], killed), killed=killed, note="" if cut else "nothing to cut")

    def kill_for_long(self) -> Fault:
        i = self._any()
        killed = time.monotonic()
        self.servers[i].kill()
        alone = self._alone(i, killed)
        self.servers[i].restart()
        return Fault(time.monotonic(), _lately([i], killed), killed=killed, alone=alone)

    def stop_server(self) -> Fault:
        i = self._any()
        self.servers[i].pause()
        time.sleep(self.rng.uniform(0.5, 5))
        self.servers[i].resume()
        return Fault(time.monotonic())

    def stop_for_long(self) -> Fault:
        i = self._any()
        self.servers[i].pause()
        try:
            alone = self._alone(i, time.monotonic())
        finally:
            self.servers[i].resume()
        return Fault(time.monotonic(), alone=alone)

    def cut_connections(self) -> Fault:
        i = self._any()
        for _ in range(int(self.rng.integers(1, 20))):
            self.hands[i].call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(self.rng.uniform(0, 0.2))
        return Fault(time.monotonic())

    def fill_server(self) -> Fault:
        """Somebody else takes memory, and gives it back later."""
        i = self._any()
        reply = self.hands[i].call("INFO", "memory")
        assert isinstance(reply, bytes)
        used = int(parse_info(reply)["used_memory"])
        self.hands[i].call("CONFIG", "SET", "maxmemory", int(used * self.rng.uniform(0.1, 0.98)))
        time.sleep(self.rng.uniform(1, 7))
        self.hands[i].call("CONFIG", "SET", "maxmemory", 0)
        return Fault(time.monotonic(), shrinks=True)

    def _any(self) -> int:
        return int(self.rng.integers(SERVERS))

    def _file(self, i: int) -> Path:
        """What the server appends to; Redis 7 has a folder of such files."""
        return max(self.servers[i].folder.rglob("appendonly*aof"), key=lambda path: path.stat().st_mtime)

    def _alone(self, i: int, since: float) -> float:
        """Seconds until the workers went on without server i."""
        return self.goes_on(since, ALONE, [f"shard-{i}"])

    def _write(self, actor: int) -> float:
        name = f"writer {actor}"
        return self._start(name, write_to_redis, actor=actor)

    def _sample(self) -> float:
        return self._start("sampler", sample_from_redis)

    def _start(self, name: str, work: Callable[..., None], **settings: object) -> float:
        self._life += 1
        seed = int(self.rng.integers(1 << 31))
        settings |= {"urls": self.urls, "capacity": CAPACITY, "life": self._life, "seed": seed}
        begun = time.monotonic()
        self._crew[name] = Worker(name, work, self.take, **settings)
        return begun


def _lately(stores: Sequence[int], killed: float) -> Callable[[int, Loss], bool]:
    """The end of a stream, acknowledged within the window before the kill."""
    return lambda store, loss: store in stores and loss.tail and loss.oldest >= killed - WINDOW
