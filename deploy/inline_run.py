"""A run in one process: actor and learner take turns, and everything repeats bit for bit on a CPU."""

import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch

from actors.actor import Actor
from actors.evaluation import PARALLEL, EndlessEpisodeError, run_episodes
from deploy.interrupt import Interrupt
from deploy.reports.health.measuring import health_metrics
from deploy.reports.open_loop import open_loop_due, open_loop_metrics
from deploy.reports.scoreboard import Scoreboard
from deploy.run_failed import RunFailedError
from deploy.stored.offline import fill, frames_per_update
from deploy.wiring.build import (
    acting_part,
    build_actor,
    build_agent,
    build_learner,
    build_policy,
    load_initial,
)
from deploy.wiring.config import RunConfig, claim_logdir, rooted
from deploy.wiring.fleet import Assignment, Fleet
from deploy.wiring.incarnations import Incarnations
from deploy.wiring.policy_files import model_document, save_best
from deploy.wiring.stores import actor_streams, inline_store, require_empty, require_room, rolls_back
from deploy.wiring.task import FirstEnvironment, environment_maker, pool_maker, replay_schema
from deploy.wiring.transfer import prepare, shapes_of
from learner.checkpoint import Checkpoints, read_arrays, read_document
from learner.gpu import gpu_metrics
from learner.train_ratio import TrainRatio
from replay.keys import newest_incarnation
from world_models.checkpoint_files import WEIGHTS
from world_models.parameters import as_arrays, load_parameters


