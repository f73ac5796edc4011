"""What runs inside the Ray actors of a run: environment workers and the evaluator."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from ray.actor import ActorHandle

from actors.batch_environment import Episode
from actors.environment import Environment
from actors.evaluation import PARALLEL, EndlessEpisodeError, run_episodes
from actors.faults import BrokenEnvironmentError
from actors.trivial_policies import Policy
from deploy.distributed.coordinator_client import CoordinatorClient
from deploy.distributed.messages import HELD, NO_ENVIRONMENTS, ActorReport, Answer, Published, actor_name
from deploy.distributed.remote import Heartbeat
from deploy.distributed.shard_client import connect_store
from deploy.distributed.snapshots import SnapshotFetcher, first_snapshot
from deploy.reports.scoreboard import best_score
from deploy.wiring.build import acting_part, build_actor, build_policy
from deploy.wiring.config import RunConfig
from deploy.wiring.fleet import Assignment
from deploy.wiring.policy_files import save_best
from deploy.wiring.task import actor_environment_maker, enter, isolated, pool_maker
from learner.checkpoint import Checkpoints
from replay.keys import stream_id
from world_models.space import Spaces

ASK = 5.0  # seconds that the coordinator may hold back an answer to the learner, and that a snapshot may take
NEVER = 1 << 62  # updates
POLL = 0.1  # seconds between looks for a newer snapshot


class ActorWorker:
    """Environment worker number `worker`; each life writes streams of its own."""

    def __init__(
        self, config: RunConfig, spaces: tuple[Spaces, Spaces], worker: int, shards: Sequence[ActorHandle],
        directory: str,
    ):  # fmt: skip
        enter(directory)
        torch.set_num_threads(1)
        self.config, self.worker, self.coordinator = config, worker, CoordinatorClient()
        self.beat = Heartbeat(self.coordinator, actor_name(worker))
        self.beat()
        self.assignment: Assignment = self.coordinator.ask("enlist", worker)
        if not self.assignment.share.indices:  # all are quarantined
            return
        store = connect_store(config, *spaces, shards, self.beat.waiting, self._note)
        make = _audible_maker(config, self.beat)
        self.actor = build_actor(config, acting_part(config, *spaces), store, self.assignment, worker, make)
        self.actor.writer.renew = self._renew
        self.snapshots = self.actor.snapshots = SnapshotFetcher(self._note)
        self.block = config.actor.flush_steps

    def _renew(self, i: int) -> int:
        """A new stream for environment i, which was made again, or whose stream a shard has lost in part."""
        return stream_id(self.worker, self.coordinator.ask("incarnation", self.worker), self.assignment.share.slots[i])

    def _note(self, line: str) -> None:
        if "shard" not in line:  # the supervisor notices by itself which shards are down
            self.coordinator.begin("note", f"{self.beat.name}: {line}")

    def run(self) -> str:
        """Act until told to stop, or until all environments are quarantined (NO_ENVIRONMENTS)."""
        if not self.assignment.share.indices:
            return NO_ENVIRONMENTS
        try:
            return self._act()
        finally:
            self.actor.environments.close()

    def _act(self) -> str:
        actor = self.actor
        snapshot = first_snapshot(self.coordinator, self.snapshots, self.beat)
        if snapshot is None:
            return "stopped"
        actor.policy.update(snapshot)
        report, most = self._report(), 1
        unused = 0  # rows that it was allowed to insert and that no environment was there for
        while environments := len(actor.streams) - actor.environments.quarantined:
            rows = self.block * environments
            if unused >= rows:
                rows, most = 0, 1
            answer: Answer = self.coordinator.ask(
                "report", report, rows, HELD, most, again=(self._report(), rows, HELD, most)
            )
            self.beat.rest()
            self.snapshots.offer(answer.published)
            if answer.verdict == "stop":
                return "stopped"
            if answer.verdict == "wait":
                if newer := self.snapshots.wait(actor.policy.version, ASK if answer.published else 0.0):
                    actor.policy.update(newer)
                report = self._report()
                continue
            steps, frames, begun = actor.steps, actor.frames, time.monotonic()
            episodes = self._step_blocks(answer.blocks)
            unused += rows * answer.blocks - (actor.steps - steps)
            report = self._report(actor.steps - steps, actor.frames - frames, episodes)
            most = answer.most(time.monotonic() - begun)
        self.coordinator.ask("report", report, 0, 0.0, again=(self._report(), 0, 0.0))
        return NO_ENVIRONMENTS

    def _step_blocks(self, blocks: int) -> list[Episode]:
        """Step and store blocks of rows; returns the episodes that ended, their frames counted from its begin. It
        returns early if no environment is there."""
        actor, frames = self.actor, self.actor.frames
        episodes: list[Episode] = []
        for _ in range(self.block * blocks):
            episodes += [replace(episode, frames=episode.frames - frames) for episode in actor.step()]
            self._tell_faults()
            self.beat()
            if not actor.environments.there.any():
                break
        actor.writer.flush()  # what is reported is stored, however long the next answer takes
        return episodes

    def _tell_faults(self) -> None:
        for fault in self.actor.environments.faults():
            self.coordinator.ask("failed", fault.env_index, self.worker, fault.kind, fault.text)
            if fault.quarantined:
                self.coordinator.ask("quarantine", fault.env_index, fault.text.partition("\n")[0])

    def _report(self, rows: int = 0, frames: int = 0, episodes: Sequence[Episode] = ()) -> ActorReport:
        return ActorReport(
            worker=self.worker, process=os.getpid(), node=self.beat.node, rows=rows, frames=frames,
            version=self.actor.policy.version, episodes=list(episodes),
        )  # fmt: skip


def _audible_maker(config: RunConfig, beat: Heartbeat) -> Callable[[], Environment]:
    """`actor_environment_maker` with signs of life: as long as it takes if it has a limit of its own, else one at the
    begin of each environment, so that one that hangs is noticed."""
    make, limited = actor_environment_maker(config), isolated(config)

    def make_audibly() -> Environment:
        beat()
        with beat.waiting() if limited else nullcontext():
            return make()

    return make_audibly


class AudiblePolicy:
    """Gives a sign of life with every action."""

    def __init__(self, policy: Policy, beat: Heartbeat):
        self.policy, self.beat, self.initial = policy, beat, policy.initial

    def act(self, *arguments: Any) -> Any:
        self.beat()
        return self.policy.act(*arguments)


class EvaluatorWorker:
    """Scores every `evaluation.every`-th update's policy beside training and keeps the best."""

    def __init__(self, config: RunConfig, spaces: tuple[Spaces, Spaces], logdir: str, directory: str):
        enter(directory)
        torch.set_num_threads(1)
        self.config, self.coordinator = config, CoordinatorClient()
        self.beat = Heartbeat(self.coordinator, "evaluator")
        self.model = acting_part(config, *spaces)
        self.checkpoints = Checkpoints.of(Path(logdir))
        self.best = best_score(self.checkpoints)
        self.snapshots = SnapshotFetcher()

    def run(self) -> None:
        """Evaluate until told to stop."""
        every, episodes = self.config.evaluation.every, self.config.evaluation.episodes
        makers = [_audible_maker(self.config, self.beat)] * min(episodes, PARALLEL)
        version, done = -1, 0
        while not self.coordinator.ask("stopping"):
            self.beat()
            newest: Published | None = self.coordinator.ask("newest", version)
            if newest is None or newest.snapshot.updates < (done + 1) * every:
                time.sleep(2 * POLL)
                continue
            self.snapshots.offer(newest)
            snapshot = self.snapshots.wait(version, ASK)
            if snapshot is None:
                continue
            version, done = snapshot.version, snapshot.updates // every
            policy = build_policy(self.config, self.model, self.config.seed + 1)
            policy.update(snapshot)
            try:
                seed = self.config.seed + snapshot.updates
                pool, check = pool_maker(self.config, threads=1), self.config.environment.check_steps
                result = run_episodes(
                    makers, AudiblePolicy(policy, self.beat), episodes, seed, pool=pool, check=check,
                    actions=self.config.actor.actions,
                )  # fmt: skip
            except EndlessEpisodeError as error:
                self.coordinator.ask("note", f"Training continues without evaluations: {error}")
                every = NEVER
                continue
            except BrokenEnvironmentError as error:
                self.coordinator.ask("note", f"The evaluation at update {snapshot.updates:,} is left out: {error}")
                continue
            outcome: dict[str, Any] = {"mean": result.mean, "updates": snapshot.updates, "frames": snapshot.frames}
            if self.best is None or result.mean > self.best:
                self.best = result.mean
                kept = outcome | {"episodes": episodes, "protocol": result.protocol}
                save_best(self.checkpoints, self.config, self.model, kept)
            outcome["episodes"] = [asdict(episode) for episode in result.episodes]
            self.coordinator.ask("evaluated", outcome)
