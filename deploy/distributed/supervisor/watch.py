"""Watching a local run: its news are logged, changes to its configuration applied, dead processes restarted."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actors.batch_environment import Episode
from deploy.distributed.messages import LEARNER, News
from deploy.distributed.supervisor.autoscaler import Autoscaler
from deploy.distributed.supervisor.children import Children
from deploy.distributed.supervisor.environment_faults import EnvironmentFaults, failure_counts
from deploy.distributed.supervisor.placement import limits_of
from deploy.distributed.supervisor.run_state import RunState
from deploy.distributed.supervisor.scaling_log import AUTOSCALE, REQUEST
from deploy.distributed.supervisor.steering import Steering, with_ratio
from deploy.distributed.supervisor.worker_child import WorkerChild
from deploy.reports.scoreboard import Scoreboard
from deploy.run_failed import RunFailedError
from deploy.stored.control import ControlFolder
from deploy.wiring.config import RunConfig, load_config
from deploy.wiring.config_file import save_config
from learner.checkpoint import Checkpoints
from world_models.checkpoint_files import RUN_CONFIG

TICK = 0.25  # seconds between looks at everything


class Watch:
    """Watches `children`, all of which have been started."""

    def __init__(
        self, config: RunConfig, logdir: Path, checkpoints: Checkpoints, board: Scoreboard, children: Children,
        state: RunState, control: ControlFolder,
    ):  # fmt: skip
        assert children.shards and children.coordinator and children.learner and children.fleet, "not all are started"
        self.config, self.logdir, self.checkpoints, self.board = config, logdir, checkpoints, board
        self.children, self.shards = children, children.shards
        self.coordinator, self.learner = children.coordinator, children.learner
        self.fleet, self.state = children.fleet, state
        self.faults = EnvironmentFaults(logdir, board.note)
        if config.mode == "cluster":  # nobody else reaches the Ray of a local run
            state.show = lambda status: self.coordinator.tell("show", status)
        self.autoscaler = Autoscaler(config, self.fleet, self._autoscale)
        self.steering = Steering(
            control, self.coordinator.ask, self.coordinator.ask_checkpoint, self.fleet.fleet.most, self._scale_to,
            self._turn_autoscaler_on, self._configure,
        )  # fmt: skip
        self.learns = False
        """The learner has reported since its last start."""
        self._batch = config.learner.batch_size * config.learner.batch_length
        self._processes: dict[str, tuple[int, str]] = {}
        self._saved = -1  # updates of the newest checkpoint
        self._config_time = 0  # modification time of the configuration as last read

    def until_over(self, asked: Callable[[], bool]) -> None:
        """Watch until the budget is spent, the task is solved or `asked` is true. RunFailedError: it cannot go on."""
        news = self.coordinator.news()
        self.board.begin(news.frames, news.updates * self._batch)
        while not (asked() or self.steering.stopped or self.board.solved() or news.frames >= self.config.frames):
            time.sleep(TICK)
            if lost := self.children.site.lost():
                raise RunFailedError(f"{lost}, so the run cannot go on. The same command continues it.")
            self._take_changes()
            news = self.take_news()
            self._check(news)
            self.steering.attend(news, self.config)
            self.autoscaler.attend(news)
            self.show_state(news)

    def show_state(self, news: News) -> None:
        """Write `status.json` if it is due."""
        requests, autoscale = list(self.steering.last), self.autoscaler.status()
        self.state.update(self.config, news, self.children, self._saved, requests, autoscale)

    def take_news(self) -> News:
        """Log what has happened since the last call."""
        news, board = self.coordinator.news(), self.board
        board.lag, board.lag_seconds = news.lag, news.lag_seconds
        for note in news.notes:
            board.note(note)
        self.faults.take(news.failures, news.state.quarantined)
        if news.rewound is not None:
            board.rewind(news.rewound)
        for episode, updates in news.episodes:
            board.episode(episode, updates)
        for result in news.evaluations:
            board.evaluation(result["frames"], result["updates"], [Episode(**one) for one in result["episodes"]])
        replay, changed = self.shards.stats()
        if changed:
            self.coordinator.ask("replay_lost", int(replay["steps"]))
        restarts = self.children.restarts
        failed = failure_counts(news.counters)
        failures = {f"failures/{kind}": count for kind, count in failed.items()}
        for line in news.logs:
            board.loss = line.values.get("loss/total")
            limiter = {f"limiter/{key}": value for key, value in news.waiting.items()}
            fleet = {
                "fleet/asked": self.fleet.target, "fleet/actors": self.fleet.running,
                "fleet/environments": self.fleet.environments, **self.children.scaling.metrics(),
            }  # fmt: skip
            values = line.values | limiter | restarts.metrics() | failures | fleet
            board.log(line.frames, line.steps, line.updates, line.updates * self._batch, replay, values)
        board.exported.update(
            news.frames, news.updates, self.shards.each, self.shards.down, news.waiting, restarts.counts, failed,
            (news.lag, news.lag_seconds), {"asked": self.fleet.target, "running": self.fleet.running},
            self.children.scaling.counts,
        )  # fmt: skip
        doing = "training" if news.updates else "filling replay"
        board.show(news.frames, news.steps, news.updates, news.updates * self._batch, replay, doing)
        return news

    def _take_changes(self) -> None:
        """Apply a train ratio or tolerance that was edited in config.yaml during the run."""
        try:
            changed = (self.logdir / RUN_CONFIG).stat().st_mtime_ns
            if changed == self._config_time:
                return
            self._config_time = changed
            asked = load_config(self.logdir)
        except FileNotFoundError:  # an editor is about to put it back
            return
        except (OSError, ValueError, TypeError) as error:
            self.board.note(f"The change to {RUN_CONFIG} is ignored: {error}")
            return
        ratio, tolerance = asked.learner.train_ratio, asked.replay.tolerance
        if (ratio, tolerance) == (self.config.learner.train_ratio, self.config.replay.tolerance) or asked.offline:
            return
        try:
            config = with_ratio(self.config, ratio, tolerance)
        except ValueError as error:  # too small for the actors that there are
            self.board.note(f"The change to {RUN_CONFIG} is ignored: {error}")
        else:
            self._set_ratio(config, f"{RUN_CONFIG} has changed")

    def _set_ratio(self, config: RunConfig, why: str) -> None:
        new = limits_of(config, self.fleet.environments)
        self.coordinator.set_ratio(new.samples_per_insert, new.tolerance)
        self.config, self.board.progress.train_ratio = config, config.learner.train_ratio
        self.board.note(
            f"{why}: the train ratio is now {config.learner.train_ratio:g}, the tolerance {new.tolerance:g}."
        )

    def _configure(self, config: RunConfig) -> None:
        """Change the train ratio on request, and in config.yaml, whose other edits are for the next start.

        ValueError: it cannot be written; nothing has changed."""
        stored = with_ratio(load_config(self.logdir), config.learner.train_ratio, config.replay.tolerance)
        try:
            save_config(stored, self.logdir)
            self._config_time = (self.logdir / RUN_CONFIG).stat().st_mtime_ns
        except OSError as error:
            raise ValueError(f"{self.logdir / RUN_CONFIG} cannot be written: {error.strerror}.") from error
        self._set_ratio(config, "on request")

    def _scale_to(self, actors: int) -> dict[str, Any]:
        """Change the number of actors on request, for good."""
        answer = self._scale(actors, REQUEST)
        if self.autoscaler.on:
            self.autoscaler.turn(False)
            self.board.note("the number of actors is no longer chosen by the run.")
        return answer

    def _turn_autoscaler_on(self) -> dict[str, Any]:
        self.autoscaler.turn(True)
        least, most = self.autoscaler.policy.least, self.autoscaler.policy.most
        self.board.note(f"on request: the run chooses the number of actors, {least} to {most}.")
        return {"autoscale": [least, most]}

    def _autoscale(self, actors: int, reason: str) -> None:
        self._scale(actors, AUTOSCALE, reason)

    def _scale(self, actors: int, by: str, reason: str = "on request") -> dict[str, Any]:
        """Change the number of actors."""
        fleet = self.fleet
        answer = {"actors": [fleet.target, actors], "environments": [fleet.environments, fleet.fleet.total(actors)]}
        self.coordinator.scale(actors, limits_of(self.config, fleet.fleet.total(actors)).min_size)
        fleet.scale(actors)
        before, now = answer["environments"]
        self.children.scaling.add(answer["actors"][0], actors, by, reason)
        self.board.note(f"{reason}: {answer['actors'][0]} -> {actors} actors, {before} -> {now} environments.")
        return answer

    def _check(self, news: News) -> None:
        saved = max(self.checkpoints.numbers(), default=-1)
        if saved > self._saved:
            self._saved = saved
            self.shards.saved()
            self.coordinator.restarts.worked()
        self.learns = LEARNER in news.last_seen
        if self.learner.check(saved, news.last_seen.get(LEARNER)):
            self.coordinator.ask("forget", LEARNER)
        for name, process in news.processes.items():
            node = news.nodes.get(name, "")
            if self._processes.get(name) != (process, node):
                self._processes[name] = process, node
                host = self.children.site.host(node)
                self.board.note(f"{name} runs as process {process}{host and f' on {host}'}.")
        self.faults.require_some(news.state)
        for name in self.fleet.check(news):
            self.coordinator.ask("forget", name)
        if self.children.evaluator:
            try:
                self._check_worker(self.children.evaluator, news, bool(news.evaluations))
            except RunFailedError as error:
                self.board.note(f"Training continues without evaluations: {error}")
                self.children.evaluator = None

    def _check_worker(self, one: WorkerChild, news: News, worked: bool) -> None:
        if one.check(news.last_seen.get(one.name), worked):
            self.coordinator.ask("forget", one.name)
