"""`python -m tests.benchmarks.planning --json`: every planner in every model, on the pendulum and on point reach.

The simple model learns here and now; `--run` names a run of `nexus train gym:Pendulum-v1
--preset quick` for DreamerV3's, whose own actor and random actions are scored on the same episodes. Planners have about
the same number of imagined steps an action. CPU seconds are the measure on a busy machine; one thread.

`--reach` names runs of `nexus pretrain vjepa2-ac` or of `nexus pretrain genie --real-actions` on generated:point_reach,
one for each seed: they move a point to where a picture shows it (`actors/envs/point_reach.py`), beside the same planner
with an untrained predictor on the same encoder, or dynamics on the same tokenizer, random actions, and an oracle that
goes straight to the goal.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import nn

from actors.envs import make
from actors.envs.point_reach import LARGEST, POINT, STEPS
from actors.evaluation import proportion_interval, run_episodes
from actors.policies.planner_policy import PlannerPolicy
from actors.policy import load_policy
from actors.trivial_policies import Arrays, Policy, RandomPolicy
from deploy.reports.planning import TimedPolicy
from tests.benchmarks.machine import describe, versions
from world_models import SimpleWorldModel, plan_with_world_model
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.planning import DreamerPlanning
from world_models.genie.genie import Genie
from world_models.genie.planning import GeniePlanning
from world_models.jepa.planning import VJEPA2ACPlanning
from world_models.jepa.vjepa2_ac import VJEPA2AC
from world_models.latent.latent_world import LatentWorld
from world_models.latent.planning import LatentPlanning
from world_models.loading import load_world_model
from world_models.planning.action_blocks import ActionBlocks
from world_models.planning.cem import CEM
from world_models.planning.costs import RewardCost
from world_models.planning.gradient import GradientPlanner
from world_models.planning.icem import ICEM
from world_models.planning.mppi import MPPI
from world_models.planning.plan import Planner
from world_models.planning.predictive_sampling import PredictiveSampling
from world_models.planning.random_shooting import RandomShooting
from world_models.protocol import PlanningModel

TASK = "gym:Pendulum-v1"
PLANNERS: dict[str, Any] = {
    "random_shooting": RandomShooting(samples=192),
    "predictive_sampling": PredictiveSampling(samples=192),
    "cem": CEM(samples=64, elites=8, iterations=3),
    "icem": ICEM(samples=64, elites=8, iterations=3),
    "mppi": MPPI(samples=64, iterations=3),
    "gradient": GradientPlanner(samples=4, iterations=15),  # a gradient costs about two evaluations
}
HORIZONS = {"simple": 15, "dreamer": 5}
"""Steps ahead; with a value for what follows fewer do, and the model's errors add up over fewer."""
SEED = 1_000_000
REACH = "gym:actors.envs.point_reach:PointReach-v0"
REACH_PLANNERS: dict[str, Any] = {
    "random_shooting": RandomShooting(samples=512, horizon=2),
    "predictive_sampling": PredictiveSampling(samples=512, horizon=2),
    "cem": CEM(samples=128, elites=12, iterations=4, std=2.0, horizon=2),
    "icem": ICEM(samples=128, elites=12, iterations=4, horizon=2),
    "mppi": MPPI(samples=128, iterations=4, horizon=2),
    "gradient": GradientPlanner(samples=4, iterations=40, horizon=2),
}
"""Over blocks of 4 steps; an episode takes 8, and plans end with it."""


WORLDS: dict[str, tuple[type[nn.Module], Any]] = {
    "vjepa2-ac": (VJEPA2AC, VJEPA2ACPlanning),
    "genie": (Genie, GeniePlanning),
    "latent": (LatentWorld, LatentPlanning),
    "rssm": (Dreamer, DreamerPlanning),
}
"""Families of models that are planned in towards a picture, and how planners see them."""


