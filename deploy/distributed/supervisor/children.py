"""The processes of a local run, as the supervisor holds them, and how they are shut down."""

from collections.abc import Callable
from pathlib import Path

import ray
from ray.actor import ActorHandle

from deploy.distributed.coordinator_client import COORDINATOR
from deploy.distributed.messages import LEARNER, actor_name
from deploy.distributed.site import Site
from deploy.distributed.supervisor.coordinator_child import CoordinatorChild
from deploy.distributed.supervisor.fleet_children import FleetChildren
from deploy.distributed.supervisor.learner_child import LearnerChild
from deploy.distributed.supervisor.restart_log import RestartLog
from deploy.distributed.supervisor.scaling_log import ScalingLog
from deploy.distributed.supervisor.shard_children import ShardChildren
from deploy.distributed.supervisor.worker_child import WorkerChild
from deploy.run_failed import RunFailedError
from deploy.wiring.config import RunConfig
from deploy.wiring.stores import rolls_back, shard_names

STOPPING = 180.0  # seconds for the learner to save and end
ASKED = 5.0  # seconds until it is asked by a signal too, if its checkpoint does not depend on a shard
ACTORS_STOPPING = 10.0  # seconds for actors to flush their last rows


class Children:
    """All processes of a run. A process that has not been started yet is None or absent."""

    def __init__(self, config: RunConfig, logdir: Path, note: Callable[[str], None], site: Site):
        self.note, self.rolls_back, self.site = note, rolls_back(config), site
        self.actors_at_start = 0 if config.offline else config.actor.actors
        actors = [actor_name(number) for number in range(self.actors_at_start)]
        evaluators = ["evaluator"] if config.evaluation.every else []
        shards = shard_names(config) if config.replay.kind != "redis" else []
        self.restarts = RestartLog(logdir, [COORDINATOR, LEARNER, *actors, *evaluators, *shards])
        self.scaling = ScalingLog(logdir)
        self.shards: ShardChildren | None = None
        self.coordinator: CoordinatorChild | None = None
        self.fleet: FleetChildren | None = None
        self.evaluator: WorkerChild | None = None
        self.learner: LearnerChild | None = None

    @property
    def handles(self) -> list[ActorHandle]:
        """Of the workers that there are."""
        workers = [*(self.fleet.workers.values() if self.fleet else []), self.evaluator]
        return [one.handle for one in workers if one and one.handle]

    @property
    def learner_runs(self) -> bool:
        """The learner is alive, so it can still save."""
        return self.learner is not None and self.learner.process is not None and self.learner.process.poll() is None

    def stop(self, learns: bool) -> None:
        """Ask every process to stop and wait for the learner's last checkpoint. RunFailedError: it could not save.

        `learns`: the learner has reported since its last start, so the coordinator can reach it.
        """
        assert self.coordinator and self.learner
        try:
            self.coordinator.ask("stop")
        except RunFailedError as error:
            self.note(f"{error} Asking the learner to save by a signal instead.")
            self.learner.ask_to_end()
        hears = learns and not self.rolls_back  # one that is starting is ended by a signal
        self.learner.wait(STOPPING, ASKED if hears else STOPPING / 2)

    def end(self) -> None:
        """Shut down every process, and Ray."""
        for close in (self._end_learner, self._end_actors, self._close_shards, ray.shutdown):
            try:
                close()
            except Exception as error:  # the others must end too, and what was saved is saved
                self.note(f"Error while shutting down: {str(error).splitlines()[0]}")

    def _end_learner(self) -> None:
        if self.learner:
            self.learner.end()

    def _end_actors(self) -> None:
        """Actors flush their last rows when told to stop, if a shard is up; those that do not end are killed."""
        if self.fleet:
            self.fleet.end(0.0 if self.shards and self.shards.all_down else ACTORS_STOPPING)

    def _close_shards(self) -> None:
        if self.shards:
            self.shards.close()
