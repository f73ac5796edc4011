"""Many stores as one: new streams go to the shards in turn, those that are stored already are found where they lie."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from replay.counted import counted
from replay.files.new_directory import new_directory
from replay.keys import incarnation_of, sequences, slot_of
from replay.layout import Batch
from replay.step import Rows
from replay.store import Block, GapError, ShardDownError, Store

T = TypeVar("T")
RETURN = 2.0  # seconds between looks whether a shard that is down has come back
_CALLS = 2  # to each shard at a time: a learner that samples ahead has two batches on their way
PATIENCE = 600.0  # seconds that one waits while every shard is down


def shard_of(stream: int, names: Sequence[str]) -> int:
    """Index of the shard at which a stream begins: in turn by the slot, so that neighbouring slots of one incarnation
    spread evenly, and another one at the next incarnation, so that it leaves a shard that is down."""
    assert names, "shard_of() without shards"
    return (slot_of(stream) + incarnation_of(stream)) % len(names)


class ShardedStore(Store):
    """See `replay.store.Store`. Every item is drawn with equal probability, whatever the sizes of the shards; a
    selection by priority or recency goes by the items within a shard.

    `parallel`: the shards lie behind connections and are asked at the same time. One that is down (ShardDownError) is
    left out and `note`d in one line: sampling goes on with the others, its steps are not refreshed, and appending to
    its streams raises GapError, so that their writers go on with new streams, of other shards. When it answers again,
    it is taken back. Streams stay where they are meanwhile, and where an earlier run or version has put them. Where
    every shard is down, appending, sampling and whoever asks what is stored wait for one, for PATIENCE seconds, and
    raise the error. `waiting` is entered around every call that may wait for a shard.
    """

    def __init__(
        self,
        shards: Sequence[Store],
        names: Sequence[str] | None = None,
        *,
        parallel: bool = False,
        note: Callable[[str], None] = lambda line: None,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        if not shards:
            raise ValueError("A sharded store needs at least one shard, got none.")
        self.shards = list(shards)
        self.names = list(names or (f"shard-{i}" for i in range(len(shards))))
        if len(set(self.names)) != len(self.shards):
            raise ValueError(f"{len(self.shards)} shards need as many different names, got {self.names}.")
        self.schema, self.length = shards[0].schema, shards[0].length
        self.durable = shards[0].durable
        for name, shard in zip(self.names, self.shards, strict=True):
            if shard.schema != self.schema or shard.length != self.length:
                raise ValueError(f"Shard {name} has another schema or length than {self.names[0]}; make all alike.")
        self._home: dict[int, int] = {}  # of the streams that are known to be stored
        self._note, self._waiting = note, waiting
        self._down: set[int] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(_CALLS * len(shards), "shard") if parallel and len(shards) > 1 else None

    @property
    def down(self) -> list[str]:
        """Names of the shards that do not answer."""
        return [self.names[i] for i in sorted(self._down)]

    def shard(self, stream: int) -> Store:
        return self.shards[self._home_of(stream)]

    def spread(self, streams: Sequence[int]) -> dict[int, list[int]]:
        """The streams of each shard that has any, by its place among the shards."""
        each: dict[int, list[int]] = {}
        for stream in streams:
            each.setdefault(self._home_of(stream), []).append(stream)
        return each

    def begin(self, streams: Sequence[int], writer: int) -> None:
        with self._waiting():
            self._wait_for_shard()
        each = self.spread(streams)

        def work(some: list[int]) -> Callable[[Store], bool]:
            return lambda shard: shard.begin(some, writer) is None

        answers = self._ask({i: work(some) for i, some in each.items()})
        self._require(answers, {i: some[0] for i, some in each.items()})

    def append_many(self, blocks: Sequence[Block]) -> list[int]:
        with self._waiting():
            self._wait_for_shard()
        if any(first and stream not in self._home for stream, first, _ in blocks):
            self.streams()  # it goes on, and has not begun here: where does it lie?
        each: dict[int, list[int]] = {}
        for k, (stream, _, _) in enumerate(blocks):
            each.setdefault(self._home_of(stream), []).append(k)

        def work(some: list[int]) -> Callable[[Store], list[int]]:
            return lambda shard: shard.append_many([blocks[k] for k in some])

        answers = self._ask({i: work(some) for i, some in each.items()})
        self._require(answers, {i: blocks[some[0]][0] for i, some in each.items()})
        new = [0] * len(blocks)
        for i, some in each.items():
            for k, count in zip(some, answers[i], strict=True):
                new[k] = count
                self._home[blocks[k][0]] = i
        return new

    def sample_into(self, out: Batch, rng: np.random.Generator, timeout: float = 60.0, online: bool = True) -> None:
        with self._waiting():
            if len(self.shards) == 1:  # it waits by itself
                self.shards[0].sample_into(out, rng, timeout, online)
            else:
                self._sample_from_all(out, rng, timeout, online)

    def _sample_from_all(self, out: Batch, rng: np.random.Generator, timeout: float, online: bool) -> None:
        n = len(out.rows)
        while True:
            there = self._wait_for_items(timeout)
            sizes = {i: items for i, (items, _) in there.items()}
            fresh = _share_out(n, [waiting if online else 0 for _, waiting in there.values()])
            rest = rng.multinomial(n - sum(fresh), np.array(list(sizes.values())) / sum(sizes.values()))
            parts, drawn, stop = {}, {}, 0
            for i, first, uniform in zip(there, fresh, rest.tolist(), strict=True):
                start, stop = stop, stop + first + uniform
                assert sizes[i] or start == stop, "a share of an empty shard"
                if start < stop:
                    drawn[i] = part = out.part(start, stop)
                    source = np.random.default_rng(rng.integers(2**63)) if self._pool else rng
                    parts[i] = lambda shard, part=part, source=source: shard.sample_into(part, source, timeout, online)
            if len(self._ask(parts)) == len(parts):  # else one went down: everything is drawn again
                for i, rows in drawn.items():
                    self._home.update(dict.fromkeys(rows.keys[:, 0, 0].tolist(), i))
                return

    def available(self) -> tuple[int, int]:
        each = self._ask(dict.fromkeys(range(len(self.shards)), lambda shard: shard.available()))
        return sum(items for items, _ in each.values()), sum(waiting for _, waiting in each.values())

    def room(self, streams: Sequence[int]) -> int:
        def work(some: list[int]) -> Callable[[Store], int]:
            return lambda shard: shard.room(some)

        return sum(self._ask({i: work(some) for i, some in self.spread(streams).items()}).values())

    def write_back(self, keys: np.ndarray, latents: Mapping[str, np.ndarray]) -> int:
        def work(rows: list[int]) -> Callable[[Store], int]:
            some = {key: np.asarray(value)[rows] for key, value in latents.items()}
            return lambda shard: shard.write_back(keys[rows], some)

        return sum(self._ask({i: work(rows) for i, rows in self._route(keys)}).values())

    def set_priority(self, keys: np.ndarray, values: np.ndarray) -> int:
        def work(rows: list[int]) -> Callable[[Store], int]:
            return lambda shard: shard.set_priority(keys[rows], np.asarray(values)[rows])

        return sum(self._ask({i: work(rows) for i, rows in self._route(keys)}).values())

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        with self._waiting():
            return self.shard(stream).read(stream, first_step_id, n)

    def streams(self) -> dict[int, range]:
        found: dict[int, range] = {}
        for i, one in self._ask_all(lambda shard: shard.streams()).items():
            found |= one
            self._home.update(dict.fromkeys(one, i))
        return found

    def __len__(self) -> int:
        return sum(self._ask_all(len).values())

    def stats(self) -> dict[str, float]:
        """Sums over the shards; `age` is the mean over all items."""
        return total_stats(self._ask_all(lambda shard: shard.stats()).values())

    def each_stats(self) -> dict[str, dict[str, float]]:
        """Of every shard that is up, by name; empty where none is."""
        each = self._ask(dict.fromkeys(range(len(self.shards)), lambda shard: shard.stats()))
        return {self.names[i]: stats for i, stats in each.items()}

    def checkpoint(self, directory: Path) -> None:
        with self._waiting(), new_directory(Path(directory)) as part:
            for name, shard in zip(self.names, self.shards, strict=True):
                shard.checkpoint(part / name)

    def verify(self, directory: Path) -> None:
        for name, shard in zip(self.names, self.shards, strict=True):
            shard.verify(Path(directory) / name)

    def restore(self, directory: Path) -> None:
        if len(self.shards) > 1:  # all or none
            self.verify(directory)
        for name, shard in zip(self.names, self.shards, strict=True):
            shard.restore(Path(directory) / name)
        self._home.clear()
        self.streams()

    def clear(self) -> None:
        self._home.clear()
        for shard in self.shards:
            shard.clear()

    def close(self) -> None:
        self._closed.set()
        if self._pool:
            self._pool.shutdown(wait=False, cancel_futures=True)
        for shard in self.shards:
            shard.close()

    def _home_of(self, stream: int) -> int:
        home = self._home.get(stream)
        return shard_of(stream, self.names) if home is None else home

    def _route(self, keys: np.ndarray) -> list[tuple[int, list[int]]]:
        rows: dict[int, list[int]] = {}
        for row, (stream, _) in enumerate(sequences(keys)):
            rows.setdefault(self._home_of(stream), []).append(row)
        return sorted(rows.items())

    def _ask_all(self, work: Callable[[Store], T]) -> dict[int, T]:
        """What every shard answers that is up, and one is waited for; ShardDownError: none came back in time."""
        while True:
            with self._waiting():
                self._wait_for_shard()
            if answers := self._ask(dict.fromkeys(range(len(self.shards)), work)):
                return answers

    def _ask(self, work: Mapping[int, Callable[[Store], T]]) -> dict[int, T]:
        """What each shard answers, those that are down left out: nothing, where all are. ShardDownError: the only one
        there is, is down, or the store was closed."""
        with self._waiting():
            try:
                return self._answers({i: job for i, job in work.items() if i not in self._down})
            except (RuntimeError, CancelledError) as error:
                if self._closed.is_set():  # by another thread, between two of our calls
                    raise ShardDownError("The replay store was closed.") from error
                raise

    def _answers(self, up: Mapping[int, Callable[[Store], T]]) -> dict[int, T]:
        answers: dict[int, T] = {}
        calls: dict[int, Callable[[], T]]
        if self._pool and len(up) > 1:
            calls = {i: self._pool.submit(job, self.shards[i]).result for i, job in up.items()}
        else:
            calls = {i: partial(job, self.shards[i]) for i, job in up.items()}
        failed: Exception | None = None
        for i, call in calls.items():
            try:
                answers[i] = call()
            except ShardDownError as error:
                self._lose(i, error)
            except Exception as error:  # the others must have returned before anybody may go on
                failed = failed or error
        if failed is not None:
            raise failed
        return answers

    def _require(self, answers: Mapping[int, object], streams: Mapping[int, int]) -> None:
        """GapError for the stream of a shard that was asked and has not answered."""
        for i, stream in streams.items():
            if i not in answers:
                raise GapError(f"Stream {stream} cannot go on: its shard {self.names[i]} is down.", stream)

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

    def _say(self, line: str) -> None:
        with suppress(Exception):  # a log that cannot be written is no reason to leave a shard alone
            self._note(line)

    def _await_return(self, i: int, lost: BaseException) -> None:
        """Looks until the shard can be read and written again, whatever keeps it from that meanwhile."""
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

    def _wait_for_shard(self) -> float:
        """Until any shard is up; how many seconds that took."""
        begun = time.monotonic()
        while len(self._down) == len(self.shards):
            if self._closed.is_set() or time.monotonic() >= begun + PATIENCE:
                waited = time.monotonic() - begun
                raise ShardDownError(f"All replay shards have been down for {waited:.0f} s: {', '.join(self.down)}.")
            self._closed.wait(0.1)
        return time.monotonic() - begun

    def _wait_for_items(self, timeout: float) -> dict[int, tuple[int, int]]:
        """Items and waiting online sequences of each shard that is up, once there is an item anywhere."""
        deadline = time.monotonic() + timeout
        while True:
            deadline += self._wait_for_shard()
            there = self._ask(dict.fromkeys(range(len(self.shards)), lambda shard: shard.available()))
            if any(items for items, _ in there.values()):
                return there
            if time.monotonic() >= deadline:
                down = f", {', '.join(self.down)} down" if self._down else ""
                raise TimeoutError(
                    f"Sampling waited {timeout:g} s for the first sequence of {self.length} steps: {len(self.shards)} "
                    f"shards{down} were given {self.stats().get('inserted', 0):g} steps. Are the actors writing?"
                )
            time.sleep(min(0.02, timeout))


def _reason(error: BaseException) -> str:
    """What is the matter, the same for as long as it is the same: that nobody answers, or what the answer is without
    its numbers."""
    return "" if isinstance(error.__cause__, OSError) else re.sub(r"\d+", "", str(error))


def total_stats(each: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Sums of the shards' stats; `age` is the mean over all items."""
    shards = list(each)
    total = {key: sum(stats.get(key, 0) for stats in shards) for key in dict.fromkeys(k for s in shards for k in s)}
    if "age" in total:
        total["age"] = sum(s["age"] * s["items"] for s in shards) / max(1.0, total["items"])
    return total


def _share_out(n: int, waiting: Sequence[int]) -> list[int]:
    """How many of n each gives when they give one each in turn, none more than it has."""
    share, left = [0] * len(waiting), n
    while left and any(taken < there for taken, there in zip(share, waiting, strict=True)):
        for i, there in enumerate(waiting):
            if left and share[i] < there:
                share[i], left = share[i] + 1, left - 1
    return share