class InlineRun:
    """Builds or continues the run in `logdir`."""

    def __init__(self, config: RunConfig, logdir: Path, environment: FirstEnvironment | None = None):
        """`environment`: the first of the run's, if its spaces were needed before."""
        self.claim, self.rolls_back = claim_logdir(config, logdir), rolls_back(config)
        self.config, self.logdir = config, logdir = rooted(config), logdir.absolute()
        torch.set_num_threads(config.learner.threads or max(1, torch.get_num_threads() - 1))
        self.first_environment = environment or FirstEnvironment(config)
        observation, action = self.first_environment.spaces
        if config.offline:
            self.first_environment.close()
        self.agent = build_agent(config, observation, action)
        self.start = prepare(config, self.claim, lambda source: source.require_fit(shapes_of(as_arrays(self.agent))))
        """What the agent starts with, in words."""
        self.board = Scoreboard(config, logdir)
        self.interrupt = Interrupt()
        schema = replay_schema(observation, action, config.model)
        self.store = inline_store(schema, config, self.board.note, self.interrupt.waiting)
        self.learner = build_learner(config, self.agent, self.store, logdir)
        for line in self.learner.step.remarks:
            self.board.note(line)
        self.acting = acting_part(config, observation, action, self.agent)
        learner = config.learner
        self.ratio = TrainRatio(learner.train_ratio / (learner.batch_size * learner.batch_length))
        self.due = 0
        self.checkpoints = Checkpoints.of(logdir, config.keep_checkpoints)
        self.latest: dict[str, Any] = {}
        self.endless = False  # evaluation episodes are
        self.incarnations: Incarnations | None = None
        self.lost: list[str] = []
        """Damaged parts of the offline replay that were left out."""

    def run(self) -> str:
        """Train until the budget is spent; returns how it ended: `done`, `solved` or `interrupted`.

        RunFailedError: the environment broke, and the run has been saved. OSError: a checkpoint or log cannot be
        written; earlier checkpoints stay whole.
        """
        with self.interrupt.listening(), self.board, closing(self.store), ExitStack() as ending:
            ending.callback(self.first_environment.close)
            path = self._checkpoint() if self.claim.continues else None
            if path is None:
                load_initial(self.config, self.agent, self.logdir)
            if self.start:
                self.board.note(self.start)
            if not (self.claim.continues or self.config.offline):
                require_empty(self.store, self.config)
            self.actor = self._build_actor(read_document(path / "state.json").get("incarnation", -1) if path else -1)
            ending.callback(self.actor.environments.close)
            if not self.config.offline:
                require_room(self.store, self.config, self.actor.streams)
            if path:
                self.restore(path)
            self.claim.confirm()
            if self.config.offline:
                self.lost = fill(self.store, self.config, self.board.note)
            self.board.begin(self.frames, self.learner.replayed)
            try:
                while (self.due or self.frames < self.config.frames) and not self.board.solved():
                    if self.interrupt.asked:
                        break
                    self._turn()
            except ValueError as error:  # the environment broke, in training or evaluation
                self._show()
                self.save()
                self.board.note(f"Saved at update {self.learner.updates:,}; the same command continues from there.")
                raise RunFailedError(str(error)) from error
            self._show()  # the newest counts
            self.board.busy("saving")
            self.save()
            self.board.end()
        return "interrupted" if self.interrupt.asked else "solved" if self.board.solved() else "done"

    def _build_actor(self, used: int) -> Actor:
        """An actor whose streams no earlier life of the run has written to, unless replay rolls back; `used`: the
        newest incarnation that the checkpoint knows."""
        if self.rolls_back or self.config.offline:
            return self._actor(0)
        used = max(used, newest_incarnation(self.store.streams()))
        self.incarnations = incarnations = Incarnations(self.logdir, used)
        actor = self._actor(incarnations.next(0))
        actor.writer.renew = lambda i: actor_streams(self.config, 0, 1, incarnations.next(0))[i]
        return actor

    def _actor(self, incarnation: int) -> Actor:
        actor = self.config.actor
        assignment = Assignment(incarnation, Fleet(actor.environments, 1).share(0), actor.random_steps)
        return build_actor(self.config, self.acting, self.store, assignment, make=self.first_environment)

    def _turn(self) -> None:
        """One update if one is due, else one step of every environment."""
        if self.due or self.config.offline:
            self.latest = self.learner.update()
            self.due = max(0, self.due - 1)
            self.actor.policy.version = self.learner.updates
            self._after_update()
            return
        for episode in self.actor.step():
            self.board.episode(episode, self.learner.updates)
        if self.learner.ready():
            self.due = self.ratio(self.actor.steps)
        if self.actor.calls % 16 == 0:
            self._show()

    def _after_update(self) -> None:
        updates, config = self.learner.updates, self.config
        if updates % config.log_every == 0:
            report: dict[str, float] = {}
            if open_loop_due(config, updates):
                begun = time.perf_counter()
                report = open_loop_metrics(self.learner, config, self.logdir, self.board.note)
                report |= health_metrics(self.learner, config, self.logdir, self.frames, self.board.note, begun)
            values = self.latest | report | gpu_metrics(self.learner.step.device)
            self.board.log(*self._counters(), self.store.stats(), values)
        if config.evaluation.every and updates % config.evaluation.every == 0 and not self.endless:
            self.evaluate()
        if self.checkpoints.due(updates, config.checkpoint_every, config.checkpoint_seconds):
            self.save()
        self._show()

    @property
    def frames(self) -> int:
        """Frames of the environments, or frames replayed if the run is offline."""
        return self.learner.updates * frames_per_update(self.config) or self.actor.frames

    def _counters(self) -> tuple[int, int, int, int]:
        steps = len(self.store) if self.config.offline else self.actor.steps
        return self.frames, steps, self.learner.updates, self.learner.replayed

    def _show(self) -> None:
        if self.config.metrics_port:
            self.board.exported.update(self.frames, self.learner.updates, self.store.each_stats(), self.store.down)
        self.board.loss = float(self.latest["loss/total"]) if self.latest else None
        self.board.show(*self._counters(), self.store.stats(), "training" if self.latest else "filling replay")

    def evaluate(self) -> None:
        """Score the policy on separate episodes; keep it if it is the best so far."""
        updates, episodes = self.learner.updates, self.config.evaluation.episodes
        policy = build_policy(self.config, self.acting, self.config.seed + 1)
        makers = [environment_maker(self.config)] * min(episodes, PARALLEL)
        if not self.board.episodes and not self.config.offline:
            return  # none has ended yet, so an evaluation would take even longer
        try:
            seed = self.config.seed + updates
            check = self.config.environment.check_steps
            result = run_episodes(
                makers, policy, episodes, seed, actions=self.config.actor.actions, pool=pool_maker(self.config),
                check=check,
            )  # fmt: skip
        except EndlessEpisodeError as error:
            self.endless = True
            self.board.note(f"Training continues without evaluations: {error}")
            return
        if self.board.evaluation(self.frames, updates, result.episodes):
            score = {"mean": result.mean, "episodes": episodes, "updates": updates, "frames": self.frames,
                     "protocol": result.protocol}  # fmt: skip
            save_best(self.checkpoints, self.config, self.acting, score)

    def save(self) -> None:
        """Write a checkpoint of everything."""
        counters, arrays = self.actor.state()
        state = {"actor": counters, "ratio": self.ratio.state(), "due": self.due, "board": self.board.state()}
        if self.incarnations:
            state["incarnation"] = self.incarnations.last
        document = model_document(self.config, self.agent.observation_space, self.agent.action_space)
        self.checkpoints.save(
            self.learner.updates,
            {"model": as_arrays(self.agent), "training": self.learner.state(), "actor": arrays},
            {"config": document, "state": state},
            (lambda folder: self.store.checkpoint(folder / "replay")) if self.rolls_back else None,
        )

    def _checkpoint(self) -> Path | None:
        """The newest whole checkpoint, with replay restored from it if it rolls back; None: the run starts over."""
        if not self.rolls_back:
            path = self.checkpoints.newest(self.board.note)
        elif not (path := self.checkpoints.newest(self.board.note, lambda path: self.store.restore(path / "replay"))):
            self.store.clear()
        if path is None:
            self.board.metrics.start_over(self.board.note)
        return path

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint, in new streams with new episodes unless replay was restored with it."""
        load_parameters(self.agent, read_arrays(path / WEIGHTS), path / WEIGHTS)
        self.learner.load(read_arrays(path / "training.safetensors"))
        state = read_document(path / "state.json")
        if self.rolls_back:
            for problem in self.actor.load(state["actor"], read_arrays(path / "actor.safetensors")):
                self.board.note(problem)
        else:
            self.actor.go_on(state["actor"])
        self.ratio.load(state["ratio"])
        self.due = state["due"]
        self.board.load(state["board"])
        self.board.note(f"Continuing {self.logdir} at {self.frames:,} frames, update {self.learner.updates:,}.")
