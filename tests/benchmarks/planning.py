"""`python -m tests.benchmarks.planning --json`: every planner in every model, on the pendulum.

The simple model learns here and now; `--run` names a run of `nexus train gym:Pendulum-v1
--preset quick` for DreamerV3's, whose own actor and random actions are scored on the same episodes. Planners have about
the same number of imagined steps an action. CPU seconds are the measure on a busy machine; one thread.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import torch

from actors.envs import make
from actors.evaluation import run_episodes
from actors.policies.planner_policy import PlannerPolicy
from actors.policy import load_policy
from actors.trivial_policies import Policy, RandomPolicy
from deploy.reports.planning import TimedPolicy
from tests.benchmarks.machine import describe, versions
from world_models import SimpleWorldModel, plan_with_world_model
from world_models.loading import load_world_model
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


def score(policy: Policy, episodes: int, planned: bool) -> dict[str, Any]:
    """Return with its interval, and CPU seconds an action."""
    timed = TimedPolicy(policy, time.process_time)
    makers = [partial(make, TASK)] * min(episodes, 20)
    result = run_episodes(makers, timed, episodes, SEED, actions="planned" if planned else "sampled")
    return {"return": result.mean, "interval95": result.interval, "seconds_per_action": timed.per_action,
            "protocol": result.protocol}  # fmt: skip


def planned(name: str, model: PlanningModel, planner: Planner, episodes: int) -> dict[str, Any]:
    planner = replace(planner, horizon=HORIZONS[name])  # type: ignore[type-var]
    return score(PlannerPolicy(model, planner, RewardCost()), episodes, True)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="a quick run on gym:Pendulum-v1")
    parser.add_argument("--planners", nargs="+", choices=PLANNERS, default=list(PLANNERS))
    parser.add_argument("--models", nargs="+", choices=HORIZONS, default=list(HORIZONS))
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
    environment = make(TASK)
    others["random actions"] = RandomPolicy(environment.action_space, SEED)
    environment.close()
    rows = []
    for name, model in models.items():
        for planner in given.planners:
            rows.append({"model": name, "planner": planner, "horizon": HORIZONS[name],
                         **planned(name, model, PLANNERS[planner], given.episodes)})  # fmt: skip
            print(line(rows[-1]), flush=True)
    for name, policy in others.items():
        rows.append({"model": name, "planner": "", "horizon": 0, **score(policy, given.episodes, False)})
        print(line(rows[-1]), flush=True)
    device = torch.device("cpu")
    best = max(row["return"] for row in rows if row["planner"])
    out = {"name": "planning", "value": best, "unit": "return on Pendulum-v1 of the best planner",
           "device": describe(device), "versions": versions(), "rows": rows}  # fmt: skip
    if given.json:
        print(json.dumps(out))
    return out


def line(row: dict[str, Any]) -> str:
    low, high = row["interval95"]
    what = f"{row['model']} {row['planner']}" + (f" (horizon {row['horizon']})" if row["planner"] else "")
    return (
        f"{what:<42} {row['return']:8.1f} [{low:.1f}, {high:.1f}]  {1000 * row['seconds_per_action']:.2f} ms an action"
    )


if __name__ == "__main__":
    main()