def simple_model(rounds: int, seed: int = 0) -> SimpleWorldModel:
    """The README's model of the pendulum: from 30 episodes of random actions and, in each round, 5 of its own plans."""
    torch.manual_seed(seed)
    environment = gymnasium.make("Pendulum-v1")
    environment.action_space.seed(seed)
    model = SimpleWorldModel({"obs_dim": 3, "action_dim": 1, "latent_dim": 16, "hidden_dim": 64,
                              "action_low": -2.0, "action_high": 2.0})  # fmt: skip

    def play(act: Callable[[Any], Any], episodes: int) -> list[tuple[Any, ...]]:
        rows = []
        for episode in range(episodes):
            (observation, _), ended = environment.reset(seed=episode), False
            while not ended:
                action = act(observation)
                following, reward, _, ended, _ = environment.step(action)
                rows.append((observation, action, following, reward))
                observation = following
        return rows

    rows = play(lambda _: environment.action_space.sample(), 30 if rounds else 1)
    for _ in range(rounds):
        model.pretrain(tuple(zip(*rows, strict=True)))
        rows += play(lambda seen: plan_with_world_model(model, model.encode(seen)).numpy(), 5)
    model.pretrain(tuple(zip(*rows, strict=True)), epochs=10 if rounds else 1)
    environment.close()
    return model


def score(policy: Policy, episodes: int, planned: bool, task: str = TASK) -> dict[str, Any]:
    """Return, or success where there is such a thing, with its interval, and CPU seconds an action."""
    timed = TimedPolicy(policy, time.process_time)
    makers = [partial(make, task)] * min(episodes, 20)
    result = run_episodes(makers, timed, episodes, SEED, actions="planned" if planned else "sampled")
    found: dict[str, Any] = {"return": result.mean, "interval95": result.interval}
    if reached := result.metrics.get("is_success"):
        found |= {"success": fmean(reached), "interval95": proportion_interval(reached)}
    return {"task": task, **found, "seconds_per_action": timed.per_action, "protocol": result.protocol}


class Oracle:
    """Goes straight to the goal, whose place it reads off the picture."""

    def initial(self, rows: int) -> None:
        return None

    def act(self, carry: None, observation: Arrays, is_first: np.ndarray, draw: int) -> tuple[None, Arrays, Arrays]:
        moves = (shown(observation["goal"]) - observation["position"]) / LARGEST
        return None, {"action": np.clip(moves, -1, 1).astype(np.float32)}, {}


def shown(pictures: np.ndarray) -> np.ndarray:
    """Where the point is in pictures `[N S S 3]`: the centre of what is brighter than the ground, `[N 2]`."""
    bright = pictures[..., 0].astype(np.float64) - pictures[..., 0].min((1, 2), keepdims=True)
    center = (np.arange(pictures.shape[1]) + 0.5) / pictures.shape[1]
    places = np.stack([bright.sum(axis) @ center for axis in (1, 2)], -1) / bright.sum((1, 2))[:, None]
    return (places - POINT) / (1 - 2 * POINT)


def untrained(model: nn.Module, seed: int) -> nn.Module:
    """The same encoder or tokenizer with a fresh predictor."""
    torch.manual_seed(seed)
    if isinstance(model, Genie):
        world = Genie(model.config).eval()
        world.tokenizer.load_state_dict(model.tokenizer.state_dict())
        return world
    fresh: Any
    if isinstance(model, Dreamer):
        fresh = Dreamer(model.observation_space, model.action_space, model.config).eval()
    else:
        assert isinstance(model, VJEPA2AC | LatentWorld), "there are four such families"
        fresh = type(model)(model.config).eval()  # type: ignore[arg-type]
    fresh.encoder.load_state_dict(model.encoder.state_dict())
    return fresh


def loaded(run: Path) -> tuple[str, nn.Module]:
    """The family and the model of a run."""
    model = load_world_model(run).model
    named = [name for name, (kind, _) in WORLDS.items() if isinstance(model, kind)]
    assert named, f"{run} is no run of nexus pretrain {', '.join(WORLDS)}"
    return named[0], model


def as_seen(model: nn.Module) -> Any:
    """A model of one of `WORLDS` as planners see it."""
    (planning,) = (planning for kind, planning in WORLDS.values() if isinstance(model, kind))
    return planning(model)


