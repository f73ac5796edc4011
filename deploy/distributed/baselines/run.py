"""A baseline run: RLlib's algorithm in this process, the logs and checkpoints of a Nexus run."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np
import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm

from actors.batch_environment import Episode, episode_seed
from deploy.distributed.baselines import learner_state
from deploy.distributed.baselines.algorithms import build
from deploy.distributed.baselines.environment import BaselineEnvironment, Layout
from deploy.distributed.baselines.playing import play
from deploy.distributed.baselines.policy import BaselinePolicy
from deploy.distributed.baselines.replay import MODULE, ArraySAC
from deploy.distributed.ray_cluster import LEAST_STORE, start_local
from deploy.interrupt import Interrupt
from deploy.reports.scoreboard import Scoreboard
from deploy.run_failed import RunFailedError
from deploy.wiring.baselines import FREE, BaselineConfig, rooted
from deploy.wiring.claim import claim
from deploy.wiring.task import FirstEnvironment
from learner.checkpoint import Checkpoints, read_arrays, read_document

WEIGHTS, REPLAY, STATE = "weights", "replay", "state"


class BaselineRun:
    """Builds or continues the run in `logdir`. ValueError: the task does not fit the method, or the logdir."""

    def __init__(self, config: BaselineConfig, logdir: Path, environment: FirstEnvironment) -> None:
        self.claim = claim(rooted(config), logdir.absolute(), FREE)
        self.config, self.logdir = self.claim.config, logdir.absolute()
        self.as_run = self.config.as_run
        self.first_environment = environment
        self.layout = Layout(config.task, environment.spaces.observation, environment.spaces.action)
        self.board = Scoreboard(self.as_run, self.logdir)
        self.interrupt = Interrupt()
        self.checkpoints = Checkpoints.of(self.logdir, config.keep_checkpoints)
        self.environments: list[BaselineEnvironment] = []
        self.updates = 0  # after the last iteration
        self._before = 0  # steps of earlier processes of this run

    def run(self) -> str:
        """Train until the budget is spent; returns how it ended: `done`, `solved` or `interrupted`.

        RunFailedError: Ray did not start, or the environment broke and the run has been saved.
        """
        board = self.board
        with self.interrupt.listening(), board, ExitStack() as ending:
            ending.callback(self.first_environment.close)
            path = self._checkpoint() if self.claim.continues else None
            board.starting(0, 0, "starting Ray")
            ending.callback(ray.shutdown)
            try:
                start_local("nexus-baseline", LEAST_STORE)
            except Exception as error:  # Ray raises no narrower one if a part of it is not up in time
                raise RunFailedError(f"Ray did not start: {error} The same command tries again.") from error
            with self.interrupt.listening():  # again: Ray has put a SIGTERM handler of its own in place
                torch.set_num_threads(self.config.threads)
                self.algorithm: Algorithm = build(self.config, self._environment)
                ending.callback(self.algorithm.stop)
                self.module = learner_state.module(self.algorithm)
                if path:
                    self._restore(path)
                self.claim.confirm()
                board.begin(self.frames, self.updates * self.config.update_size)
                try:
                    while self.frames < self.config.frames and not board.solved() and not self.interrupt.asked:
                        self._turn()
                except ValueError as error:  # the environment broke, in training or evaluation
                    self.save()
                    board.note(f"Saved at update {self.updates:,}; the same command continues from there.")
                    raise RunFailedError(str(error)) from error
                board.busy("saving")
                self.save()
                board.end()
        return "interrupted" if self.interrupt.asked else "solved" if board.solved() else "done"

    @property
    def frames(self) -> int:
        return self._steps() * (self.environments[0].frames_per_step if self.environments else 1)

    def _steps(self) -> int:
        return self._before + sum(environment.steps for environment in self.environments)

    def _environment(self) -> BaselineEnvironment:
        """The next environment of the run."""
        made = BaselineEnvironment(
            self.config.task, self.first_environment, self.config.seed, len(self.environments), self._ended
        )
        self.environments.append(made)
        return made

    def _ended(self, episode: Episode) -> None:
        self.board.episode(replace(episode, frames=self.frames), self.updates)

    def _turn(self) -> None:
        """One of RLlib's iterations, and what is due after it."""
        steps, updates, config = self._steps(), self.updates, self.config
        result = self.algorithm.train()
        self.updates = learner_state.updates(self.algorithm)
        values = losses(result.get("learners", {}).get(MODULE, {}))
        self.board.loss = values.get("loss/total", self.board.loss)
        if crossed(steps, self._steps(), config.log_every):
            self.board.log(*self._counters(), self._replay(), values | {"cpu_seconds": time.process_time()})
        if config.evaluation.every and crossed(updates, self.updates, config.evaluation.every):
            self.evaluate()
        if crossed(steps, self._steps(), config.checkpoint_every):
            self.save()
        self._show("training" if self.updates else "filling replay")

    def _counters(self) -> tuple[int, int, int, int]:
        """Frames, steps, updates, replayed steps."""
        return self.frames, self._steps(), self.updates, self.updates * self.config.update_size

    def _replay(self) -> dict[str, float]:
        replay = self.algorithm.replay if isinstance(self.algorithm, ArraySAC) else None
        items = len(replay) if replay else 0  # they are drawn uniformly, so on average half as old as the oldest
        return {"items": items, "age": items / 2, "gb": replay.gb if replay else 0.0}

    def _show(self, doing: str) -> None:
        self.board.show(*self._counters(), self._replay(), doing)

    def evaluate(self) -> None:
        """Score the policy on separate episodes."""
        played = play(self.config, self.policy(self.config.seed + 1), self.config.evaluation.episodes,
                      self.config.seed + self.updates)  # fmt: skip
        self.board.evaluation(self.frames, self.updates, played.episodes)

    def policy(self, seed: int) -> BaselinePolicy:
        """The policy as it is now."""
        return BaselinePolicy(self.module, self.layout, seed)

    @property
    def newest(self) -> Path:
        """Where the newest checkpoint is."""
        return self.checkpoints.path(self.updates)

    def save(self) -> None:
        """Write a checkpoint of everything but the open episodes."""
        arrays = {WEIGHTS: learner_state.arrays(self.algorithm)}
        state: dict[str, Any] = {"steps": self._steps(), "board": self.board.state()}
        state["episodes"] = [environment.episode for environment in self.environments]
        if isinstance(self.algorithm, ArraySAC):
            arrays[REPLAY] = self.algorithm.replay.arrays()
        self.checkpoints.save(self.updates, arrays, {STATE: state})

    def _checkpoint(self) -> Path | None:
        """The newest whole checkpoint; None: the run starts over."""
        path = self.checkpoints.newest(self.board.note)
        if path is None:
            self.board.metrics.start_over(self.board.note)
        return path

    def _restore(self, path: Path) -> None:
        """Continue from a checkpoint, with new episodes."""
        learner_state.load(self.algorithm, read_arrays(path / f"{WEIGHTS}.safetensors"))
        state = read_document(path / f"{STATE}.json")
        if isinstance(self.algorithm, ArraySAC):
            self.algorithm.replay.load(read_arrays(path / f"{REPLAY}.safetensors"))
        for environment, episode in zip(self.environments, state["episodes"], strict=True):
            environment.episode = episode
        self._before, self.updates = state["steps"], learner_state.updates(self.algorithm)
        torch.manual_seed(episode_seed(self.config.seed, 0, self.updates))  # not the draws of the first process again
        self.board.load(state["board"])
        self.board.note(f"Continuing {self.logdir} at {self.frames:,} frames, update {self.updates:,}.")


def losses(results: Mapping[str, Any]) -> dict[str, float]:
    """RLlib's results of an update as metrics: `loss/NAME` for each loss, `NAME` for any other number."""
    found = {}
    for name, value in results.items():
        if np.ndim(value) == 0 and isinstance(value, SupportsFloat) and not name.startswith(("num_", "diff_")):
            loss = f"loss/{name.removesuffix('_loss')}" if name.endswith("_loss") else name
            found[loss.removeprefix("default_optimizer_")] = float(value)
    return found


def crossed(before: int, after: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, after]."""
    return after // every > before // every
