"""A local run: Ray actors for environments and replay, one learner process, and this supervisor, which imports no
torch, owns the logs, and brings back whatever dies."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from deploy.distributed.coordinator import LEARNER, News
from deploy.distributed.coordinator_client import COORDINATOR
from deploy.distributed.ray_cluster import lost_part, object_store_bytes, start_local
from deploy.distributed.remote import ask, start
from deploy.distributed.supervisor.coordinator_child import CoordinatorChild
from deploy.distributed.supervisor.learner_child import LearnerChild
from deploy.distributed.supervisor.restart_log import RestartLog
from deploy.distributed.supervisor.shard_children import ShardChildren
from deploy.distributed.supervisor.worker_child import WorkerChild
from deploy.interrupt import Interrupt
from deploy.reports.scoreboard import Scoreboard
from deploy.run_failed import RunFailedError
from deploy.stored.offline import fill, frames_per_update
from deploy.wiring.config import RunConfig, claim_logdir, load_config, rooted
from deploy.wiring.incarnations import Incarnations
from deploy.wiring.stores import actor_streams, require_empty, require_room, rolls_back, shard_names
from learner.checkpoint import Checkpoints, continuation, read_document
from learner.sequence import sample_length, start_items
from replay.keys import newest_incarnation
from world_models.checkpoint_files import RUN_CONFIG

TICK = 0.25  # seconds between looks at everything
STOPPING = 180.0  # seconds for the learner to save and end
ASKED = 5.0  # seconds after which it is asked by a signal too, where its checkpoint needs no shard to wait for
ACTORS_STOPPING = 10.0  # seconds for actors to flush their last rows
BLOCKS = 4  # of rows that each environment of an actor must give before the actor's failures are forgotten


def rows_of_work(config: RunConfig, actor: int) -> int:
    """Rows by which an actor has shown that it works."""
    environments = len(range(actor, config.actor.environments, config.actor.actors))
    return BLOCKS * config.actor.flush_steps * environments


class LocalRun:
    """Builds or continues the run in `logdir`; `run` trains until the budget is spent."""

    def __init__(self, config: RunConfig, logdir: Path):
        self.claim = claim_logdir(config, logdir.resolve())
        self.config, self.logdir = rooted(config), logdir.resolve()
        self.board = Scoreboard(config, self.logdir)
        self.checkpoints = Checkpoints(self.logdir / "checkpoints", config.keep_checkpoints)
        self.interrupt = Interrupt()
        self.namespace = f"nexus-{os.getpid()}"
        self.learner: LearnerChild | None = None
        self._shards: ShardChildren | None = None
        self.actors: list[WorkerChild] = []
        self.evaluator: WorkerChild | None = None
        self.frames = self.updates = 0
        self._processes: dict[str, int] = {}
        self._saved = -1  # updates of the newest checkpoint
        self._learns = False  # the learner has been heard of since its last start
        self._config_time = 0  # of the configuration's last change
        self.lost: list[str] = []
        """What of the replay to learn from offline is damaged and was left out."""

    def run(self) -> str:
        """Returns `done`, `solved` or `interrupted`. Raises RunFailedError, once the learner has saved."""
        with self.interrupt.listening(), self.board:
            self.board.starting(*self._last_counters(), "starting Ray")
            self.address = start_local(self.namespace, object_store_bytes(self.config.model))
            with self.interrupt.listening():  # again: Ray has put a SIGTERM handler of its own in place
                self._live()
        return "interrupted" if self.interrupt.asked else "solved" if self.board.solved() else "done"

    def _last_counters(self) -> tuple[int, int]:
        """Frames and updates of the newest checkpoint, as far as it says; they are for the display alone."""
        numbers = self.checkpoints.numbers() if self.claim.continues else []
        try:
            counters = read_document(self.checkpoints.path(numbers[-1]) / "state.json")["counters"]
            return int(counters["frames"]), int(counters["updates"])
        except (LookupError, TypeError, ValueError):
            return 0, 0

    def _live(self) -> None:
        ending = False
        try:
            self._start()
            self._watch()
            ending = True
            self._end()
        except Exception as error:
            if not ending:
                self._save()
            if isinstance(error, RayError):
                raise RunFailedError(
                    f"Ray failed: {str(error).splitlines()[0]} The same command "
                    f"{continuation(max(self.checkpoints.numbers(), default=-1))}."
                ) from error
            raise
        finally:
            for close in (self._end_learner, self._end_actors, self._close_shards, ray.shutdown):
                try:
                    close()
                except Exception as error:  # the others must end too, and what was saved is saved
                    self.board.note(f"While ending: {str(error).splitlines()[0]}")

    def _end_learner(self) -> None:
        if self.learner:
            self.learner.end()

    def _end_actors(self) -> None:
        """They flush what they have when the coordinator says stop, to shards that are up; those that do not end are
        stopped."""
        tasks = [one.task for one in self.actors if one.task is not None]
        if tasks and not (self._shards and self._shards.all_down):
            ray.wait(tasks, num_returns=len(tasks), timeout=ACTORS_STOPPING)
        for one in self.actors:
            if one.handle is not None:
                ray.kill(one.handle)

    def _close_shards(self) -> None:
        if self._shards:
            self._shards.close()

    def _save(self) -> None:
        """The run is about to fail: what was learned so far is kept where that is possible."""
        if self.learner is None or self.learner.process is None or self.learner.process.poll() is not None:
            return
        try:
            self._end()
        except Exception as second:
            self.board.note(f"Nothing more could be saved: {str(second).splitlines()[0]}")
        else:
            newest = max(self.checkpoints.numbers(), default=0)
            self.board.note(f"Saved at update {newest:,}; the same command continues from there.")

    def _begin(self, shards: ShardChildren) -> tuple[Path | None, dict[str, int]]:
        """The checkpoint that every part of the run begins with, and its counters."""
        if not self.claim.continues:
            return None, {}
        path = shards.restore(self.checkpoints)
        if path is None:
            self.board.note(f"{self.logdir} has no checkpoint yet: the run begins anew.")
            self.board.metrics.truncate(frames=-1, updates=-1)
            return None, {}
        counters = read_document(path / "state.json")["counters"]
        self.board.reload(counters["frames"], counters["updates"])
        self.board.note(f"Continuing {self.logdir} at {counters['frames']:,} frames, update {counters['updates']:,}.")
        return path, counters

    def _start(self) -> None:
        config, logdir, here, note = self.config, str(self.logdir), os.getcwd(), self.board.note
        count, light = 0 if config.offline else config.actor.actors, 0.05
        heavy = max(0.01, min(1.0, ((os.cpu_count() or 1) - light * (len(shard_names(config)) + 2)) / (count + 1)))
        probe = start("deploy.wiring.task.Probe", here, cpus=light)
        spaces = ask(probe, "spaces", config, timeout=300)
        ray.kill(probe)
        actors = [f"actor {number}" for number in range(count)]
        shards = shard_names(config) if config.replay.kind != "redis" else []
        evaluators = ["evaluator"] if config.evaluation.every else []
        self.restarts = RestartLog(self.logdir, [COORDINATOR, LEARNER, *actors, *evaluators, *shards])
        restarted = self.restarts.add
        self._shards = ShardChildren(config, spaces, self.logdir, note, light, restarted)
        path, counters = self._begin(self.shards)
        if config.offline:
            self.claim.confirm()  # a copy that is cut off goes on, and from this source alone
            self.lost = fill(self.shards.store, config, note)
        elif not self.claim.continues:
            require_empty(self.shards.store, config)
        used = max(counters.get("incarnation", -1), newest_incarnation(self.shards.store.streams()))
        next_life = Incarnations(self.logdir, used).last + 1
        lives = (actor_streams(config, number, count, next_life) for number in range(count))
        if not config.offline:
            require_room(self.shards.store, config, [stream for streams in lives for stream in streams])
        self.claim.confirm()
        self._config_time = (self.logdir / RUN_CONFIG).stat().st_mtime_ns

        def coordinator(counters: Mapping[str, int], known: list[str]) -> ActorHandle:
            return start(
                "deploy.distributed.coordinator.Coordinator", *self._limits(), counters,
                int(self.shards.stats()[0]["steps"]), Incarnations(self.logdir, used), frames_per_update(config), known,
                cpus=light, threads=count + 8, name=COORDINATOR,
            )  # fmt: skip

        self.coordinator = CoordinatorChild(coordinator, note, restarted)
        self.coordinator.launch(counters)

        def actor(number: int) -> Callable[[], ActorHandle]:
            return lambda: start(
                "deploy.distributed.workers.ActorWorker", config, spaces, number, self.shards.handles, here,
                cpus=heavy, threads=2, label=f"actor-{number}",
            )  # fmt: skip

        def evaluator() -> ActorHandle:
            return start(
                "deploy.distributed.workers.EvaluatorWorker", config, spaces, logdir, here, cpus=heavy,
                label="evaluator",
            )  # fmt: skip

        self.actors = [WorkerChild(name, actor(i), self.logdir, note, restarted) for i, name in enumerate(actors)]
        if config.evaluation.every:
            self.evaluator = WorkerChild("evaluator", evaluator, self.logdir, note, restarted)
        for one in [*self.actors, *([self.evaluator] if self.evaluator else [])]:
            one.launch()
        command = [sys.executable, "-u", "-P", "-m", "deploy.distributed.learner_process"]
        command += [logdir, self.address, self.namespace, str(os.getpid())]
        self.learner = LearnerChild(command, self.logdir, note, restarted)
        self.learner.launch(path.name if path else "none")

    @property
    def shards(self) -> ShardChildren:
        """Of a run that has started."""
        assert self._shards
        return self._shards

    def _limits(self) -> tuple[float, float, int]:
        """Ratio, tolerance and least size of the rate limiter: room for the largest block and batch."""
        config, learner = self.config, self.config.learner
        if config.offline:
            return 0.0, 0.0, 1
        rows = config.actor.flush_steps * config.actor.environments
        least = rows * learner.train_ratio + learner.batch_size * learner.batch_length
        streams = config.actor.environments
        return (
            learner.train_ratio,
            config.replay.tolerance or least,
            start_items(learner) + streams * (sample_length(learner) - 1),
        )

    def _watch(self) -> None:
        """Until the run is over: take news, write logs, bring back the dead."""
        news = self.coordinator.news()
        batch = self.config.learner.batch_size * self.config.learner.batch_length
        self.board.begin(news.frames, news.updates * batch)
        while not self.interrupt.asked and not self.board.solved() and news.frames < self.config.frames:
            time.sleep(TICK)
            if lost := lost_part():
                raise RunFailedError(f"Ray cannot go on: its {lost} has ended. The same command continues.")
            self._take_changes()
            news = self._take_news(batch)
            self._check(news)

    def _take_changes(self) -> None:
        """Take over a train ratio or tolerance that was edited in config.yaml while the run goes on."""
        try:
            changed = (self.logdir / RUN_CONFIG).stat().st_mtime_ns
            if changed == self._config_time:
                return
            self._config_time = changed
            asked = load_config(self.logdir)
        except FileNotFoundError:  # an editor is about to put it back
            return
        except (OSError, ValueError, TypeError) as error:
            self.board.note(f"{RUN_CONFIG} is not taken over: {error}")
            return
        ratio, tolerance = asked.learner.train_ratio, asked.replay.tolerance
        if (ratio, tolerance) == (self.config.learner.train_ratio, self.config.replay.tolerance) or asked.offline:
            return
        self.config = replace(
            self.config, learner=replace(self.config.learner, train_ratio=ratio),
            replay=replace(self.config.replay, tolerance=tolerance),
        )  # fmt: skip
        self.coordinator.ask("set_ratio", *self._limits()[:2])
        self.board.note(
            f"Train ratio {ratio:g} and tolerance {self._limits()[1]:g} from here on, as {RUN_CONFIG} says."
        )

    def _check(self, news: News) -> None:
        assert self.learner
        saved = max(self.checkpoints.numbers(), default=-1)
        if saved > self._saved:
            self._saved = saved
            self.shards.saved()
            self.coordinator.restarts.worked()
        self._learns = LEARNER in news.last_seen
        if self.learner.check(saved, news.last_seen.get(LEARNER)):
            self.coordinator.ask("forget", LEARNER)
        for name, process in news.processes.items():
            if self._processes.get(name) != process:
                self.board.note(f"{name} runs as process {process}.")
        self._processes |= news.processes
        for i, one in enumerate(self.actors):
            self._check_one(one, news, news.rows.get(one.name, 0) >= rows_of_work(self.config, i))
        if self.evaluator:
            try:
                self._check_one(self.evaluator, news, bool(news.evaluations))
            except RunFailedError as error:
                self.board.note(f"Training goes on without evaluations: {error}")
                self.evaluator = None

    def _check_one(self, one: WorkerChild, news: News, worked: bool) -> None:
        if one.check(news.last_seen.get(one.name), worked, news.processes.get(one.name)):
            self.coordinator.ask("forget", one.name)

    def _take_news(self, batch: int) -> News:
        news = self.coordinator.news()
        self.frames, self.updates = news.frames, news.updates
        self.board.lag = news.lag
        for note in news.notes:
            self.board.note(note)
        if news.rewound is not None:
            self.board.rewind(news.rewound)
        for episode, updates in news.episodes:
            self.board.episode(episode, updates)
        for result in news.evaluations:
            episodes = result["episodes"]
            columns = [[episode[key] for episode in episodes] for key in ("score", "length", "seed")]
            self.board.evaluation(result["frames"], result["updates"], *columns)
        replay, restarted = self.shards.stats()
        if restarted:
            self.coordinator.ask("replay_lost", int(replay["steps"]))
        restarts = self.restarts.metrics()
        for line in news.logs:
            self.board.loss = line.values.get("loss/total")
            limiter = {f"limiter/{key}": value for key, value in news.waiting.items()}
            values = line.values | limiter | restarts
            self.board.log(line.frames, line.steps, line.updates, line.updates * batch, replay, values)
        self.board.exported.update(
            news.frames, news.updates, self.shards.each, self.shards.down, news.waiting, self.restarts.counts
        )
        doing = "training" if news.updates else "filling replay"
        self.board.show(news.frames, news.steps, news.updates, news.updates * batch, replay, doing)
        return news

    def _end(self) -> None:
        """Stop everybody and wait for the learner's last checkpoint."""
        assert self.learner
        self.board.busy("saving")
        try:
            self.coordinator.ask("stop")
        except RunFailedError as error:
            self.board.note(f"{error} The learner is asked to save by a signal.")
            self.learner.ask_to_end()
        hears = self._learns and not rolls_back(self.config)  # one that is starting is ended by a signal
        self.learner.wait(STOPPING, ASKED if hears else STOPPING / 2)
        if not lost_part():
            self._take_news(self.config.learner.batch_size * self.config.learner.batch_length)
        self.board.end()
