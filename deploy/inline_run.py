"""A run in one process: actor and learner take turns, and everything repeats bit for bit on a CPU."""

import errno
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from deploy.build import build_actor, build_agent, faults, memory_store, replay_schema, spaces_of
from deploy.config import RunConfig, claim_logdir
from deploy.metrics import MetricsWriter
from deploy.progress import Progress, Status
from learner.checkpoint import Checkpoints, as_tensors, read_document, read_tensors
from learner.learner import Learner
from learner.train_ratio import TrainRatio
from world_models.dataclass_json import to_json
from world_models.dreamer.acting import ActingModel

RECENT = 20  # training episodes in the displayed score


class Interrupted:
    """Set by Ctrl-C or SIGTERM; the run then saves and ends. A second Ctrl-C ends it at once."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator["Interrupted"]:
        def ask(number: int, frame: FrameType | None) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class InlineRun:
    """Builds or continues the run in `logdir`."""

    def __init__(self, config: RunConfig, logdir: Path):
        self.config, self.logdir = config, logdir
        self.continues = claim_logdir(config, logdir)
        torch.set_num_threads(config.learner.threads or max(1, torch.get_num_threads() - 1))
        observation, action = spaces_of(config)
        self.agent = build_agent(config, observation, action)
        self.store = memory_store(replay_schema(observation, action, config.model), config)
        self.learner = Learner(self.agent, config.learner, self.store, seed=config.seed, faults=faults(logdir))
        self.actor = build_actor(config, ActingModel.sharing(self.agent), self.store)
        learner = config.learner
        self.ratio = TrainRatio(learner.train_ratio / (learner.batch_size * learner.batch_length))
        self.due = 0
        self.episodes = 0
        self.scores: deque[float] = deque(maxlen=RECENT)
        self.checkpoints = Checkpoints(logdir / "checkpoints", config.keep_checkpoints)
        self.metrics = MetricsWriter(logdir)
        self.latest: dict[str, Any] = {}
        self.interrupted = Interrupted()
        self.progress = Progress(
            task=config.task, total_frames=config.frames, train_ratio=learner.train_ratio, title=str(logdir)
        )

    def run(self) -> str:
        """Train until the budget is spent; returns how it ended: `done` or `interrupted`."""
        with self.interrupted.listening(), self.progress, self.metrics:
            if self.continues:
                self.restore()
            self._began, self._counted = time.monotonic(), (self.actor.frames, self.learner.replayed)
            try:
                while self.due or self.actor.frames < self.config.frames:
                    if self.interrupted.asked:
                        break
                    self._turn()
                self.save()
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                raise SystemExit(
                    f"The disk is full ({error.filename or self.logdir}). The run has stopped; the checkpoints in "
                    f"{self.checkpoints.directory} are whole. Free some space and give the same command to continue."
                ) from error
        return "interrupted" if self.interrupted.asked else "done"

    def _turn(self) -> None:
        """One update if one is due, else one step of every environment."""
        if self.due:
            self.latest = self.learner.update()
            self.due -= 1
            self.actor.policy.version = self.learner.updates
            self._after_update()
            return
        for episode in self.actor.step():
            self.episodes += 1
            self.scores.append(episode.score)
            self.metrics.episode(
                self.actor.frames, self.learner.updates,
                score=episode.score, length=episode.length, seed=episode.seed, kind="train",
            )  # fmt: skip
        if self.learner.ready():
            self.due = self.ratio(self.actor.steps)
        if self.actor.calls % 16 == 0:
            self._show()

    def _after_update(self) -> None:
        updates, config = self.learner.updates, self.config
        if updates % config.log_every == 0:
            self._log()
        if updates % config.checkpoint_every == 0:
            self.save()
        self._show()

    def _show(self) -> None:
        seconds = max(1e-9, time.monotonic() - self._began)
        stats = self.store.stats()
        self.progress.update(
            Status(
                frames=self.actor.frames,
                updates=self.learner.updates,
                episodes=self.episodes,
                score=self._score(),
                fps_env=(self.actor.frames - self._counted[0]) / seconds,
                fps_train=(self.learner.replayed - self._counted[1]) / seconds,
                train_ratio=self.learner.replayed / max(1, self.actor.steps),
                policy_lag=0.0,
                replay_items=int(stats["items"]),
                replay_gb=stats["gb"],
                loss=float(self.latest["loss/total"]) if self.latest else None,
                doing="training" if self.latest else "filling replay",
            )
        )

    def _score(self) -> float | None:
        return sum(self.scores) / len(self.scores) if self.scores else None

    def _log(self) -> None:
        seconds = max(1e-9, time.monotonic() - self._began)
        stats = self.store.stats()
        values: dict[str, Any] = {f"train/{key}": value for key, value in self.latest.items()}
        values |= {
            "fps/env": (self.actor.frames - self._counted[0]) / seconds,
            "fps/train": (self.learner.replayed - self._counted[1]) / seconds,
            "policy/lag": 0,
            "replay/ratio": self.learner.replayed / max(1, self.actor.steps),
            "replay/age": stats["age"],
            "replay/size_gb": stats["gb"],
            "replay/items": stats["items"],
        }
        if self.scores:
            values["episode/score"] = self._score()
        self.metrics.metrics(self.actor.frames, self.learner.updates, values)

    def save(self) -> None:
        """Write a checkpoint of everything."""
        counters, arrays = self.actor.state()
        agent = self.agent
        spaces = {"observation": agent.observation_space, "action": agent.action_space}
        model = {name: {key: space.to_json() for key, space in group.items()} for name, group in spaces.items()}
        state = {
            "actor": counters, "ratio": self.ratio.state(), "due": self.due, "episodes": self.episodes,
            "scores": list(self.scores), "metrics": self.metrics.state(),
        }  # fmt: skip
        self.checkpoints.save(
            self.learner.updates,
            {"model": agent.state_dict(), "training": self.learner.state(), "actor": as_tensors(arrays)},
            {"config": model | {"task": self.config.task, "model": to_json(self.config.model)}, "state": state},
            lambda folder: self.store.checkpoint(folder / "replay"),
        )

    def restore(self) -> None:
        """Continue from the newest whole checkpoint; without one the run begins anew."""
        path = self.checkpoints.newest(self.progress.note)
        if path is None:
            self.progress.note(f"{self.logdir} has no checkpoint yet: the run begins anew.")
            self.metrics.truncate(frames=-1, updates=-1)
            return
        self.agent.load_state_dict(read_tensors(path / "model.safetensors"))
        self.learner.load(read_tensors(path / "training.safetensors"))
        self.store.restore(path / "replay")
        state = read_document(path / "state.json")
        arrays = {key: value.numpy() for key, value in read_tensors(path / "actor.safetensors").items()}
        for problem in self.actor.load(state["actor"], arrays):
            self.progress.note(problem)
        self.ratio.load(state["ratio"])
        self.due, self.episodes = state["due"], state["episodes"]
        self.scores.extend(state["scores"])
        self.metrics.load(state["metrics"])
        self.progress.note(f"Continuing {self.logdir} at {self.actor.frames} frames, update {self.learner.updates}.")
