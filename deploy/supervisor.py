"""A local run: Ray actors for environments and replay, one learner process, and this supervisor, which imports no
torch, owns the logs, and brings back whatever dies."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError

from deploy.config import RunConfig, claim_logdir
from deploy.coordinator import News
from deploy.interrupt import Interrupt
from deploy.ray_cluster import start_local
from deploy.ray_store import shard_names
from deploy.remote import ask, start
from deploy.scoreboard import Scoreboard
from deploy.task import replay_schema
from learner.checkpoint import Checkpoints, read_document
from learner.sequence import sample_length, start_items
from replay.keys import incarnation_of

TICK = 0.25  # seconds between looks at everything
SILENCE = 180.0  # seconds after which a mute actor counts as hung
STOPPING = 180.0  # seconds for the learner to save and end
RESTARTS = 5  # in a row without progress, then the run gives up
OBJECT_STORE = 512 * 1024**2


class RunFailedError(RuntimeError):
    """The run cannot go on; the message says why and what to do."""


@dataclass
class Supervised:
    """One process that is brought back when it dies."""

    start: Callable[[int], Any]
    """Start incarnation n."""
    incarnation: int = 0
    failures: int = 0
    died: float | None = None
    retry_at: float = 0.0
    handle: Any = None
    task: Any = None


class LocalRun:
    """Builds or continues the run in `logdir`; `run` trains until the budget is spent."""

    def __init__(self, config: RunConfig, logdir: Path):
        self.config, self.logdir = config, logdir.resolve()
        self.continues = claim_logdir(config, self.logdir)
        self.board = Scoreboard(config, self.logdir)
        self.checkpoints = Checkpoints(self.logdir / "checkpoints", config.keep_checkpoints)
        self.interrupt = Interrupt()
        self.namespace = f"nexus-{os.getpid()}"
        self.learner: subprocess.Popen | None = None
        self.learner_failures = 0
        self.learner_retry_at = 0.0
        self.frames = self.updates = 0
        self._updates_at_death = 0
        self._processes: dict[int, int] = {}

    def run(self) -> str:
        """Returns `done`, `solved` or `interrupted`. Raises RunFailedError."""
        with self.interrupt.listening(), self.board:
            counters = self._restored_counters() if self.continues else {}
            self.board.show(counters.get("frames", 0), 0, counters.get("updates", 0), 0, {}, "starting Ray")
            self.address = start_local(self.namespace, OBJECT_STORE)
            try:
                self._start(counters)
                self._watch()
                self._end()
            except RayError as error:
                raise RunFailedError(
                    f"Ray failed: {str(error).splitlines()[0]} The checkpoints in {self.checkpoints.directory} are "
                    "whole; the same command continues."
                ) from error
            finally:
                if self.learner and self.learner.poll() is None:
                    self.learner.terminate()
                    try:
                        self.learner.wait(10)
                    except subprocess.TimeoutExpired:
                        self.learner.kill()
                ray.shutdown()
        return "interrupted" if self.interrupt.asked else "solved" if self.board.solved() else "done"

    def _restored_counters(self) -> dict[str, int]:
        newest = self.checkpoints.newest(self.board.note)
        if newest is None:
            self.board.note(f"{self.logdir} has no checkpoint yet: the run begins anew.")
            self.board.metrics.truncate(frames=-1, updates=-1)
            return {}
        counters = read_document(newest / "state.json")["counters"]
        self.board.reload(counters["frames"], counters["updates"])
        self.board.note(f"Continuing {self.logdir} at {counters['frames']:,} frames, update {counters['updates']:,}.")
        return counters

    def _start(self, counters: dict[str, int]) -> None:
        config, logdir, here = self.config, str(self.logdir), os.getcwd()
        count, light = config.actor.actors, 0.05
        heavy = max(0.01, min(1.0, ((os.cpu_count() or 1) - light * (config.replay.shards + 2)) / (count + 1)))
        probe = start("deploy.task.Probe", here, cpus=light)
        spaces = ask(probe, "spaces", config, timeout=300)
        ray.kill(probe)
        observation, action = spaces
        schema = replay_schema(observation, action, config.model)
        self.shards = [
            start("deploy.ray_store.ShardServer", name, schema, config, logdir,
                  cpus=light, threads=8, name=name, restarts=-1)
            for name in shard_names(config.replay.shards)
        ]  # fmt: skip
        stats = [ask(shard, "do", "stats", timeout=600) for shard in self.shards]
        for problem in {problem for shard in self.shards for problem in ask(shard, "problems")}:
            self.board.note(problem)
        streams = [stream for shard in self.shards for stream in ask(shard, "do", "streams")]
        # Environments never write into the streams of an earlier life of this run.
        incarnation = 1 + max(map(incarnation_of, streams)) if streams else 0
        self.coordinator = start(
            "deploy.coordinator.Coordinator", *self._limits(), counters, int(sum(each["steps"] for each in stats)),
            cpus=light, threads=count + 8, name="coordinator",
        )  # fmt: skip

        def actor(number: int) -> Callable[[int], ActorHandle]:
            return lambda life: start(
                "deploy.ray_workers.ActorWorker", config, spaces, number, life, self.coordinator, self.shards, here,
                cpus=heavy, threads=2,
            )  # fmt: skip

        self.actors = {number: Supervised(start=actor(number), incarnation=incarnation) for number in range(count)}
        self.evaluator = Supervised(
            start=lambda life: start(
                "deploy.ray_workers.EvaluatorWorker", config, spaces, self.coordinator, logdir, self.board.best, here,
                cpus=heavy,
            )
        ) if config.evaluation.every else None  # fmt: skip
        for one in [*self.actors.values(), *([self.evaluator] if self.evaluator else [])]:
            self._launch(one)
        self._launch_learner()

    def _limits(self) -> tuple[float, float, int]:
        """Ratio, tolerance and least size of the rate limiter: room for the largest block and batch."""
        config, learner = self.config, self.config.learner
        rows = config.actor.flush_steps * config.actor.environments
        least = rows * learner.train_ratio + learner.batch_size * learner.batch_length
        streams = config.actor.environments
        return (
            learner.train_ratio,
            config.replay.tolerance or least,
            start_items(learner) + streams * (sample_length(learner) - 1),
        )

    def _launch(self, one: Supervised) -> None:
        one.handle = one.start(one.incarnation)
        one.task = one.handle.call.remote("run")

    def _launch_learner(self) -> None:
        log = (self.logdir / "learner.log").open("ab")
        with log:
            self.learner = subprocess.Popen(
                [
                    sys.executable,
                    "-u",
                    "-P",
                    "-m",
                    "deploy.learner_process",
                    str(self.logdir),
                    self.address,
                    self.namespace,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _watch(self) -> None:
        """Until the run is over: take news, write logs, bring back the dead."""
        news: News = ask(self.coordinator, "news")
        batch = self.config.learner.batch_size * self.config.learner.batch_length
        self.board.begin(news.frames, news.updates * batch)
        while not self.interrupt.asked and not self.board.solved() and news.frames < self.config.frames:
            time.sleep(TICK)
            news = self._take_news(batch)
            self._check_learner()
            for number, process in news.processes.items():
                if self._processes.get(number) != process:
                    self.board.note(f"actor {number} runs as process {process}.")
            self._processes |= news.processes
            for number, one in self.actors.items():
                self._check(one, f"actor {number}", news.last_seen.get(number), number)
            if self.evaluator:
                self._check(self.evaluator, "evaluator", None, None)

    def _take_news(self, batch: int) -> News:
        news: News = ask(self.coordinator, "news")
        self.frames, self.updates = news.frames, news.updates
        self.board.lag = news.lag
        for episode in news.episodes:
            self.board.episode(news.frames, news.updates, score=episode.score, length=episode.length, seed=episode.seed)
        for result in news.evaluations:
            episodes = result["episodes"]
            columns = {key: [episode[key] for episode in episodes] for key in ("score", "length", "seed")}
            self.board.evaluation(news.frames, result["updates"], columns["score"], columns["length"], columns["seed"])
        replay = self._replay_stats()
        for updates, values in news.logs:
            self.board.loss = values.get("loss/total")
            limiter = {f"limiter/{key}": value for key, value in news.waiting.items()}
            self.board.log(news.frames, news.steps, updates, updates * batch, replay, values | limiter)
        doing = "training" if news.updates else "filling replay"
        self.board.show(news.frames, news.steps, news.updates, news.updates * batch, replay, doing)
        return news

    def _replay_stats(self) -> dict[str, float]:
        try:
            asked = [shard.call.remote("do", "stats") for shard in self.shards]
            each: list[dict[str, float]] = ray.get(asked, timeout=10)
        except RayError:  # a shard is being restarted; the display can wait
            return {"items": 0.0, "gb": 0.0, "age": 0.0}
        total = {key: float(sum(stats[key] for stats in each)) for key in ("items", "gb")}
        return total | {"age": sum(s["age"] * s["items"] for s in each) / max(1.0, total["items"])}

    def _check(self, one: Supervised, name: str, silent: float | None, number: int | None) -> None:
        """Bring back a Ray actor whose task has ended, or that has been mute for too long."""
        if one.task is None:
            if time.monotonic() >= one.retry_at:
                self._launch(one)
            return
        if one.died is not None and silent is not None and silent < time.monotonic() - one.died:
            self.board.note(f"{name} is back after {time.monotonic() - one.died:.1f} s.")
            one.died, one.failures = None, 0
        ready, _ = ray.wait([one.task], timeout=0)
        if silent is not None and silent > SILENCE and not ready:
            self.board.note(f"{name} has been silent for {silent:.0f} s; it is killed and restarted.")
            ray.kill(one.handle)
        if not ready:
            return
        try:
            ray.get(one.task)
            reason = "it ended by itself"
        except RayActorError as error:
            reason = str(error).splitlines()[0]
        except RayError as error:
            reason = str(error)
        one.failures += 1
        one.died = time.monotonic()
        one.incarnation += 1
        one.task = None
        one.retry_at = time.monotonic() + (0 if one.failures == 1 else min(30.0, 2.0**one.failures))
        if number is not None:
            ask(self.coordinator, "forget", number)
        if one.failures > RESTARTS:
            raise RunFailedError(f"{name} failed {one.failures} times in a row; the last time: {reason}")
        self.board.note(f"{name} died ({reason}); restarting it.")

    def _check_learner(self) -> None:
        if self.learner is None:
            if time.monotonic() >= self.learner_retry_at:
                self._launch_learner()
            return
        code = self.learner.poll()
        if code is None:
            if self.updates > self._updates_at_death:
                self.learner_failures = 0
            return
        tail = _tail(self.logdir / "learner.log")
        if code == 3:
            raise RunFailedError(f"Training diverged. {tail}")
        if code == 4:
            raise RunFailedError(f"{tail} The checkpoints there are whole; free some space and give the same command.")
        self.learner_failures += 1
        if self.learner_failures > RESTARTS:
            raise RunFailedError(f"The learner failed {self.learner_failures} times in a row. {tail}")
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        last = self.checkpoints.numbers()
        self.board.note(
            f"the learner died ({how}); restarting it from " + (f"checkpoint {last[-1]}." if last else "the beginning.")
        )
        self.learner = None
        self._updates_at_death = self.updates
        self.learner_retry_at = time.monotonic() + (0 if self.learner_failures == 1 else 2.0**self.learner_failures)

    def _end(self) -> None:
        """Stop everybody and wait for the learner's last checkpoint."""
        self.board.show(self.frames, 0, self.updates, 0, {}, "saving")
        ask(self.coordinator, "stop")
        if self.learner is None:
            return
        try:
            code = self.learner.wait(STOPPING)
        except subprocess.TimeoutExpired as error:
            raise RunFailedError(f"The learner has not saved within {STOPPING:g} s; see learner.log.") from error
        if code:
            raise RunFailedError(f"The learner could not save (exit code {code}). {_tail(self.logdir / 'learner.log')}")
        batch = self.config.learner.batch_size * self.config.learner.batch_length
        self._take_news(batch)


def _tail(path: Path, lines: int = 12) -> str:
    try:
        text = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return f"The end of {path}:\n" + "\n".join(text[-lines:])
