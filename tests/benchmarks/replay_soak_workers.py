"""The processes of the soak that work on a replay, and the handles by which they are followed and killed.

Each tells what it does by events: `took` (store, blocks) that a store acknowledged; `worked` (shards down, Tally) after
a call of the writer, or a checked batch, that began at `began`; `refreshed` before latents are written; `refused` what
a store could not take for now; `note` what a store says; `failed`.
"""

import contextlib
import itertools
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from replay.keys import stream_id
from replay.redis.redis_store import RedisStore
from replay.sharding import ShardedStore
from replay.store import Block, Store
from replay.writer import Writer
from tests.benchmarks.replay_soak_ledger import Audit
from tests.benchmarks.replay_soak_rows import LENGTH, SCHEMA, Checker, Environments, Tally, latents

ENVIRONMENTS = 4  # of each writer
VECTORS = 75  # a second of each writer
BATCHES = 40  # a second
BATCH = 8
EPISODES = 400  # steps after which an environment takes a new stream, about
PATIENCE = 5.0  # seconds until a Redis server is left out
_SETTINGS: dict[str, Any] = {"prefix": "soak", "length": LENGTH, "streams": 16}
_LIVES = 4096  # streams of one environment in one life of its process


class Event(NamedTuple):
    """`who` of a process says what."""

    time: float
    who: str
    kind: str
    value: Any = None
    began: float = 0.0


class Pipe:
    """A worker's end: any thread may tell."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def tell(self, who: str, kind: str, value: Any = None, began: float = 0.0) -> None:
        """BrokenPipeError, and the end: the soak is gone."""
        with self._lock:
            self._pipe.send(Event(time.monotonic(), who, kind, value, began))

    def hear(self) -> str:
        return str(self._pipe.recv())


class Worker:
    """A process that runs `work(pipe, **settings)`; `take` is given its events, by one thread, in their order."""

    def __init__(self, name: str, work: Callable[..., None], take: Callable[[Event], None], **settings: Any) -> None:
        self.name, self._take = name, take
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(name, work, theirs, settings), name=name, daemon=True)
        self.process.start()
        theirs.close()
        self._last: dict[tuple[str, str], Event] = {}  # of each member and kind
        self._heard = threading.Condition()
        self._listener = threading.Thread(target=self._listen, name=f"listen-{name}", daemon=True)
        self._listener.start()

    def send(self, command: str) -> None:
        with contextlib.suppress(OSError):  # its end is heard by the listener
            self._pipe.send(command)

    def wait(self, *kinds: str, after: float, timeout: float) -> Event | None:
        """The first event of these kinds that is told after a moment; None: the process ended, or time is over."""
        deadline = time.monotonic() + timeout

        def found() -> Event | None:
            events = [event for (_, kind), event in self._last.items() if kind in kinds and event.time > after]
            return min(events, key=lambda event: event.time, default=None)

        with self._heard:
            while not (event := found()) and self._listener.is_alive():
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._heard.wait(min(left, 0.5))
            return event

    def kill(self, sampler: str = "") -> str:
        """SIGKILL, and wait until all events were taken; whether its sampler wrote back just then, in words."""
        self.process.kill()
        self.join()
        told = [event for (who, _), event in self._last.items() if who == sampler]
        last = max(told, key=lambda event: event.time, default=None)
        return "while it wrote back" if last and last.kind == "refreshed" else ""

    def join(self) -> None:
        """Wait for its end."""
        self.process.join(60)
        self._listener.join(60)
        assert not self.process.is_alive() and not self._listener.is_alive(), f"{self.name} does not end"
        self._pipe.close()

    def _listen(self) -> None:
        while True:
            try:
                event = self._pipe.recv()
            except (EOFError, OSError):  # the second: killed in the middle of an event
                return
            self._take(event)
            with self._heard:
                self._last[event.who, event.kind] = event
                self._heard.notify_all()


def _work(name: str, work: Callable[..., None], connection: Connection, settings: Mapping[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the soak ends it
    pipe = Pipe(connection)
    with failing(pipe, name):
        work(pipe, name, **settings)


@contextlib.contextmanager
def failing(pipe: Pipe, who: str) -> Any:
    """An error ends the process, after it was told."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            pipe.tell(who, "failed", traceback.format_exc())
        os._exit(1)


