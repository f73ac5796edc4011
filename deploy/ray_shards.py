"""The driver's side of the replay shards: starting them, the checkpoint the run begins with, noticing restarts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from deploy.config import RunConfig
from deploy.ray_store import connect_store, shard_names
from deploy.remote import ask, start
from deploy.task import replay_schema
from learner.checkpoint import Checkpoints
from replay.keys import incarnation_of
from world_models.space import Spaces


class Shards:
    """All shards of a run; `handles` are their actors."""

    def __init__(
        self, config: RunConfig, spaces: tuple[Spaces, Spaces], logdir: Path, note: Callable[[str], None], cpus: float
    ):
        self.names, self.note = shard_names(config.replay.shards), note
        schema = replay_schema(*spaces, config.model)
        self.handles = [
            start("deploy.ray_store.ShardServer", name, schema, config, str(logdir),
                  cpus=cpus, threads=8, name=name, restarts=-1)
            for name in self.names
        ]  # fmt: skip
        self.store = connect_store(config, *spaces, self.handles)
        self.processes = [ask(shard, "status", timeout=600)["process"] for shard in self.handles]
        self._last = {"items": 0.0, "gb": 0.0, "age": 0.0, "steps": 0.0}

    def restore(self, checkpoints: Checkpoints) -> Path | None:
        """The newest checkpoint that is whole in every part; all shards hold it then."""
        return checkpoints.newest(self.note, lambda path: self.store.restore(path / "replay"))

    def next_incarnation(self) -> int:
        """Environments never write into the streams of an earlier life of this run."""
        return 1 + max(map(incarnation_of, self.store.streams()), default=-1)

    def stats(self) -> tuple[dict[str, float], bool]:
        """Sums over the shards (`age`: the mean), the last known ones while a shard is away; whether one came back."""
        try:
            each: list[dict[str, Any]] = ray.get([shard.call.remote("status") for shard in self.handles], timeout=10)
        except RayError:
            return self._last, False
        restarted = False
        for i, status in enumerate(each):
            if status["process"] != self.processes[i]:
                self.processes[i], restarted = status["process"], True
                for problem in status["problems"]:
                    self.note(problem)
                back = f"goes back to checkpoint {status['checkpoint']}" if status["checkpoint"] else "begins anew"
                self.note(f"{self.names[i]} restarted, its replay {back}.")
        stats = [status["stats"] for status in each]
        total = {key: float(sum(one[key] for one in stats)) for key in ("items", "gb", "steps")}
        self._last = total | {"age": sum(s["age"] * s["items"] for s in stats) / max(1.0, total["items"])}
        return self._last, restarted
