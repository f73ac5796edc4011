"""A replay shard in the process of its Ray actor."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray

from deploy.distributed.shared_batch import Place, SharedBatches
from deploy.wiring.config import RunConfig
from deploy.wiring.stores import shard
from learner.checkpoint import Checkpoints
from replay.layout import Batch, PackedRows, new_batch
from replay.step import Schema
from replay.store import Block, Store


class StoreServer:
    """A store as a Ray actor serves it: packed rows come in, whole batches go out."""

    def __init__(self, store: Store):
        self.store = store
        self._shared = SharedBatches()

    def append(self, where: Sequence[tuple[int, int, int]], rows: np.ndarray, latents: np.ndarray) -> list[int]:
        """Append blocks (stream, first step, count) of consecutive packed rows."""
        blocks: list[Block] = []
        stop = 0
        for stream, first, count in where:
            start, stop = stop, stop + count
            blocks.append((stream, first, PackedRows(rows[start:stop], latents[start:stop])))
        return self.store.append_checked(blocks)

    def sample(self, n: int, length: int, seed: int, timeout: float, online: bool) -> Batch:
        batch = new_batch(self.store.schema, n, length)
        self.store.sample_into(batch, np.random.default_rng(seed), timeout, online)
        return batch

    def sample_shared(self, place: Place, n: int, length: int, seed: int, timeout: float, online: bool) -> bool:
        """`sample` into the caller's own memory; False if that cannot be reached."""
        batch = self._shared.find(place, self.store.schema, n, length)
        if batch is None:
            return False
        self.store.sample_into(batch, np.random.default_rng(seed), timeout, online)
        return True

    def do(self, method: str, *arguments: Any) -> Any:
        """Any other method of the store."""
        return getattr(self.store, method)(*arguments)


class ShardServer(StoreServer):
    """One shard of a run; `remote.start` makes a Ray actor of it. The supervisor fills it at the start of the run. When
    Ray restarts it, a memory shard loads its part of the newest whole checkpoint, a disk shard its folder."""

    def __init__(self, name: str, schema: Schema, config: RunConfig, logdir: str):
        self.notes: list[str] = []
        super().__init__(shard(name, schema, config, self.notes.append))
        self.origin = "the steps in its folder" if self.store.durable else "an empty replay"
        if ray.get_runtime_context().was_current_actor_reconstructed and not self.store.durable:
            path = Checkpoints.of(Path(logdir)).newest(
                self.notes.append, lambda path: self.store.restore(path / "replay" / name)
            )
            if path:
                self.origin = f"the steps of checkpoint {int(path.name)}"

    def status(self) -> dict[str, Any]:
        """Counts, process, what the shard started with, and its notes since the last call."""
        notes, self.notes[:] = self.notes[:], []
        return {
            "stats": self.store.stats(),
            "process": (ray.get_runtime_context().get_node_id(), os.getpid()),
            "origin": self.origin,
            "notes": notes,
        }