class _ToldStore(RedisStore):
    """Tells what it took, for itself: where another shard is down, the writer waits for both."""

    told: Callable[[list[tuple[int, int, int]]], None] = staticmethod(lambda blocks: None)

    def append_checked(self, blocks: Sequence[Block]) -> list[int]:
        new = super().append_checked(blocks)
        self.told(sizes(blocks))
        return new


def sizes(blocks: Sequence[Block]) -> list[tuple[int, int, int]]:
    return [(stream, first, len(rows["number"])) for stream, first, rows in blocks]


def open_redis(url: str, capacity: int, **settings: Any) -> RedisStore:
    return RedisStore(url, SCHEMA, **_SETTINGS, capacity=capacity, **settings)


def open_shards(pipe: Pipe, who: str, urls: Sequence[str], capacity: int) -> ShardedStore:
    """All servers as one store that tells."""

    def note(line: str) -> None:
        pipe.tell(who, "note", line)

    settings = _SETTINGS | {"capacity": capacity, "patience": PATIENCE, "note": note}
    shards = [_ToldStore(url, SCHEMA, **settings) for url in urls]
    for i, shard in enumerate(shards):
        shard.told = lambda blocks, i=i: pipe.tell(who, "took", (i, blocks))  # type: ignore[misc]
    return ShardedStore(shards, parallel=True, note=note)


def write_to_redis(pipe: Pipe, who: str, urls: Sequence[str], capacity: int, actor: int, life: int, seed: int) -> None:
    """Steps for ever; some environments go on with the stream of the process before."""
    store = open_shards(pipe, who, urls, capacity)
    write(pipe, who, store, actor, life, np.random.default_rng(seed), {}, lambda: store.down, threading.Event())


def write(
    pipe: Pipe,
    who: str,
    store: Store,
    actor: int,
    life: int,
    rng: np.random.Generator,
    ends: Mapping[int, int],
    down: Callable[[], list[str]],
    stop: threading.Event,
) -> None:
    """Steps of one actor until `stop`. `ends`: where the actor that was killed would go on with its streams."""
    environments = Environments(actor, ENVIRONMENTS, life)
    count = itertools.count(life * _LIVES)

    def renew(slot: int) -> int:
        return stream_id(actor, next(count), slot)

    writer = Writer(store, [renew(slot) for slot in range(ENVIRONMENTS)], flush_steps=16, max_seconds=0.5)
    writer.renew = renew
    for slot in range(ENVIRONMENTS):
        _resume(store, writer, environments, slot, ends, rng)
    pace = Pace(VECTORS)
    while not stop.is_set():
        began = time.monotonic()
        patiently(pipe, who, lambda: writer.add(environments.step()), writer.flush)
        if rng.random() < ENVIRONMENTS / EPISODES:
            slot = int(rng.integers(ENVIRONMENTS))
            patiently(pipe, who, writer.flush, writer.flush)
            writer.replace(slot, renew(slot))
        if not writer._counts[0]:  # all of it was acknowledged
            pipe.tell(who, "worked", (down(), Tally()), began)
        pace.wait()
    patiently(pipe, who, writer.flush, writer.flush)


def patiently(pipe: Pipe, who: str, call: Callable[[], None], again: Callable[[], None]) -> None:
    """`call`, and `again` as long as the store has no room."""
    while True:
        try:
            return call()
        except OSError as error:
            pipe.tell(who, "refused", f"{type(error).__name__}: {error}")
            call = again
            time.sleep(0.1)