def reach(model: nn.Module, planner: Planner, episodes: int) -> dict[str, Any]:
    policy = PlannerPolicy(as_seen(model), planner, goal=lambda seen: {"image": seen["goal"]}, deadline=STEPS)
    return score(policy, episodes, True, REACH)


def reach_rows(runs: Sequence[Path], planners: Sequence[str], episodes: int) -> list[dict[str, Any]]:
    """Success of every planner with the model of every run, and of those that need no training."""
    rows = []
    for seed, run in enumerate(runs):
        family, model = loaded(run)
        kinds = {family: model, f"{family} untrained": untrained(model, seed)}
        for name, kind in kinds.items():
            for planner in planners:
                found = ActionBlocks(planner=REACH_PLANNERS[planner], block=4)
                rows.append({"model": name, "planner": planner, "horizon": found.horizon, "run": str(run),
                             **reach(kind, found, episodes)})  # fmt: skip
                print(line(rows[-1]), flush=True)
    environment = make(REACH)
    others: dict[str, Policy] = {"random actions": RandomPolicy(environment.action_space, SEED), "oracle": Oracle()}
    environment.close()
    for name, policy in others.items():
        rows.append({"model": name, "planner": "", "horizon": 0, **score(policy, 10 * episodes, False, REACH)})
        print(line(rows[-1]), flush=True)
    return rows


def planned(name: str, model: PlanningModel, planner: Planner, episodes: int) -> dict[str, Any]:
    planner = replace(planner, horizon=HORIZONS[name])  # type: ignore[type-var]
    return score(PlannerPolicy(model, planner, RewardCost()), episodes, True)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="a quick run on gym:Pendulum-v1")
    parser.add_argument("--planners", nargs="+", choices=PLANNERS, default=list(PLANNERS))
    parser.add_argument("--reach", nargs="+", type=Path, default=[], metavar="RUN", help="runs of WORLDS")
    parser.add_argument("--models", nargs="*", choices=HORIZONS, default=list(HORIZONS))
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=4, help="of plans that the simple model learns from")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    models: dict[str, PlanningModel] = {}
    others: dict[str, Policy] = {}
    if "simple" in given.models:
        models["simple"] = simple_model(given.rounds)
    if "dreamer" in given.models and given.run:
        loaded = load_world_model(given.run)
        models["dreamer"] = loaded.document.family.planning(loaded.model)
        others["DreamerV3's own actor"] = load_policy(loaded.folder, seed=SEED).policy
    if given.models:
        environment = make(TASK)
        others["random actions"] = RandomPolicy(environment.action_space, SEED)
        environment.close()
    rows: list[dict[str, Any]] = []
    for name, model in models.items():
        for planner in given.planners:
            rows.append({"model": name, "planner": planner, "horizon": HORIZONS[name],
                         **planned(name, model, PLANNERS[planner], given.episodes)})  # fmt: skip
            print(line(rows[-1]), flush=True)
    for name, policy in others.items():
        rows.append({"model": name, "planner": "", "horizon": 0, **score(policy, given.episodes, False)})
        print(line(rows[-1]), flush=True)
    best, unit = max((row["return"] for row in rows if row["planner"]), default=None), "return on Pendulum-v1"
    if given.reach:
        rows += reach_rows(given.reach, given.planners, given.episodes)
    if best is None:
        best = max((row["success"] for row in rows if row["model"] in WORLDS), default=None)
        unit = "success on point reach"
    device = torch.device("cpu")
    out = {"name": "planning", "value": best, "unit": f"{unit} of the best planner", "device": describe(device),
           "versions": versions(), "rows": rows}  # fmt: skip
    if given.json:
        print(json.dumps(out))
    return out


def line(row: dict[str, Any]) -> str:
    low, high = row["interval95"]
    what = f"{row['model']} {row['planner']}" + (f" (horizon {row['horizon']})" if row["planner"] else "")
    mean = f"{row['return']:8.1f} [{low:.1f}, {high:.1f}]"
    if "success" in row:
        mean = f"{row['success']:8.3f} [{low:.3f}, {high:.3f}]"
    return f"{what:<42} {mean}  {1000 * row['seconds_per_action']:.2f} ms an action"


if __name__ == "__main__":
    main()
