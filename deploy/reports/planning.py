"""Scores of a planner over a world model, beside those of its own actor and of random actions."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from actors.evaluation import PARALLEL, Actions, Evaluation, describe_metrics, run_episodes
from actors.policies.planner_policy import PlannerPolicy
from actors.policy import load_policy
from actors.trivial_policies import Arrays, Policy, RandomPolicy
from deploy.reports.episode_progress import EpisodeProgress
from deploy.reports.summary import describe_protocol
from deploy.wiring.config import RunConfig, load_config
from deploy.wiring.output_path import require_writable_file
from deploy.wiring.task import environment_maker, pool_maker, spaces_of
from replay.files.whole_file import whole_file
from world_models.checkpoint_files import run_of
from world_models.dataclass_json import to_json
from world_models.loading import LoadedModel, load_world_model
from world_models.model_document import ModelDocument
from world_models.planning.action_blocks import ActionBlocks
from world_models.planning.costs import RewardCost
from world_models.planning.objective import Cost
from world_models.planning.plan import Planner
from world_models.planning.planners import make_planner
from world_models.protocol import PlanningModel
from world_models.space import Spaces

WITH_VALUE = 5
"""Steps planned ahead where the value of the last state stands for what follows: errors of the model add up."""


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """What `nexus plan` is asked for."""

    planner: str = "cem"
    options: dict[str, int] = field(default_factory=dict)
    """Fields of the planner that differ from its defaults."""
    block: int = 1
    goal: str = ""
    every_step: bool = False
    deadline: int | None = None
    replan_every: int = 1
    pessimism: float = 0.0
    bootstrap: bool = True
    task: str = ""
    episodes: int = 20
    seed: int = 1_000_000
    compare: bool = True


class TimedPolicy:
    """Counts the seconds that a policy takes for its actions."""

    def __init__(self, policy: Policy, clock: Callable[[], float] = perf_counter):
        self.policy, self.clock, self.seconds, self.actions = policy, clock, 0.0, 0
        self.initial = policy.initial

    def act(self, carry: Any, observation: Arrays, is_first: np.ndarray, draw: int) -> tuple[Any, Arrays, Arrays]:
        began = self.clock()
        out = self.policy.act(carry, observation, is_first, draw)
        self.seconds, self.actions = self.seconds + self.clock() - began, self.actions + len(is_first)
        return out

    @property
    def per_action(self) -> float:
        return self.seconds / max(1, self.actions)


def score_planner(path: Path, settings: PlanSettings, out: Path) -> dict[str, Any]:
    """Play fresh episodes with the planner, print the scores, write them to `out` and return them.

    ValueError names what does not fit: the model, the planner's options, the task or the goal.
    """
    require_writable_file(out)
    make_planner(settings.planner, settings.options)  # refuses what cannot be before anything is loaded
    loaded = load_world_model(path, "cuda" if torch.cuda.is_available() else "cpu")
    config = _config(loaded, settings)
    spaces = spaces_of(config)
    _require_spaces(loaded.document, spaces.observation, spaces.action, config.task)
    if settings.goal and settings.goal not in spaces.observation:
        raise ValueError(f"{config.task} shows no {settings.goal!r}; it shows {', '.join(spaces.observation)}.")
    image = _picture(loaded.document.observation or spaces.observation, settings.goal) if settings.goal else ""
    model = planning_model(loaded, spaces.action, image)
    valued = settings.bootstrap and not settings.goal and hasattr(model, "value")
    planner = make_planner(settings.planner, ({"horizon": WITH_VALUE} if valued else {}) | settings.options)
    if settings.block > 1:
        planner = ActionBlocks(planner=planner, block=settings.block)
    policy = planner_policy(loaded, model, planner, settings, image)
    with_goal = f" towards the picture in {settings.goal!r}" if settings.goal else ""
    print(f"World model {loaded.folder}, {config.task}, {settings.planner}{with_goal}:")
    players: list[tuple[str, Policy, Actions]] = [("planned", policy, "planned")]
    if settings.compare:
        if loaded.document.family.acts:
            players.append(("actor", load_policy(loaded.folder, seed=settings.seed).policy, "sampled"))
        players.append(("random", RandomPolicy(spaces.action, settings.seed), "random"))
    outcome: dict[str, Any] = {
        "planner": {"name": settings.planner, **to_json(planner)},
        "cost": {name: getattr(settings, name) for name in ("goal", "every_step", "deadline")} if settings.goal
        else to_json(_reward_cost(settings)),
        "replan_every": settings.replan_every, "checkpoint": str(loaded.folder), "task": config.task,
    }  # fmt: skip
    for name, player, actions in players:
        timed = TimedPolicy(player)
        result = _play(config, timed, settings.episodes, actions, name)
        lines = [f"  {name + ':':<8} {result}, {1000 * timed.per_action:.3g} ms an action",
                 *describe_metrics(result.metrics, settings.episodes)]  # fmt: skip
        print("\n    ".join(lines))
        outcome[name] = _document(result) | {"seconds_per_action": timed.per_action}
        if name == "planned":
            protocol = describe_protocol(result.protocol)
    with whole_file(out) as fresh:
        fresh.write_text(json.dumps(outcome, indent=2))
    print(f"  {protocol}\n  {out}")
    return outcome


def planner_policy(
    loaded: LoadedModel, model: PlanningModel, planner: Planner, settings: PlanSettings, image: str
) -> PlannerPolicy:
    """The policy that plans in a loaded model; `image` is the key that the picture of a goal replaces."""
    make = partial(
        PlannerPolicy, model, planner, replan_every=settings.replan_every, seed=settings.seed, module=loaded.model
    )
    if not settings.goal:
        cost: Cost = _reward_cost(settings)
        if not callable(getattr(model, "rewards", None)):
            raise ValueError(
                f"A {loaded.document.family.name} model predicts no rewards; name the key of the observation that "
                "shows the goal, e.g. --goal goal."
            )
        return make(cost)
    return make(goal=lambda seen: seen | {image: seen[settings.goal]}, every_step=settings.every_step,
                deadline=settings.deadline)  # fmt: skip


def planning_model(loaded: LoadedModel, action: Spaces, image: str) -> PlanningModel:
    """A loaded model as planners see it; one that was trained on recordings alone acts and sees by the task's keys."""
    document = loaded.document
    keys = {} if document.action else {"action_space": action, "image": image}
    model: PlanningModel = document.family.planning(loaded.model, **keys)
    return model