def _resume(
    store: Store, writer: Writer, environments: Environments, slot: int, ends: Mapping[int, int],
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Perhaps go on with the newest stream of an environment: where the store ends, or where its writer was."""
    if rng.random() < 1 / 3:
        return
    origin = int(environments.origins[slot])
    mine = stream_id(0, (1 << 24) - 1, 0)
    streams = {s: steps for s, steps in store.streams().items() if s & ~mine == origin and s not in writer.streams}
    if not streams or not (steps := streams[max(streams)]):
        return
    stream, stop = max(streams), steps.stop
    try:
        number = int(store.read(stream, stop - 1, 1)["number"][0])
    except ValueError:  # evicted meanwhile
        return
    where = ends.get(stream, stop) if rng.random() < 0.5 else stop
    environments.numbers[slot] = number + 1 + where - stop
    writer.replace(slot, stream, where)


def sample_from_redis(pipe: Pipe, who: str, urls: Sequence[str], capacity: int, life: int, seed: int) -> None:
    """Batches for ever, each checked and refreshed."""
    store = open_shards(pipe, who, urls, capacity)
    reads = [shard._replay.reads.connection for shard in store.shards if isinstance(shard, RedisStore)]
    sample(
        pipe, who, store, life, np.random.default_rng(seed), lambda: store.down, threading.Event(),
        lambda: [connection.epoch for connection in reads],
    )  # fmt: skip


def sample(
    pipe: Pipe,
    who: str,
    store: Store,
    life: int,
    rng: np.random.Generator,
    down: Callable[[], list[str]],
    stop: threading.Event,
    servers: Callable[[], object] = lambda: None,
) -> None:
    """Batches until `stop`. TornError; TimeoutError: none for a minute."""
    checker, pace = Checker(), Pace(BATCHES)
    for number in itertools.count(life << 32 | 1):
        if stop.is_set():
            return
        began = time.monotonic()
        batch, keys = store.sample(BATCH, LENGTH, rng, timeout=60.0)
        tally = checker.batch(batch, keys, servers())
        made = latents(batch["origin"], batch["number"], np.full_like(batch["number"], number))
        pipe.tell(who, "refreshed")
        written = 0
        try:
            written = store.write_back(keys, made)
        except OSError as error:
            pipe.tell(who, "refused", f"{type(error).__name__}: {error}")
        checker.written(keys, number, written == keys.shape[0] * keys.shape[1])
        pipe.tell(who, "worked", (down(), tally._replace(written=written)), began)
        pace.wait()


def audit(store: Any, chunk_length: int) -> Audit:
    """Read and check everything that is stored. TornError."""
    began, checker = time.monotonic(), Checker()
    there: dict[int, list[tuple[int, int]]] = {}
    stale = 0
    for stream, steps in store.streams().items():
        for start in range(steps.start // chunk_length * chunk_length, steps.stop, chunk_length):
            first, stop = max(start, steps.start), min(start + chunk_length, steps.stop)
            if first == stop:
                continue
            try:
                rows = store.read(stream, first, stop - first)
            except ValueError:  # evicted meanwhile, or damaged
                continue
            keys = np.empty((1, stop - first, 2), np.int64)
            keys[..., 0], keys[..., 1] = stream, np.arange(first, stop)
            checker.rows({key: rows[key][None] for key in SCHEMA.fields}, keys)
            of_latents = {key: rows[key] for key in SCHEMA.latents}
            stale += int(checker.latents(of_latents, rows["origin"], rows["number"], keys[0]).sum())
            there.setdefault(stream, []).append((first, stop))
    stored = store.streams()
    for stream, pieces in there.items():  # what was evicted after it was read is no longer there, nor is what followed
        start = stored[stream].start if stream in stored else pieces[-1][1]
        there[stream] = [(max(first, start), stop) for first, stop in pieces if stop > start]
    return Audit(began, there, store.items(), store.stats(), stale)


class Pace:
    """So many a second, and no more to make up for time that was lost."""

    def __init__(self, rate: float) -> None:
        self._step, self._next = 1 / rate, time.monotonic()

    def wait(self) -> None:
        now = time.monotonic()
        self._next = max(now, self._next + self._step)
        time.sleep(self._next - now)
