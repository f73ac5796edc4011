"""Many stores as one: each stream lives on the shard that rendezvous hashing gives it."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from replay.checkpoint import new_directory
from replay.keys import sequences
from replay.step import Rows
from replay.store import Store


def shard_of(stream: int, names: Sequence[str]) -> int:
    """Index of the name with the highest hash: adding or losing one name moves only the streams that name had."""
    assert names, "shard_of() without shards"

    def weight(i: int) -> bytes:
        return hashlib.blake2b(f"{names[i]}/{stream}".encode(), digest_size=8).digest()

    return max(range(len(names)), key=weight)


class ShardedStore:
    """See `replay.store.Store`. Every item is drawn with equal probability, whatever the sizes of the shards."""

    def __init__(self, shards: Sequence[Store], names: Sequence[str] | None = None) -> None:
        if not shards:
            raise ValueError("A sharded store needs at least one shard, got none.")
        self.shards = list(shards)
        self.names = list(names or (f"shard-{i}" for i in range(len(shards))))
        if len(set(self.names)) != len(self.shards):
            raise ValueError(f"{len(self.shards)} shards need as many different names, got {self.names}.")
        self.schema, self.length = shards[0].schema, shards[0].length
        for name, shard in zip(self.names, self.shards, strict=True):
            if shard.schema != self.schema or shard.length != self.length:
                raise ValueError(f"Shard {name} has another schema or length than {self.names[0]}; make all alike.")
        self._home: dict[int, int] = {}

    def shard(self, stream: int) -> Store:
        if stream not in self._home:
            self._home[stream] = shard_of(stream, self.names)
        return self.shards[self._home[stream]]

    def append(self, stream: int, first_step_id: int, rows: Mapping[str, np.ndarray]) -> int:
        return self.shard(stream).append(stream, first_step_id, rows)

    def sample(
        self, n: int, length: int, rng: np.random.Generator, timeout: float = 60.0, online: bool = True
    ) -> tuple[Rows, np.ndarray]:
        sizes, waiting = self._wait_for_items(timeout)
        fresh = _share_out(n, waiting if online else [0] * len(waiting))
        uniform = rng.multinomial(n - sum(fresh), np.asarray(sizes) / sum(sizes))
        parts = []
        for shard, size, first, rest in zip(self.shards, sizes, fresh, uniform.tolist(), strict=True):
            assert size or not first + rest, "a share of an empty shard"
            if first:
                parts.append(shard.sample(first, length, rng, timeout, True))
            if rest:
                parts.append(shard.sample(rest, length, rng, timeout, False))
        if len(parts) == 1:
            return parts[0]
        batch = {key: np.concatenate([part[key] for part, _ in parts]) for key in parts[0][0]}
        return batch, np.concatenate([keys for _, keys in parts])

    def write_back(self, keys: np.ndarray, latents: Mapping[str, np.ndarray]) -> int:
        return sum(
            shard.write_back(keys[rows], {key: np.asarray(value)[rows] for key, value in latents.items()})
            for shard, rows in self._route(keys)
        )

    def set_priority(self, keys: np.ndarray, values: np.ndarray) -> int:
        return sum(shard.set_priority(keys[rows], np.asarray(values)[rows]) for shard, rows in self._route(keys))

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        return self.shard(stream).read(stream, first_step_id, n)

    def streams(self) -> dict[int, range]:
        return {stream: steps for shard in self.shards for stream, steps in shard.streams().items()}

    def __len__(self) -> int:
        return sum(len(shard) for shard in self.shards)

    def stats(self) -> dict[str, float]:
        """Sums over the shards; `age` is the mean over all items."""
        each = [shard.stats() for shard in self.shards]
        total = {key: sum(stats[key] for stats in each) for key in each[0]}
        items = max(1.0, total["items"])
        total["age"] = sum(stats["age"] * stats["items"] for stats in each) / items
        return total

    def checkpoint(self, directory: Path) -> None:
        with new_directory(Path(directory)) as part:
            for name, shard in zip(self.names, self.shards, strict=True):
                shard.checkpoint(part / name)

    def restore(self, directory: Path) -> None:
        try:
            for name, shard in zip(self.names, self.shards, strict=True):
                shard.restore(Path(directory) / name)
        except BaseException:
            self.clear()
            raise

    def clear(self) -> None:
        for shard in self.shards:
            shard.clear()

    def _route(self, keys: np.ndarray) -> list[tuple[Store, list[int]]]:
        rows: dict[int, list[int]] = {}
        for row, (stream, _) in enumerate(sequences(keys)):
            self.shard(stream)
            rows.setdefault(self._home[stream], []).append(row)
        return [(self.shards[i], some) for i, some in sorted(rows.items())]

    def _wait_for_items(self, timeout: float) -> tuple[list[int], list[int]]:
        """Items and waiting online sequences of each shard, once there is an item anywhere."""
        deadline = time.monotonic() + timeout
        while True:
            each = [shard.stats() for shard in self.shards]
            if any(stats["items"] for stats in each):
                return [int(stats["items"]) for stats in each], [int(stats["queue"]) for stats in each]
            if time.monotonic() >= deadline:
                raise TimeoutError(
                    f"Sampling waited {timeout:g} s for the first sequence of {self.length} steps: {len(each)} shards "
                    f"were given {sum(stats['inserted'] for stats in each):g} steps. Are the actors writing?"
                )
            time.sleep(min(0.02, timeout))


def _share_out(n: int, waiting: Sequence[int]) -> list[int]:
    """How many of n each gives when they give one each in turn, none more than it has."""
    share, left = [0] * len(waiting), n
    while left and any(taken < there for taken, there in zip(share, waiting, strict=True)):
        for i, there in enumerate(waiting):
            if left and share[i] < there:
                share[i], left = share[i] + 1, left - 1
    return share
