"""A writer and a learner as processes of their own, for tests that break something under them.

Each row tells what it is: every byte follows from stream and step. Latents of a row are of one value.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import numpy as np

from replay.keys import sequences
from replay.redis.redis_store import RedisStore
from replay.step import Field, Rows, Schema
from replay.store import GapError

SCHEMA = Schema(
    fields={
        "step": Field(dtype=np.dtype(np.int64)),
        "stream": Field(dtype=np.dtype(np.int64)),
        "pixels": Field(dtype=np.dtype(np.uint8), shape=(30, 33)),
    },
    latents={
        "deter": Field(dtype=np.dtype(np.float16), shape=(512,)),
        "stoch": Field(dtype=np.dtype(np.int8), shape=(32,)),
    },
)
LENGTH = 16
STREAMS = 4
_NEXT_LIFE = 1000  # added to a stream's id when it is lost


class Event(NamedTuple):
    """What a worker says: `kind` is ready, wrote {stream: next step}, sampled (number, stale), note (a line)."""

    kind: str
    value: Any


def open_store(url: str, **settings: Any) -> RedisStore:
    settings = {"prefix": "run", "length": LENGTH, "capacity": 4000, "streams": STREAMS, "patience": 20.0, **settings}
    return RedisStore(url, SCHEMA, **settings)


def rows(stream: int, first: int, n: int) -> Rows:
    step = np.arange(first, first + n)
    mark = (stream * 31 + step) % 251
    return {
        "step": step,
        "stream": np.full(n, stream),
        "pixels": np.broadcast_to(mark[:, None, None], (n, 30, 33)).astype(np.uint8),
    } | latents(mark % 100)


def latents(value: np.ndarray) -> Rows:
    """Latents `[..., ]` of these values."""
    return {
        "deter": np.broadcast_to(value[..., None], (*value.shape, 512)).astype(np.float16),
        "stoch": np.broadcast_to(value[..., None], (*value.shape, 32)).astype(np.int8),
    }


def check_rows(batch: Rows, keys: np.ndarray) -> None:
    """Every sequence is whole, and as it was written."""
    sequences(keys)
    mark = (keys[..., 0] * 31 + keys[..., 1]) % 251
    assert (batch["stream"] == keys[..., 0]).all() and (batch["step"] == keys[..., 1]).all(), "other steps"
    assert (batch["pixels"] == mark[..., None, None]).all(), "other content"


def check_latents(batch: Rows) -> None:
    """No row's latents are of two writings."""
    value = batch["deter"][..., :1]
    assert (batch["deter"] == value).all() and (batch["stoch"] == value).all(), "torn latents"


def check_everything(store: RedisStore) -> int:
    """All steps that are stored; returns how many."""
    total = 0
    for stream, steps in store.streams().items():
        if steps:
            read = store.read(stream, steps.start, len(steps))
            keys = np.stack([np.full(len(steps), stream), np.arange(steps.start, steps.stop)], -1)
            check_rows({key: value[None] for key, value in read.items()}, keys[None])
            check_latents(read)
        total += len(steps)
    return total


def write(pipe: Connection, url: str, block: int = 8, pause: float = 0.0, base: int = 0) -> None:
    """Blocks of streams `base` and so on for ever; a stream with a gap is begun anew under another id."""
    store = open_store(url, note=lambda line: tell(pipe, "note", line))
    position = dict.fromkeys(range(base, base + STREAMS), 0)
    tell(pipe, "ready", None)
    while True:
        try:
            store.append_checked([(stream, first, rows(stream, first, block)) for stream, first in position.items()])
        except GapError as gap:
            del position[gap.stream]
            position[gap.stream + _NEXT_LIFE] = 0
            continue
        position = {stream: first + block for stream, first in position.items()}
        tell(pipe, "wrote", dict(position))
        time.sleep(pause)


def learn(pipe: Connection, url: str, pause: float = 0.0) -> None:
    """Batches for ever, each checked and its latents replaced."""
    store = open_store(url, note=lambda line: tell(pipe, "note", line))
    random = np.random.default_rng(os.getpid())
    tell(pipe, "ready", None)
    for number in range(1 << 30):
        batch, keys = store.sample(8, LENGTH, random, timeout=30.0)
        check_rows(batch, keys)
        check_latents(batch)
        store.write_back(keys, latents(np.full(keys.shape[:2], number % 100)))
        tell(pipe, "sampled", (number, store.stats()["stale"]))
        time.sleep(pause)


def tell(pipe: Connection, kind: str, value: Any) -> None:
    """BrokenPipeError, and the worker's end: the test is gone."""
    pipe.send(Event(kind, value))


def _work(work: Any, pipe: Connection, url: str, settings: dict[str, Any]) -> None:
    try:
        work(pipe, url, **settings)
    except BaseException as error:
        tell(pipe, "failed", f"{type(error).__name__}: {error}")
        raise


class Worker:
    """A process that runs `write` or `learn`, and everything it has said."""

    def __init__(self, work: Any, url: str, **settings: Any) -> None:
        context = get_context("spawn")
        self.name = work.__name__
        self._pipe, theirs = context.Pipe(False)
        self.process = context.Process(target=_work, args=(work, theirs, url, settings), daemon=True)
        self.process.start()
        theirs.close()
        self.said: list[Event] = []

    def listen(self) -> None:
        """Take in what was said; AssertionError: it failed."""
        while not self._pipe.closed and self._pipe.poll():
            try:
                self.said.append(self._pipe.recv())
            except EOFError:
                return
            assert self.said[-1].kind != "failed", f"{self.name}: {self.said[-1].value}"

    def wait(self, kind: str, times: int = 1, timeout: float = 200.0) -> None:
        """Until it has said so many more of a kind."""
        self.listen()
        self.wait_until(kind, self.count(kind) + times, timeout)

    def wait_until(self, kind: str, number: int, timeout: float = 200.0) -> None:
        """Until it has said so many of a kind."""
        deadline = time.monotonic() + timeout
        while self.count(kind) < number:
            assert wait([self._pipe], deadline - time.monotonic()), f"{self.name} did nothing for {timeout:g} s"
            self.listen()

    def count(self, kind: str) -> int:
        return sum(event.kind == kind for event in self.said)

    def notes(self) -> list[str]:
        self.listen()
        return [event.value for event in self.said if event.kind == "note"]

    def pause(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @property
    def pid(self) -> int:
        assert self.process.pid, "it has been started"
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.join(20)
        self.listen()
        self._pipe.close()


@contextmanager
def crew(*workers: Worker) -> Iterator[None]:
    """The workers are at work inside, and gone after it."""
    try:
        for worker in workers:
            worker.wait_until("ready", 1)
        yield
        for worker in workers:
            worker.listen()
    finally:
        for worker in workers:
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join(20)
