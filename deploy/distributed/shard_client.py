"""A replay shard as every process sees it that uses one: a `replay.store.Store` whose calls go to the `ShardServer`."""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from deploy.distributed.shared_batch import SharedBatch
from deploy.wiring.config import RunConfig
from deploy.wiring.stores import DOWN, PATIENCE, Note, Waiting, redis_shards, shard_names
from deploy.wiring.task import replay_schema
from learner.sequence import sample_length
from replay.layout import Batch, pack_rows
from replay.sharding import ShardedStore
from replay.step import Rows, Schema
from replay.store import Block, ShardDownError, Store
from world_models.space import Spaces


def connect_store(
    config: RunConfig, observation: Spaces, action: Spaces, shards: Sequence[ActorHandle],
    waiting: Waiting = nullcontext, note: Note = lambda line: None, samples: bool = False, patience: float = 0.0,
    known: bool = True,
) -> ShardedStore:  # fmt: skip
    """The run's replay: a store over its shard actors or its Redis servers. `waiting` is entered around every call that
    may wait for one."""
    schema, length = replay_schema(observation, action, config.model), sample_length(config.learner)
    names = shard_names(config)
    if config.replay.kind == "redis":
        with waiting():
            each = redis_shards(schema, config, note, samples=samples, patience=patience, known=known)
    else:
        down = DOWN if len(names) > 1 else PATIENCE
        durable = config.replay.kind == "disk"
        each = [ShardClient(n, h, schema, length, down, durable) for n, h in zip(names, shards, strict=True)]
    return ShardedStore(each, names, parallel=True, note=note, waiting=waiting)


class ShardClient(Store):
    """A shard as a `replay.store.Store`. Calls to one that died are repeated until it is back, for `down` seconds."""

    def __init__(
        self, name: str, handle: ActorHandle, schema: Schema, length: int, down: float = PATIENCE, durable: bool = False
    ):
        self.name, self.schema, self.length = name, schema, length
        self.handle: Any = handle
        self._memory = threading.local()  # of each thread: the batches it shares with the shard, by size
        self._same_machine = True
        self._closed = threading.Event()
        self.down, self.durable = down, durable

    def begin(self, streams: Sequence[int], writer: int) -> None:
        self._do("begin", list(streams), writer)

    def append_checked(self, blocks: Sequence[Block]) -> list[int]:
        where, rows, latents = [], [], []
        for stream, first, block in blocks:
            packed = pack_rows(self.schema, block)
            where.append((stream, first, len(packed.rows)))
            rows.append(packed.rows)
            latents.append(packed.latents)
        # With the dtypes given, since numpy would drop their padding.
        together = np.concatenate(rows, dtype=self.schema.row_dtype)
        return self._call("append", where, together, np.concatenate(latents, dtype=self.schema.latent_dtype))

    def sample_into(self, out: Batch, rng: np.random.Generator, timeout: float = 60.0, online: bool = True) -> None:
        # The generator goes as a seed: its state would come back changed only in the shard's copy.
        how = (*out.rows.shape, int(rng.integers(2**63)), timeout, online)
        if not (self._same_machine and self._sample_shared(out, how)):
            _copy(self._call("sample", *how, timeout=timeout + PATIENCE), out)

    def _sample_shared(self, out: Batch, how: tuple[int, int, int, float, bool]) -> bool:
        known: dict[tuple[int, int], SharedBatch] = self._memory.__dict__.setdefault("batches", {})
        # Taken out while it is in use: after an error the shard may still be writing to it.
        shared = known.pop(how[:2], None) or SharedBatch(self.schema, *how[:2])
        self._same_machine = self._call("sample_shared", shared.place, *how, timeout=how[3] + PATIENCE)
        if self._same_machine:
            _copy(shared.batch, out)
            known[how[:2]] = shared
        return self._same_machine

    def available(self) -> tuple[int, int]:
        return self._do("available")

    def room(self, streams: Sequence[int]) -> int:
        return self._do("room", list(streams))

    def write_back(self, keys: np.ndarray, latents: Mapping[str, np.ndarray]) -> int:
        return self._do("write_back", keys, dict(latents))

    def set_priority(self, keys: np.ndarray, values: np.ndarray) -> int:
        return self._do("set_priority", keys, values)

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        return self._do("read", stream, first_step_id, n)

    def streams(self) -> dict[int, range]:
        return self._do("streams")

    def __len__(self) -> int:
        return self._do("__len__")

    def clear(self) -> None:
        self._do("clear")

    def stats(self) -> dict[str, float]:
        return self._do("stats")

    def checkpoint(self, directory: Path) -> None:
        self._do("checkpoint", directory)

    def verify(self, directory: Path) -> None:
        self._do("verify", directory)

    def restore(self, directory: Path) -> None:
        self._do("restore", directory)

    def close(self) -> None:
        """Pending calls raise ShardDownError."""
        self._closed.set()

    def _do(self, method: str, *arguments: Any) -> Any:
        return self._call("do", method, *arguments)

    def _call(self, method: str, *arguments: Any, timeout: float = PATIENCE) -> Any:
        deadline, dead, pause = time.monotonic() + timeout, float("inf"), 0.1
        while True:
            reference: Any = self.handle.call.remote(method, *arguments)
            try:
                while True:
                    ready, _ = ray.wait([reference], timeout=1.0)
                    if ready:
                        return ray.get(reference)
                    self._require_open()
                    if time.monotonic() >= deadline:
                        raise TimeoutError(
                            f"Replay shard {self.name} has not answered for {timeout:g} s: its process hangs, or its "
                            "checkpoint takes the disk that long. Check the `ray::shard` processes and the disk."
                        )
            except RayTaskError as error:
                raise error.cause from error  # what the store raised
            except RayActorError as error:
                dead = min(dead, time.monotonic() + self.down)
                if time.monotonic() + pause >= dead:
                    raise ShardDownError(
                        f"Replay shard {self.name} has not come back within {self.down:g} s ({error})."
                    ) from error
                self._closed.wait(pause)
                self._require_open()
                pause = min(2.0, pause * 2)

    def _require_open(self) -> None:
        if self._closed.is_set():
            raise ShardDownError(f"The connection to replay shard {self.name} was closed.")


def _copy(batch: Batch, out: Batch) -> None:
    for theirs, mine in zip(batch, out, strict=True):
        mine[...] = theirs
