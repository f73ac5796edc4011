"""The replay shards of a local run, as the supervisor starts them, fills them and watches them."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from deploy.distributed.remote import ask, start
from deploy.distributed.shard_client import connect_store
from deploy.distributed.supervisor.restart_policy import SILENCE, RestartPolicy
from deploy.distributed.whereabouts import end_process
from deploy.wiring.config import RunConfig
from deploy.wiring.stores import DOWN, rolls_back, shard_names
from deploy.wiring.task import replay_schema
from learner.checkpoint import Checkpoints
from replay.sharding import total_stats
from replay.store import Store
from world_models.space import Spaces

Stats = dict[str, float]
KEYS = ("items", "gb", "steps", "age")
OF_A_PROCESS = ("sampled", "sampled_online", "written_back", "stale", "queue")  # on Redis: what the learner has done
CLOSING = 60.0  # seconds for a shard to write its open chunks
MUTE = 10.0  # seconds without an answer after which a shard is shown as down


class ShardChildren:
    """All shards of a run; `handles` are their actors, none where replay lies on Redis."""

    def __init__(
        self, config: RunConfig, spaces: tuple[Spaces, Spaces], logdir: Path, note: Callable[[str], None],
        options: Mapping[str, Any], restarted: Callable[[str, str], None],
    ):  # fmt: skip
        """`options`: where shards go, as `remote.start` takes it. `restarted`: see `WorkerChild`."""
        self.names, self.note, self.rolls_back = shard_names(config), note, rolls_back(config)
        self.restarted, self._restarts = restarted, {name: RestartPolicy() for name in self.names}
        schema = replay_schema(*spaces, config.model)
        self.handles = [
            start("deploy.distributed.shard_server.ShardServer", name, schema, config, str(logdir),
                  threads=8, name=name, restarts=-1, **options)
            for name in self.names if config.replay.kind != "redis"
        ]  # fmt: skip
        self.processes = [ask(shard, "status", timeout=600)["process"] for shard in self.handles]
        self.store = connect_store(config, *spaces, self.handles, note=note, patience=DOWN, known=False)
        self.each: dict[str, Stats] = {}
        """The last known stats of each shard."""
        self._heard = dict.fromkeys(self.names, time.monotonic())
        self.down: set[str] = set()

    @property
    def all_down(self) -> bool:
        """No shard answers."""
        return len(self.down) == len(self.names)

    def restore(self, checkpoints: Checkpoints) -> Path | None:
        """The newest checkpoint that is whole in every part; shards that roll back hold it then, others go on with
        what they have."""
        if self.rolls_back:
            return checkpoints.newest(self.note, lambda path: self.store.restore(path / "replay"))
        return checkpoints.newest(self.note)

    def saved(self) -> None:
        """There is a newer checkpoint: what the shards failed at before is forgotten."""
        for one in self._restarts.values():
            one.worked()

    def close(self) -> None:
        """Let shards on disk put down what they still have in memory; nobody may be writing any more."""
        closing: list[Any] = [shard.call.remote("do", "close") for shard in self.handles] if self.store.durable else []
        for name, reference in zip(self.names, closing, strict=False):
            try:
                ray.get(reference, timeout=CLOSING)
            except RayError as error:
                self.note(f"{name} could not be closed; its newest steps are lost: {str(error).splitlines()[0]}")
        self.store.close()

    def stats(self) -> tuple[Stats, bool]:
        """Sums over the shards (`age`: the mean), of those away the last known; whether one lost or regained steps.

        RunFailedError: a shard fails again and again."""
        before = {name: stats["steps"] for name, stats in self.each.items()}
        changed = self._ask_actors() if self.handles else self._ask_servers()
        changed |= any(self.each[name]["steps"] < 0.9 * steps for name, steps in before.items())
        total = total_stats(self.each.values())
        return {key: total.get(key, 0.0) for key in KEYS}, changed

    def _ask_servers(self) -> bool:
        """Those that are down the sharded store notices and says itself."""
        before = set(self.down)
        for name, shard in zip(self.names, self.store.shards, strict=True):
            if name not in self.store.down:
                self._keep(name, shard)
        if len(self.names) > 1:
            self.down = set(self.store.down)
        return self.down != before

    def _keep(self, name: str, shard: Store) -> None:
        try:
            self.each[name] = {key: value for key, value in shard.stats().items() if key not in OF_A_PROCESS}
        except OSError as error:
            if len(self.names) > 1:
                self.store.available()  # asks them all, and leaves out who does not answer
            elif name not in self.down:
                self.note(f"Training waits for the only replay shard: {error}")
                self.down.add(name)
        else:
            if len(self.names) == 1 and name in self.down:
                self.note("The replay shard is back.")
                self.down.discard(name)

    def _ask_actors(self) -> bool:
        changed, now = False, time.monotonic()
        asked: dict[Any, int] = {shard.call.remote("status"): i for i, shard in enumerate(self.handles)}
        ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=5)
        for reference in ready:
            i = asked[reference]
            name = self.names[i]
            try:
                status: dict[str, Any] = ray.get(reference)
            except RayError:
                continue
            self._heard[name], self.each[name] = now, status["stats"]
            for line in status["notes"]:
                self.note(f"{name}: {line}")
            if status["process"] != self.processes[i]:
                self.processes[i], changed = status["process"], True
                self.restarted(name, "its process ended")
                self._restarts[name].failed(name, "its process ended")
                self.note(f"{name} has restarted with {status['origin']}.")
            elif name in self.down:
                self.note(f"{name} answers again.")
            self.down.discard(name)
        for name, heard in self._heard.items():
            if now - heard > SILENCE:  # Ray notices by itself that a process has ended, but not that it hangs
                self.note(f"{name} has been silent for {now - heard:.0f} s; killing and restarting it.")
                end_process(*self.processes[self.names.index(name)])
                self._heard[name] = now
            if now - heard > MUTE and name not in self.down:
                self.down.add(name)
                changed = True
                self.note(
                    f"{name} has not answered for {now - heard:.0f} s; processes that need it wait. It will be "
                    f"killed and restarted after {SILENCE:g} s."
                )
        return changed
