"""Replay shards behind Ray: the plain store wrapped on one side, a client with the same contract on the other."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from deploy.config import RunConfig
from deploy.task import memory_shard, replay_schema
from learner.checkpoint import Checkpoints
from learner.sequence import sample_length
from replay.sharding import ShardedStore
from replay.step import Rows, Schema
from replay.store import Sample
from world_models.space import Spaces

PATIENCE = 600.0  # seconds a call waits for a shard that is being restarted or writes a checkpoint


def shard_names(count: int) -> list[str]:
    """Names of the shards, as actors, in hashing and as checkpoint folders."""
    return [f"shard-{i}" for i in range(count)]


def connect_store(
    config: RunConfig, observation: Spaces, action: Spaces, shards: Sequence[ActorHandle],
    beat: Callable[[], None] = lambda: None,
) -> ShardedStore:  # fmt: skip
    """The run's replay over its shard actors."""
    schema, length = replay_schema(observation, action, config.model), sample_length(config.learner)
    names = shard_names(len(shards))
    return ShardedStore([RayShard(n, h, schema, length, beat) for n, h in zip(names, shards, strict=True)], names)


class ShardServer:
    """One replay shard; `remote.start` makes a Ray actor of it. The driver fills it; brought back by Ray it takes its
    part of the newest whole checkpoint by itself."""

    def __init__(self, name: str, schema: Schema, config: RunConfig, logdir: str):
        self.store = memory_shard(schema, config)
        self.notes: list[str] = []
        self.checkpoint: int | None = None
        if ray.get_runtime_context().was_current_actor_reconstructed:
            path = Checkpoints(Path(logdir) / "checkpoints").newest(
                self.notes.append, lambda path: self.store.restore(path / "replay" / name)
            )
            self.checkpoint = int(path.name) if path else None

    def status(self) -> dict[str, Any]:
        """Counts, the process, and what it began with."""
        return {
            "stats": self.store.stats(), "process": os.getpid(), "checkpoint": self.checkpoint, "problems": self.notes,
        }  # fmt: skip

    def do(self, method: str, *arguments: Any) -> Any:
        """A method of the store."""
        return getattr(self.store, method)(*arguments)


class RayShard:
    """A shard as a `replay.store.Store`. Calls to a shard that died are repeated until it is back; `beat` is called
    about once a second while one waits."""

    def __init__(
        self, name: str, handle: ActorHandle, schema: Schema, length: int, beat: Callable[[], None] = lambda: None
    ):
        self.name, self.handle, self.schema, self.length, self.beat = name, handle, schema, length, beat

    def _get(self, ask: Callable[[], ray.ObjectRef], timeout: float = PATIENCE) -> Any:
        deadline, pause = time.monotonic() + timeout, 0.1
        while True:
            reference = ask()
            try:
                while not ray.wait([reference], timeout=1.0)[0]:
                    self.beat()
                    if time.monotonic() >= deadline:
                        raise TimeoutError(
                            f"Replay shard {self.name} has not answered for {timeout:g} s: its process hangs, or the "
                            "disk takes that long for its checkpoint. Look at `ray::shard` processes and the disk."
                        )
                return ray.get(reference)
            except RayTaskError as error:
                raise error.cause from error  # what the store raised
            except RayActorError as error:
                if time.monotonic() + pause >= deadline:
                    raise TimeoutError(
                        f"Replay shard {self.name} has not come back within {timeout:g} s ({error})."
                    ) from error
                self.beat()
                time.sleep(pause)
                pause = min(2.0, pause * 2)

    def _call(self, method: str, *arguments: Any, timeout: float = PATIENCE) -> Any:
        return self._get(lambda: self.handle.call.remote("do", method, *arguments), timeout)

    def append(self, stream: int, first_step_id: int, rows: Mapping[str, np.ndarray]) -> int:
        return self._call("append", stream, first_step_id, dict(rows))

    def sample(
        self, n: int, length: int, rng: np.random.Generator, timeout: float = 60.0, online: bool = True
    ) -> Sample:
        # The generator goes as a seed: its state would come back changed only in the shard's copy.
        seeded = int(rng.integers(2**63))
        batch, keys = self._call_sample(n, length, seeded, timeout, online)
        return {key: np.require(value, requirements="W") for key, value in batch.items()}, keys

    def _call_sample(self, n: int, length: int, seed: int, timeout: float, online: bool) -> Sample:
        return self._call("sample", n, length, np.random.default_rng(seed), timeout, online, timeout=timeout + PATIENCE)

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
        self._call("checkpoint", directory)

    def restore(self, directory: Path) -> None:
        self._call("restore", directory)
