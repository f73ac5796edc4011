"""Calls to the shards of a sharded store: in parallel, without those that are down until they are back."""

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import TypeVar

from replay.counted import counted
from replay.store import ShardDownError, Store

T = TypeVar("T")
RETURN = 2.0  # seconds between checks whether a shard that is down has come back
PATIENCE = 600.0  # seconds to wait while every shard is down
_CALLS = 2  # to each shard at a time: a learner that samples ahead has two batches in flight


class ShardCalls:
    """Which shards are up, and what they answer; thread-safe.

    A shard that raises ShardDownError is left out, and `note` is called with one line; when it answers again, it is
    called again.
    `parallel`: the shards are behind connections and are called at the same time. `waiting` is entered around every
    call that may wait for a shard.
    """

    def __init__(
        self, shards: Sequence[Store], names: Sequence[str], parallel: bool, note: Callable[[str], None],
        waiting: Callable[[], AbstractContextManager[None]],
    ):  # fmt: skip
        self.shards, self.names, self.waiting = shards, names, waiting
        self._note = note
        self._down: set[int] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.pool = ThreadPoolExecutor(_CALLS * len(shards), "shard") if parallel and len(shards) > 1 else None
        """The threads that call in parallel; None if calls are made one after the other."""

    @property
    def down(self) -> list[str]:
        """Names of the shards that do not answer."""
        return [self.names[i] for i in sorted(self._down)]

    def ask(self, work: Mapping[int, Callable[[Store], T]]) -> dict[int, T]:
        """The answer of each shard that is up, by its index; empty if none is. ShardDownError: the only shard is down,
        or the store was closed."""
        with self.waiting():
            try:
                return self._answers({i: job for i, job in work.items() if i not in self._down})
            except (RuntimeError, CancelledError) as error:
                if self._closed.is_set():  # by another thread, between two calls
                    raise ShardDownError("The replay store was closed.") from error
                raise

    def ask_up(self, work: Callable[[Store], T]) -> dict[int, T]:
        """`ask` all shards the same."""
        return self.ask(dict.fromkeys(range(len(self.shards)), work))

    def ask_any(self, work: Callable[[Store], T]) -> dict[int, T]:
        """As `ask_up`, but waits until at least one shard is up; ShardDownError: none came back in time."""
        while True:
            self.wait()
            if answers := self.ask_up(work):
                return answers

    def wait(self) -> float:
        """Wait until any shard is up; returns the seconds waited. ShardDownError after PATIENCE seconds."""
        begun = time.monotonic()
        with self.waiting():
            while len(self._down) == len(self.shards):
                waited = time.monotonic() - begun
                if self._closed.is_set() or waited >= PATIENCE:
                    down = ", ".join(self.down)
                    raise ShardDownError(f"All replay shards have been down for {waited:.0f} s: {down}.")
                self._closed.wait(0.1)
        return time.monotonic() - begun

    def close(self) -> None:
        """Calls that wait for an answer end with ShardDownError. The shards themselves stay open."""
        self._closed.set()
        if self.pool:
            self.pool.shutdown(wait=False, cancel_futures=True)

    def _answers(self, up: Mapping[int, Callable[[Store], T]]) -> dict[int, T]:
        answers: dict[int, T] = {}
        calls: dict[int, Callable[[], T]]
        if self.pool and len(up) > 1:
            calls = {i: self.pool.submit(job, self.shards[i]).result for i, job in up.items()}
        else:
            calls = {i: partial(job, self.shards[i]) for i, job in up.items()}
        failed: Exception | None = None
        for i, call in calls.items():
            try:
                answers[i] = call()
            except ShardDownError as error:
                self._lose(i, error)
            except Exception as error:  # raised only after all other calls have returned
                failed = failed or error
        if failed is not None:
            raise failed
        return answers

    def _lose(self, i: int, error: ShardDownError) -> None:
        with self._lock:
            if len(self.shards) == 1:
                raise error
            if i in self._down:
                return
            self._down.add(i)
            others = len(self.shards) - len(self._down)
        name = f"return-{self.names[i]}"
        threading.Thread(target=self._await_return, args=(i, error), name=name, daemon=True).start()
        self._say(f"Replay shard {self.names[i]} is down, {others} of {len(self.shards)} go on: {error}")

    def _await_return(self, i: int, lost: BaseException) -> None:
        """Check until the shard can be read and written again, whatever error it raises meanwhile."""
        since, said = time.monotonic(), {_reason(lost)}
        while not self._closed.wait(RETURN):
            try:
                items = self.shards[i].ready()
            except Exception as error:
                if _reason(error) not in said:
                    said.add(_reason(error))
                    self._say(f"Replay shard {self.names[i]} cannot be taken back yet: {error}")
                continue
            with self._lock:
                self._down.discard(i)
            gone = time.monotonic() - since
            self._say(f"Replay shard {self.names[i]} is back after {gone:.0f} s with {counted(items, 'sequence')}.")
            return

    def _say(self, line: str) -> None:
        with suppress(Exception):  # a log that cannot be written is no reason to abandon a shard
            self._note(line)


def _reason(error: BaseException) -> str:
    """The same text for the same cause: empty if nothing answers, else the error's message without numbers."""
    return "" if isinstance(error.__cause__, OSError) else re.sub(r"\d+", "", str(error))
