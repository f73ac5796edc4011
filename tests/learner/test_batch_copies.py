"""How often a batch is copied on its way from the store to the device, by the memory that each stage takes anew."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deploy.distributed.shard_client import ShardClient
from deploy.distributed.shard_server import StoreServer
from learner.batch import to_device
from replay.consecutive import consecutive
from replay.disk.disk_store import DiskStore
from replay.memory.memory_store import MemoryStore
from replay.redis.redis_store import RedisStore
from replay.sharding import ShardedStore
from replay.step import Field, Rows, Schema
from replay.store import Store
from tests.replay.redis.redis_servers import RedisServer
from world_models.space import Space, Spaces

N, LENGTH, CONSECUTIVE = 16, 9, 2
OBSERVATION: Spaces = {"image": Space(dtype=np.dtype(np.uint8), shape=(64, 64, 3))}
ACTION: Spaces = {"action": Space(dtype=np.dtype(np.int32), shape=(), classes=2)}
SCHEMA = Schema.transitions(
    {key: Field(dtype=space.dtype, shape=space.shape) for key, space in (OBSERVATION | ACTION).items()},
    latents={
        "deter": Field(dtype=np.dtype(np.float16), shape=(8,)),
        "stoch": Field(dtype=np.dtype(np.int8), shape=(4,)),
    },
)
BATCH = N * LENGTH * SCHEMA.row_dtype.itemsize
SIZES: dict[str, Any] = {"length": LENGTH, "capacity": 1000}


class SharedMemory(ShardClient):
    """The client of a Ray shard, whose calls arrive without Ray."""

    def __init__(self) -> None:
        super().__init__("shard-0", None, SCHEMA, LENGTH)  # type: ignore[arg-type]
        self.server = StoreServer(MemoryStore(SCHEMA, **SIZES))

    def _call(self, method: str, *arguments: Any, timeout: float = 0.0) -> Any:
        return getattr(self.server, method)(*arguments)


def on_redis(path: Path, stack: ExitStack) -> Store:
    server = stack.enter_context(RedisServer())
    return RedisStore(server.url_unix, SCHEMA, prefix="copies", **SIZES)


STORES: dict[str, Callable[[Path, ExitStack], Store]] = {
    "memory": lambda path, stack: MemoryStore(SCHEMA, **SIZES),
    "shards": lambda path, stack: ShardedStore([MemoryStore(SCHEMA, **SIZES) for _ in range(3)]),
    "disk": lambda path, stack: DiskStore(path, SCHEMA, **SIZES),
    "ray": lambda path, stack: SharedMemory(),
    "redis": on_redis,
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store that holds a few hundred steps."""
    rng = np.random.default_rng(0)
    with ExitStack() as stack:
        store = STORES[request.param](tmp_path, stack)
        stack.callback(store.close)
        for first in range(0, 100, 20):
            for stream in range(3):
                rows = {key: np.zeros((20, *field.shape), field.dtype) for key, field in SCHEMA.all.items()}
                store.append(stream, first, rows | {"image": rng.integers(256, size=(20, 64, 64, 3), dtype=np.uint8)})
        store.sample(N, LENGTH, rng)  # what is made once is there
        yield store


def taken(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result, and the most memory that numpy had taken for it at a time, in batches."""
    tracemalloc.start()
    try:
        result = work()
        return result, tracemalloc.get_traced_memory()[1] / BATCH
    finally:
        tracemalloc.stop()


def test_a_batch_is_copied_once_out_of_the_store_and_once_for_the_device(store: Store) -> None:
    (batch, keys), sampled = taken(lambda: store.sample(N, LENGTH, np.random.default_rng(1)))
    assert 1 <= sampled < 1.05
    latents = {key: batch.pop(key) for key in SCHEMA.latents}

    def cut() -> list[Rows]:
        return list(consecutive([batch], (LENGTH - 1) // CONSECUTIVE, CONSECUTIVE, 1))

    parts, cutting = taken(cut)
    assert cutting < 0.05
    device = torch.device("cpu")
    share = (LENGTH - 1) // CONSECUTIVE / LENGTH  # its training columns
    for part in parts:
        on_device, moved = taken(partial(to_device, part | latents, OBSERVATION, ACTION, 2, device))
        assert share <= moved < share + 0.05
        assert on_device.steps["image"].is_contiguous()
    values = {key: np.zeros((N, LENGTH, *field.shape), field.dtype) for key, field in SCHEMA.latents.items()}
    _, written = taken(lambda: store.write_back(keys, values))
    assert written < 0.05
