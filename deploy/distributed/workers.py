"""What runs inside the Ray actors of a local run: environment workers and the evaluator."""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray.actor import ActorHandle

from actors.evaluation import PARALLEL, EndlessEpisodeError, run_episodes
from actors.vector import Episode
from deploy.distributed.coordinator import ActorReport
from deploy.distributed.coordinator_client import CoordinatorClient
from deploy.distributed.remote import Heartbeat
from deploy.distributed.shard_client import connect_store
from deploy.reports.scoreboard import best_score
from deploy.wiring.build import build_actor
from deploy.wiring.config import RunConfig
from deploy.wiring.policy_files import save_best
from deploy.wiring.stores import actor_streams
from deploy.wiring.task import enter, environment_maker
from learner.checkpoint import Checkpoints
from world_models.dreamer.acting import ActingModel
from world_models.dreamer.policy import DreamerPolicy
from world_models.snapshot import Snapshot
from world_models.space import Spaces

ASK = 5.0  # seconds that the coordinator may hold back an answer
FIRST_SNAPSHOT = 600.0  # seconds for the learner to start and publish
NEVER = 1 << 62  # updates
POLL = 0.1  # seconds between looks for a newer snapshot


class RaySnapshots:
    """A `SnapshotSource` that never makes its caller wait: it fetches in the background and at most every 0.1 s."""

    def __init__(self, coordinator: CoordinatorClient):
        self.coordinator = coordinator
        self._pending: ray.ObjectRef | None = None
        self._asked = 0.0

    def newest(self, after: int) -> Snapshot | None:
        if self._pending is None:
            if time.monotonic() - self._asked < POLL:
                return None
            self._pending, self._asked = self.coordinator.begin("newest", after), time.monotonic()
            if self._pending is None:
                return None
        ready, _ = ray.wait([self._pending], timeout=0)
        if not ready:
            return None
        snapshot, self._pending = self.coordinator.result(self._pending), None
        return snapshot if snapshot is not None and snapshot.version > after else None

    def first(self, beat: Heartbeat) -> Snapshot | None:
        """Wait for the first snapshot; None: the run ended before there was one."""
        deadline = time.monotonic() + FIRST_SNAPSHOT
        while time.monotonic() < deadline:
            if snapshot := self.coordinator.ask("newest", -1):
                return snapshot
            if self.coordinator.ask("stopping"):
                return None
            beat()
            time.sleep(POLL)
        raise TimeoutError(f"The learner published no policy within {FIRST_SNAPSHOT:g} s; see learner.log.")


class ActorWorker:
    """Environment worker number `actor`; each life writes streams of its own."""

    def __init__(
        self, config: RunConfig, spaces: tuple[Spaces, Spaces], actor: int, shards: Sequence[ActorHandle],
        directory: str,
    ):  # fmt: skip
        enter(directory)
        torch.set_num_threads(1)
        self.config, self.number, self.coordinator = config, actor, CoordinatorClient()
        self.beat = Heartbeat(self.coordinator, f"actor {actor}")
        self.beat()
        incarnation = self.coordinator.ask("incarnation", actor)
        store = connect_store(config, *spaces, shards, self.beat.waiting, self._note)
        self.actor = build_actor(
            config, ActingModel(*spaces, config.model), store, actor, config.actor.actors, incarnation,
            self.coordinator.ask("counters")["steps"],
        )  # fmt: skip
        self.actor.writer.renew = self._renew
        self.actor.snapshots = RaySnapshots(self.coordinator)
        self.block = config.actor.flush_steps

    def _renew(self, i: int) -> int:
        """A shard was restarted from a checkpoint and lacks what the stream of environment i wrote since."""
        incarnation = self.coordinator.ask("incarnation", self.number)
        return actor_streams(self.config, self.number, self.config.actor.actors, incarnation)[i]

    def _note(self, line: str) -> None:
        if "shard" not in line:  # the supervisor notices by itself which shards are down
            self.coordinator.begin("note", f"{self.beat.name}: {line}")

    def run(self) -> None:
        """Act until told to stop."""
        try:
            self._act()
        finally:
            self.actor.environments.close()

    def _act(self) -> None:
        actor = self.actor
        assert isinstance(actor.snapshots, RaySnapshots)
        snapshot = actor.snapshots.first(self.beat)
        if snapshot is None:
            return
        actor.policy.load(snapshot)
        report = self._report()
        rows = self.block * len(actor.streams)
        while True:
            verdict = self.coordinator.ask("report", report, rows, ASK, again=(self._report(), rows, ASK))
            if verdict == "stop":
                return
            report = self._report()
            if verdict == "wait":
                continue
            steps, frames = actor.steps, actor.frames
            episodes: list[Episode] = []
            for _ in range(self.block):
                episodes += [replace(episode, frames=episode.frames - frames) for episode in actor.step()]
                self.beat()
            actor.writer.flush()  # what is reported is stored, however long the next answer takes
            report = self._report(actor.steps - steps, actor.frames - frames, episodes)

    def _report(self, rows: int = 0, frames: int = 0, episodes: Sequence[Episode] = ()) -> ActorReport:
        return ActorReport(
            actor=self.beat.name, process=os.getpid(), rows=rows, frames=frames, version=self.actor.policy.version,
            episodes=list(episodes),
        )  # fmt: skip


class AudiblePolicy(DreamerPolicy):
    """Gives a sign of life with every action."""

    def __init__(self, model: ActingModel, seed: int, beat: Heartbeat):
        super().__init__(model, seed=seed)
        self.beat = beat

    def act(self, *arguments: Any) -> Any:
        self.beat()
        return super().act(*arguments)


class EvaluatorWorker:
    """Scores every `evaluation.every`-th update's policy beside training and keeps the best."""

    def __init__(self, config: RunConfig, spaces: tuple[Spaces, Spaces], logdir: str, directory: str):
        enter(directory)
        torch.set_num_threads(1)
        self.config, self.coordinator = config, CoordinatorClient()
        self.beat = Heartbeat(self.coordinator, "evaluator")
        self.model = ActingModel(*spaces, config.model)
        self.checkpoints = Checkpoints.of(Path(logdir))
        self.best = best_score(self.checkpoints)

    def run(self) -> None:
        """Evaluate until told to stop."""
        every, episodes = self.config.evaluation.every, self.config.evaluation.episodes
        makers = [environment_maker(self.config)] * min(episodes, PARALLEL)
        version, done = -1, 0
        while not self.coordinator.ask("stopping"):
            self.beat()
            snapshot = self.coordinator.ask("newest", version)
            if snapshot is None or snapshot.updates < (done + 1) * every:
                time.sleep(2 * POLL)
                continue
            version, done = snapshot.version, snapshot.updates // every
            policy = AudiblePolicy(self.model, self.config.seed + 1, self.beat)
            policy.load(snapshot)
            try:
                result = run_episodes(makers, policy, episodes, seed=self.config.seed + snapshot.updates)
            except EndlessEpisodeError as error:
                self.coordinator.ask("note", f"Training continues without evaluations: {error}")
                every = NEVER
                continue
            outcome: dict[str, Any] = {"mean": result.mean, "updates": snapshot.updates, "frames": snapshot.frames}
            if self.best is None or result.mean > self.best:
                self.best = result.mean
                save_best(self.checkpoints, self.config, self.model, outcome | {"episodes": episodes})
            outcome["episodes"] = [asdict(episode) for episode in result.episodes]
            self.coordinator.ask("evaluated", outcome)