def _picture(observation: Spaces, goal: str) -> str:
    """The key of the one picture beside the goal's."""
    images = [key for key, space in observation.items() if space.is_image and key != goal]
    if len(images) != 1:
        raise ValueError(
            f"--goal {goal} replaces the one picture that the model sees, but it sees "
            f"{', '.join(observation) or 'nothing'}."
        )
    return images[0]


def _reward_cost(settings: PlanSettings) -> RewardCost:
    return RewardCost(bootstrap=settings.bootstrap, pessimism=settings.pessimism)


def _config(loaded: LoadedModel, settings: PlanSettings) -> RunConfig:
    """The configuration of the model's run, or of a run on its task."""
    try:
        config = load_config(run_of(loaded.folder))
    except ValueError:
        config = RunConfig(task=settings.task or loaded.document.task)
    if not (settings.task or config.task):
        raise ValueError(f"{loaded.folder} names no task; name it, e.g. --task gym:Pendulum-v1.")
    return replace(config, task=settings.task or config.task, seed=settings.seed)


def _require_spaces(document: ModelDocument, observation: Spaces, action: Spaces, task: str) -> None:
    """ValueError if the model was trained on other observations or actions than the task has."""
    for what, own, theirs in (("sees", document.observation, observation), ("acts by", document.action, action)):
        for key, space in own.items():
            if key not in theirs or theirs[key].width != space.width:
                there = ", ".join(f"{name} ({one.width})" for name, one in theirs.items())
                raise ValueError(
                    f"The model {what} {key!r} of width {space.width}, but {task} has {there}; plan on the task "
                    "that it was trained on, with the same environment settings."
                )


def _document(result: Evaluation) -> dict[str, Any]:
    return {
        "mean": result.mean, "interval95": result.interval, "scores": result.scores, "metrics": result.metrics,
        "protocol": result.protocol, "text": str(result),
    }  # fmt: skip


def _play(config: RunConfig, policy: Policy, episodes: int, actions: Actions, title: str) -> Evaluation:
    makers = [environment_maker(config)] * min(PARALLEL, episodes)
    with EpisodeProgress(title, episodes) as progress:
        return run_episodes(
            makers, policy, episodes, config.seed, actions=actions, pool=pool_maker(config),
            check=config.environment.check_steps, watch=progress.update,
        )  # fmt: skip
