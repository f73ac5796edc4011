"""Replay shards behind Ray: the plain store wrapped on one side, a client with the same contract on the other."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from deploy.config import RunConfig
from deploy.task import memory_shard, replay_schema
from learner.checkpoint import Checkpoints
from learner.sequence import sample_length
from replay.sharding import ShardedStore
from replay.step import Rows, Schema
from replay.store import Sample
from world_models.space import Spaces

PATIENCE = 60.0  # seconds a call waits for a shard that is being restarted


def shard_names(count: int) -> list[str]:
    """Names of the shards, as actors, in hashing and as checkpoint folders."""
    return [f"shard-{i}" for i in range(count)]


def connect_store(
    config: RunConfig, observation: Spaces, action: Spaces, shards: Sequence[ActorHandle]
) -> ShardedStore:
    """The run's replay over its shard actors."""
    schema, length = replay_schema(observation, action, config.model), sample_length(config.learner)
    names = shard_names(len(shards))
    return ShardedStore([RayShard(n, h, schema, length) for n, h in zip(names, shards, strict=True)], names)


class ShardServer:
    """One replay shard; `ray_run` makes a Ray actor of it. Begins with what the newest checkpoint holds for it."""

    def __init__(self, name: str, schema: Schema, config: RunConfig, logdir: str):
        self.store = memory_shard(schema, config)
        self.notes: list[str] = []
        Checkpoints(Path(logdir) / "checkpoints").newest(
            self.notes.append, lambda path: self.store.restore(path / "replay" / name)
        )

    def problems(self) -> list[str]:
        """Damaged checkpoints that were passed over at the start."""
        return self.notes

    def do(self, method: str, *arguments: Any) -> Any:
        """A method of the store."""
        return getattr(self.store, method)(*arguments)


class RayShard:
    """A shard as a `replay.store.Store`. Calls to a shard that died are repeated until it is back."""

    def __init__(self, name: str, handle: ActorHandle, schema: Schema, length: int):
        self.name, self.handle, self.schema, self.length = name, handle, schema, length

    def _get(self, ask: Callable[[], Any], timeout: float = PATIENCE) -> Any:
        deadline, pause = time.monotonic() + timeout, 0.1
        while True:
            try:
                return ray.get(ask(), timeout=max(0.1, deadline - time.monotonic()))
            except RayTaskError as error:
                raise error.cause from error  # what the store raised
            except (RayActorError, GetTimeoutError) as error:
                if time.monotonic() + pause >= deadline:
                    raise TimeoutError(
                        f"Replay shard {self.name} has not answered for {timeout:g} s ({error})."
                    ) from error
                time.sleep(pause)
                pause = min(2.0, pause * 2)

    def _call(self, method: str, *arguments: Any, timeout: float = PATIENCE) -> Any:
        return self._get(lambda: self.handle.call.remote("do", method, *arguments), timeout)

    def append(self, stream: int, first_step_id: int, rows: Mapping[str, np.ndarray]) -> int:
        return self._call("append", stream, first_step_id, dict(rows))

    def sample(
        self, n: int, length: int, rng: np.random.Generator, timeout: float = PATIENCE, online: bool = True
    ) -> Sample:
        # The generator goes as a seed: its state would come back changed only in the shard's copy.
        seeded = int(rng.integers(2**63))
        batch, keys = self._call_sample(n, length, seeded, timeout, online)
        return {key: np.require(value, requirements="W") for key, value in batch.items()}, keys

    def _call_sample(self, n: int, length: int, seed: int, timeout: float, online: bool) -> Sample:
        return self._call("sample", n, length, np.random.default_rng(seed), timeout, online, timeout=timeout + 5)

    def write_back(self, keys: np.ndarray, latents: Mapping[str, np.ndarray]) -> int:
        return self._call("write_back", keys, dict(latents))

    def set_priority(self, keys: np.ndarray, values: np.ndarray) -> int:
        return self._call("set_priority", keys, values)

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        return self._call("read", stream, first_step_id, n)

    def streams(self) -> dict[int, range]:
        return self._call("streams")

    def __len__(self) -> int:
        return self._call("__len__")

    def clear(self) -> None:
        self._call("clear")

    def stats(self) -> dict[str, float]:
        return self._call("stats")

    def checkpoint(self, directory: Path) -> None:
        self._call("checkpoint", directory, timeout=600.0)

    def restore(self, directory: Path) -> None:
        self._call("restore", directory, timeout=600.0)
