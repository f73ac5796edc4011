"""Starting the processes of a run, in the order in which they need each other."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ray.actor import ActorHandle

from deploy.distributed.coordinator_client import COORDINATOR
from deploy.distributed.learner_program import LearnerHandle
from deploy.distributed.messages import Limits, State, actor_name
from deploy.distributed.remote import start
from deploy.distributed.supervisor.children import Children
from deploy.distributed.supervisor.coordinator_child import CoordinatorChild
from deploy.distributed.supervisor.fleet_children import FleetChildren
from deploy.distributed.supervisor.learner_child import LearnerChild
from deploy.distributed.supervisor.restart_policy import SILENCE
from deploy.distributed.supervisor.shard_children import ShardChildren
from deploy.distributed.supervisor.worker_child import WorkerChild
from deploy.reports.scoreboard import Scoreboard
from deploy.stored.offline import fill, frames_per_update
from deploy.wiring.claim import Claim
from deploy.wiring.config import RunConfig
from deploy.wiring.fleet import Fleet
from deploy.wiring.incarnations import Incarnations
from deploy.wiring.stores import actor_streams, require_empty, require_room
from deploy.wiring.task import TaskSpaces, isolated
from learner.checkpoint import Checkpoints, read_document
from learner.sequence import sample_length, start_items
from replay.keys import newest_incarnation

MARGIN = 30.0  # seconds that an actor may need beside its environments


class Placement:
    """Fills `children` with the processes of the run that `claim` holds."""

    def __init__(
        self, config: RunConfig, spaces: TaskSpaces, claim: Claim, checkpoints: Checkpoints, board: Scoreboard,
        children: Children,
    ):  # fmt: skip
        self.config, self.spaces, self.claim, self.logdir = config, spaces, claim, claim.logdir
        self.checkpoints, self.board, self.children = checkpoints, board, children
        self.site = children.site
        self.lost: list[str] = []
        """Damaged parts of the offline replay that were left out."""

    def place(self) -> None:
        """Start everything. ValueError: the replay that is there does not fit."""
        restarted = self.children.restarts.add
        shards = ShardChildren(
            self.config, self.spaces, self.logdir, self.board.note, self.site.options("shard"), restarted
        )
        self.children.shards = shards
        path, counters = self._begin(shards)
        used = self._fit_replay(shards, counters)
        self.claim.confirm()
        self._place_coordinator(shards, counters, used)
        self._place_workers(shards)
        given = json.dumps(self.spaces.to_json())

        def begin(checkpoint: str) -> LearnerHandle:
            return self.site.start_learner(checkpoint, given)

        self.children.learner = LearnerChild(begin, self.logdir, self.board.note, restarted)
        self.children.learner.launch(path.name if path else "none")

    def _begin(self, shards: ShardChildren) -> tuple[Path | None, dict[str, int]]:
        """The checkpoint that every part of the run begins with, and its counters."""
        if not self.claim.continues:
            return None, {}
        path = shards.restore(self.checkpoints)
        if path is None:
            self.board.metrics.start_over(self.board.note)
            return None, {}
        counters = read_document(path / "state.json")["counters"]
        self.board.reload(counters["frames"], counters["updates"])
        self.board.note(f"Continuing {self.logdir} at {counters['frames']:,} frames, update {counters['updates']:,}.")
        return path, counters

    def _fit_replay(self, shards: ShardChildren, counters: Mapping[str, int]) -> int:
        """Require, or copy, the replay that the run begins with; returns the newest incarnation that has written."""
        config, actors = self.config, self.children.actors_at_start
        if config.offline:
            self.claim.confirm()  # a copy that is cut off goes on, and from this source alone
            self.lost = fill(shards.store, config, self.board.note)
        elif not self.claim.continues:
            require_empty(shards.store, config)
        used = max(counters.get("incarnation", -1), newest_incarnation(shards.store.streams()))
        next_life = Incarnations(self.logdir, used).last + 1
        lives = (actor_streams(config, number, actors, next_life) for number in range(actors))
        if not config.offline:
            require_room(shards.store, config, [stream for streams in lives for stream in streams])
        return used

    def _place_coordinator(self, shards: ShardChildren, counters: Mapping[str, int], used: int) -> None:
        config, children = self.config, self.children

        def begin(state: State) -> ActorHandle:
            state = replace(state, replay_size=int(shards.stats()[0]["steps"]))
            limits = limits_of(config, state.fleet.total(state.actors))
            return start(
                "deploy.distributed.coordinator.Coordinator", limits, Incarnations(self.logdir, used), state,
                threads=0, name=COORDINATOR, **self.site.options("coordinator"),
            )  # fmt: skip

        children.coordinator = CoordinatorChild(begin, self.board.note, children.restarts.add, self.site.lost)
        fleet = Fleet(config.actor.environments, config.actor.actors)
        children.coordinator.launch(
            State(counters=dict(counters), replay_size=0, fleet=fleet, actors=children.actors_at_start)
        )

    def _place_workers(self, shards: ShardChildren) -> None:
        config, spaces, children, site = self.config, self.spaces, self.children, self.site

        def actor(number: int) -> WorkerChild:
            def begin() -> ActorHandle:
                return start(
                    "deploy.distributed.workers.ActorWorker", config, spaces, number, shards.handles, site.directory,
                    threads=2, label=f"actor-{number}", **site.options("actor"),
                )  # fmt: skip

            return child(actor_name(number), begin, actor_silence(config))

        def evaluator() -> ActorHandle:
            return start(
                "deploy.distributed.workers.EvaluatorWorker", config, spaces, str(self.logdir), site.directory,
                label="evaluator", **site.options("evaluator"),
            )  # fmt: skip

        def child(name: str, begin: Callable[[], ActorHandle], silence: float = SILENCE) -> WorkerChild:
            note, restarted = self.board.note, children.restarts.add
            return WorkerChild(name, begin, self.logdir, note, restarted, site.awaits, silence)

        if config.evaluation.every:  # first: it has to be on the learner's node, which actors might fill
            children.evaluator = child("evaluator", evaluator)
            children.evaluator.launch()
        fleet, coordinator = Fleet(config.actor.environments, config.actor.actors), children.coordinator
        assert coordinator, "it is placed first"

        def forget(name: str) -> None:
            coordinator.tell("forget", name)

        children.fleet = FleetChildren(fleet, actor, self.board.note, config.actor.flush_steps, forget)
        children.fleet.scale(children.actors_at_start)


def limits_of(config: RunConfig, environments: int) -> Limits:
    """The coordinator's limits for so many environments: tolerance for the largest block and batch, and a least size
    at which enough sequences can be sampled."""
    learner = config.learner
    if config.offline:
        return Limits(samples_per_insert=0.0, tolerance=0.0, min_size=1, frames_per_update=frames_per_update(config))
    rows = config.actor.flush_steps * config.actor.environments
    least = rows * learner.train_ratio + learner.batch_size * learner.batch_length
    return Limits(
        samples_per_insert=learner.train_ratio,
        tolerance=config.replay.tolerance or least,
        min_size=start_items(learner) + environments * (sample_length(learner) - 1),
        max_lag=config.actor.max_lag,
        random_steps=config.actor.random_steps,
    )


def actor_silence(config: RunConfig) -> float:
    """Seconds without a sign of life after which an actor counts as hung. Between two signs it may step or reset each
    of its environments; one in a process of its own is given up by the actor itself."""
    if isolated(config):
        return SILENCE
    actor = config.actor
    each = -(-actor.environments // actor.actors)
    return min(SILENCE, each * max(actor.step_timeout, actor.reset_timeout) + MARGIN)
