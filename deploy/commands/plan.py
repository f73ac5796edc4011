"""`nexus plan`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from actors.config import PlannerName
from deploy.commands.numbers import NotNegative, Positive, PositiveOrNone
from deploy.commands.parsing import OptionalPath, parse
from deploy.wiring.config import load_config
from world_models.checkpoint_files import newest_model, run_of
from world_models.families import FAMILIES
from world_models.model_document import read_family


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Score a planner over a trained world model on fresh episodes, beside the model's own actor and random actions."""

    path: Positional[Path]
    """A run directory, for its newest checkpoint, or a checkpoint directory."""
    planner: PlannerName = "cem"
    """How action sequences are searched."""
    horizon: Annotated[PositiveOrNone, arg(help_behavior_hint="(optional)")] = None
    """Steps, or blocks, planned ahead; by default 5 if the value of the last state counts, else the planner's own."""
    block: Positive = 1
    """Steps in a row that a plan takes the same action; a new plan begins at every step nevertheless."""
    replan_every: Positive = 1
    """Steps of a plan that are taken before the next plan is made: more cost less time, and see less."""
    samples: Annotated[PositiveOrNone, arg(help_behavior_hint="(optional)")] = None
    """Sequences that are tried in each iteration; by default as many as the planner is meant for."""
    iterations: Annotated[PositiveOrNone, arg(help_behavior_hint="(optional)")] = None
    """Rounds of improvement; by default as many as the planner is meant for."""
    goal: Annotated[str, arg(metavar="KEY", help_behavior_hint="(default: none)")] = ""
    """Plan towards the picture in this key of the observation, by the distance of features, instead of for reward.
    V-JEPA 2-AC, Genie and latent worlds, which predict no reward, need it, and --task."""
    every_step: bool = False
    """Judge plans by the distance to the goal after every step, not the last alone: then it is reached soon."""
    deadline: Annotated[PositiveOrNone, arg(help_behavior_hint="(default: none)")] = None
    """Steps of an episode within which the goal is to be reached: plans end there, not later."""
    pessimism: float = 0.0
    """Standard deviations of the return over reward heads to subtract."""
    without_value: bool = False
    """Leave out the value of the last state, which counts where the model predicts one."""
    task: Annotated[str, arg(metavar="TASK", help_behavior_hint="(default: the model's)")] = ""
    """The environment to act in."""
    episodes: Positive = 20
    """Number of episodes."""
    seed: NotNegative = 1_000_000
    """Seed of the episodes."""
    alone: bool = False
    """Do not also score the model's own actor and random actions on the same episodes."""
    out: OptionalPath = None
    """Where the scores and their protocol go as JSON; by default plan-PLANNER.json in the directory at PATH."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(Plan, arguments, prog="nexus plan", example="nexus plan runs/cartpole --planner icem --horizon 15")
    if (given.every_step or given.deadline) and not given.goal:
        option = "--every-step" if given.every_step else "--deadline"
        raise ValueError(f"{option} is for plans towards a goal; name the goal too, e.g. --goal goal.")
    folder = newest_model(given.path)
    family = read_family(folder)
    if not family.plans:
        able = ", ".join(sorted(name for name, other in FAMILIES.items() if other.plans))
        raise ValueError(f"{folder} holds a model of family {family.name!r}, in which nothing can be planned; "
                         f"nexus plan takes {able}.")  # fmt: skip
    if family.acts and (given.path / "config.yaml").exists():
        load_config(run_of(folder))  # reports what is wrong before the environment is made
    from deploy.reports.planning import PlanSettings, score_planner

    chosen = {name: getattr(given, name) for name in ("horizon", "samples", "iterations")}
    settings = PlanSettings(
        planner=given.planner, options={name: value for name, value in chosen.items() if value is not None},
        block=given.block, replan_every=given.replan_every, goal=given.goal, every_step=given.every_step,
        deadline=given.deadline, pessimism=given.pessimism, bootstrap=not given.without_value, task=given.task,
        episodes=given.episodes, seed=given.seed, compare=not given.alone,
    )  # fmt: skip
    score_planner(given.path, settings, given.out or given.path / f"plan-{given.planner}.json")
    return 0
