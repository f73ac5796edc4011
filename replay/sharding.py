"""Many stores as one: new streams go to the shards in turn, stored ones stay where they are."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from replay.files.new_directory import new_directory
from replay.keys import incarnation_of, sequences, slot_of
from replay.layout import Batch
from replay.shard_calls import ShardCalls
from replay.step import Rows
from replay.store import Block, GapError, ShardDownError, Store


def shard_of(stream: int, names: Sequence[str]) -> int:
    """Index of the shard in which a stream begins: the slots of one incarnation take turns, which spreads them evenly;
    the next incarnation of a slot begins in another shard, in case this one is down."""
    assert names, "shard_of() without shards"
    return (slot_of(stream) + incarnation_of(stream)) % len(names)


class ShardedStore(Store):
    """See `replay.store.Store`. Every item is sampled with equal probability, whatever the sizes of the shards; a
    selection by priority or recency compares the items within a shard.

    `parallel`, `note` and `waiting`: see `ShardCalls`. While a shard is down, sampling continues with the others, its
    steps are not refreshed, and appending to its streams raises GapError, so that their writers begin new streams in
    other shards. Streams stay in their shard, even one that an earlier run or version has chosen. If every shard is
    down, appending, sampling and queries of what is stored wait for one, and raise ShardDownError if none comes back.
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
                raise ValueError(f"Shard {name} has another schema or length than {self.names[0]}; make them the same.")
        self._home: dict[int, int] = {}  # the shard of each stream that is known to be stored
        self._calls = ShardCalls(self.shards, self.names, parallel, note, waiting)

    @property
    def down(self) -> list[str]:
        """Names of the shards that do not answer."""
        return self._calls.down

    def shard(self, stream: int) -> Store:
        return self.shards[self._home_of(stream)]

    def spread(self, streams: Sequence[int]) -> dict[int, list[int]]:
        """The streams of each shard that has any, by its index among the shards."""
        each: dict[int, list[int]] = {}
        for stream in streams:
            each.setdefault(self._home_of(stream), []).append(stream)
        return each

    def begin(self, streams: Sequence[int], writer: int) -> None:
        self._calls.wait()
        each = self.spread(streams)

        def work(some: list[int]) -> Callable[[Store], bool]:
            return lambda shard: shard.begin(some, writer) is None

        answers = self._calls.ask({i: work(some) for i, some in each.items()})
        self._require(answers, {i: some[0] for i, some in each.items()})

    def append_checked(self, blocks: Sequence[Block]) -> list[int]:
        self._calls.wait()
        if any(first and stream not in self._home for stream, first, _ in blocks):
            self.streams()  # it began elsewhere: find its shard
        each: dict[int, list[int]] = {}
        for k, (stream, _, _) in enumerate(blocks):
            each.setdefault(self._home_of(stream), []).append(k)

        def work(some: list[int]) -> Callable[[Store], list[int]]:
            return lambda shard: shard.append_checked([blocks[k] for k in some])

        answers = self._calls.ask({i: work(some) for i, some in each.items()})
        self._require(answers, {i: blocks[some[0]][0] for i, some in each.items()})
        new = [0] * len(blocks)
        for i, some in each.items():
            for k, count in zip(some, answers[i], strict=True):
                new[k] = count
                self._home[blocks[k][0]] = i
        return new

    def sample_into(self, out: Batch, rng: np.random.Generator, timeout: float = 60.0, online: bool = True) -> None:
        with self._calls.waiting():
            if len(self.shards) == 1:  # it does its own waiting
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
                    source = np.random.default_rng(rng.integers(2**63)) if self._calls.pool else rng
                    parts[i] = lambda shard, part=part, source=source: shard.sample_into(part, source, timeout, online)
            if len(self._calls.ask(parts)) == len(parts):  # else a shard went down: sample everything again
                for i, rows in drawn.items():
                    self._home.update(dict.fromkeys(rows.keys[:, 0, 0].tolist(), i))
                return

    def available(self) -> tuple[int, int]:
        each = self._calls.ask_up(lambda shard: shard.available())
        return sum(items for items, _ in each.values()), sum(waiting for _, waiting in each.values())

    def room(self, streams: Sequence[int]) -> int:
        def work(some: list[int]) -> Callable[[Store], int]:
            return lambda shard: shard.room(some)

        return sum(self._calls.ask({i: work(some) for i, some in self.spread(streams).items()}).values())

    def write_back(self, keys: np.ndarray, latents: Mapping[str, np.ndarray]) -> int:
        def work(rows: list[int]) -> Callable[[Store], int]:
            some = {key: np.asarray(value)[rows] for key, value in latents.items()}
            return lambda shard: shard.write_back(keys[rows], some)

        return sum(self._calls.ask({i: work(rows) for i, rows in self._route(keys)}).values())

    def set_priority(self, keys: np.ndarray, values: np.ndarray) -> int:
        def work(rows: list[int]) -> Callable[[Store], int]:
            return lambda shard: shard.set_priority(keys[rows], np.asarray(values)[rows])

        return sum(self._calls.ask({i: work(rows) for i, rows in self._route(keys)}).values())

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        home = self._home_of(stream)
        answers = self._calls.ask({home: lambda shard: shard.read(stream, first_step_id, n)})
        if home not in answers:
            raise ShardDownError(f"Stream {stream} cannot be read: its shard {self.names[home]} is down.")
        return answers[home]

    def streams(self) -> dict[int, range]:
        found: dict[int, range] = {}
        for i, one in self._calls.ask_any(lambda shard: shard.streams()).items():
            found |= one
            self._home.update(dict.fromkeys(one, i))
        return found

    def __len__(self) -> int:
        return sum(self._calls.ask_any(len).values())

    def stats(self) -> dict[str, float]:
        """Sums over the shards; `age` is the mean over all items."""
        return total_stats(self._calls.ask_any(lambda shard: shard.stats()).values())

    def each_stats(self) -> dict[str, dict[str, float]]:
        """Of every shard that is up, by name; empty if none is."""
        each = self._calls.ask_up(lambda shard: shard.stats())
        return {self.names[i]: stats for i, stats in each.items()}

    def checkpoint(self, directory: Path) -> None:
        with self._calls.waiting(), new_directory(Path(directory)) as part:
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
        self._calls.close()
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

    def _require(self, answers: Mapping[int, object], streams: Mapping[int, int]) -> None:
        """Raises GapError for the stream of a shard that was asked and has not answered."""
        for i, stream in streams.items():
            if i not in answers:
                raise GapError(f"Stream {stream} cannot continue: its shard {self.names[i]} is down.", stream)

    def _wait_for_items(self, timeout: float) -> dict[int, tuple[int, int]]:
        """Items and waiting online sequences of each shard that is up, once there is an item anywhere."""
        deadline = time.monotonic() + timeout
        while True:
            deadline += self._calls.wait()
            there = self._calls.ask_up(lambda shard: shard.available())
            if any(items for items, _ in there.values()):
                return there
            if time.monotonic() >= deadline:
                down = f", {', '.join(self.down)} down" if self.down else ""
                raise TimeoutError(
                    f"Sampling waited {timeout:g} s for the first sequence of {self.length} steps: {len(self.shards)} "
                    f"shards{down} received {self.stats().get('inserted', 0):g} steps. Are the actors writing?"
                )
            time.sleep(min(0.02, timeout))


def total_stats(each: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Sums of the shards' stats; `age` is the mean over all items."""
    shards = list(each)
    total = {key: sum(stats.get(key, 0) for stats in shards) for key in dict.fromkeys(k for s in shards for k in s)}
    if "age" in total:
        total["age"] = sum(s["age"] * s["items"] for s in shards) / max(1.0, total["items"])
    return total


def _share_out(n: int, waiting: Sequence[int]) -> list[int]:
    """Shares of n when shards with `waiting` sequences take turns, one sequence at a time."""
    share, left = [0] * len(waiting), n
    while left and any(taken < there for taken, there in zip(share, waiting, strict=True)):
        for i, there in enumerate(waiting):
            if left and share[i] < there:
                share[i], left = share[i] + 1, left - 1
    return share
