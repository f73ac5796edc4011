"""The stores the contract suite runs against, and rows whose content tells where they belong."""

from collections.abc import Callable

import numpy as np

from replay.memory.memory_store import MemoryStore
from replay.sharding import ShardedStore
from replay.step import Field, Schema
from replay.store import Store
from tests.contracts.disk_stores import disk_store
from tests.contracts.ray_stores import ray_shard
from tests.contracts.redis_stores import redis_store

SCHEMA = Schema(
    fields={
        "step": Field(dtype=np.dtype(np.int64)),
        "stream": Field(dtype=np.dtype(np.int32)),
        "image": Field(dtype=np.dtype(np.uint8), shape=(2, 3)),
        "reward": Field(dtype=np.dtype(np.float32)),
        "is_first": Field(dtype=np.dtype(np.bool_)),
        "is_last": Field(dtype=np.dtype(np.bool_)),
    },
    latents={
        "deter": Field(dtype=np.dtype(np.float16), shape=(4,)),
        "stoch": Field(dtype=np.dtype(np.int8), shape=(2,)),
    },
)

MakeStore = Callable[..., Store]


def memory(*, length: int = 4, capacity: int | None = 1000, chunk_length: int = 7, **settings: object) -> Store:
    settings = {"streams": 8, **settings}
    return MemoryStore(SCHEMA, length=length, capacity=capacity, chunk_length=chunk_length, **settings)  # type: ignore[arg-type]


def sharded(shards: int) -> MakeStore:
    def make(**settings: object) -> Store:
        return ShardedStore([memory(**settings) for _ in range(shards)])  # type: ignore[arg-type]

    return make


def behind_ray(**settings: object) -> Store:
    """Two shards of one Ray actor, asked at the same time."""
    return ShardedStore([ray_shard(**settings) for _ in range(2)], parallel=True)


def on_redis(**settings: object) -> Store:
    """Two shards on one server, asked at the same time."""
    return ShardedStore([redis_store(**settings) for _ in range(2)], parallel=True)


STORES: dict[str, MakeStore] = {
    "memory": memory,
    "one shard": sharded(1),
    "three shards": sharded(3),
    "disk": disk_store,
    "ray": ray_shard,
    "ray shards": behind_ray,
    "redis": redis_store,
    "redis shards": on_redis,
}
SAVING = [name for name in STORES if not name.startswith("redis")]
"""Those whose checkpoints hold their content; on Redis it stays where it is, and a checkpoint only names it."""
LOCAL = ("memory", "one shard", "three shards", "disk")
"""Those that cost no process: for properties tried many times over."""


def rows(stream: int, first: int, n: int, **flags: np.ndarray) -> dict[str, np.ndarray]:
    """Rows `[n, ...]` of which every element follows from stream and step; each 5th step is last, the next first."""
    step = np.arange(first, first + n)
    mark = (stream * 31 + step) % 251
    return {
        "step": step.astype(np.int64),
        "stream": np.full(n, stream, np.int32),
        "image": np.broadcast_to(mark[:, None, None], (n, 2, 3)).astype(np.uint8),
        "reward": step.astype(np.float32) / 4,
        "is_first": step % 5 == 0,
        "is_last": step % 5 == 4,
        "deter": np.broadcast_to(mark[:, None], (n, 4)).astype(np.float16),
        "stoch": np.broadcast_to((mark % 100)[:, None], (n, 2)).astype(np.int8),
    } | flags


def latents(n: int, steps: int, value: float) -> dict[str, np.ndarray]:
    """Latents to write back, all of one value."""
    return {"deter": np.full((n, steps, 4), value, np.float16), "stoch": np.full((n, steps, 2), value, np.int8)}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def check_sequences(batch: dict[str, np.ndarray], keys: np.ndarray) -> None:
    """Every sequence is whole: consecutive steps of one stream, each with the content written for it."""
    n, length, _ = keys.shape
    assert keys.dtype == np.int64
    assert (keys[:, :, 0] == keys[:, :1, 0]).all()
    assert (keys[:, :, 1] == keys[:, :1, 1] + np.arange(length)).all()
    for i in range(n):
        expected = rows(int(keys[i, 0, 0]), int(keys[i, 0, 1]), length)
        for key in ("step", "stream", "image", "reward"):
            np.testing.assert_array_equal(batch[key][i], expected[key], key)


def fill(store: Store, steps: int, streams: int = 3, block: int = 1) -> None:
    """Streams 0.. write in turn."""
    for first in range(0, steps, block):
        for stream in range(streams):
            store.append(stream, first, rows(stream, first, min(block, steps - first)))
