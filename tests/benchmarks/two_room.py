"""`python -m tests.benchmarks.two_room --runs RUN ... --json`: planners that find the way to the other room.

Each run is one of `nexus pretrain vjepa2-ac`, `nexus pretrain latent` or `nexus pretrain genie --real-actions` on
generated:two_room, or of `nexus train gym:actors.envs.two_room:TwoRoomPicture-v0`, whose RSSM is used. Its planner sees
pictures alone, of the goal as well, and its plans end with the episode. Beside it: the same planner with an untrained
predictor, a straight line to the goal, random actions and an oracle that goes through the door. One thread; CPU seconds
are the measure on a busy machine.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from actors.envs import make
from actors.envs.two_room import LARGEST, LOOKS, STEPS, Rooms, towards_door
from actors.policies.planner_policy import PlannerPolicy
from actors.trivial_policies import Arrays, Policy, RandomPolicy
from tests.benchmarks.machine import describe, versions
from tests.benchmarks.planning import SEED, WORLDS, as_seen, line, loaded, score, untrained
from world_models.planning.action_blocks import ActionBlocks
from world_models.planning.cem import CEM
from world_models.planning.gradient import GradientPlanner
from world_models.planning.mppi import MPPI
from world_models.planning.plan import Planner
from world_models.planning.random_shooting import RandomShooting

EPISODES = 200


def planners(samples: int, iterations: int, horizon: int) -> dict[str, Any]:
    """All with about as many imagined steps; `horizon` counts blocks."""
    elites = max(1, samples // 8)
    return {
        "random_shooting": RandomShooting(samples=samples * iterations, horizon=horizon),
        "cem": CEM(samples=samples, elites=elites, iterations=iterations, std=1.0, horizon=horizon),
        "mppi": MPPI(samples=samples, iterations=iterations, std=1.0, horizon=horizon),
        # a gradient costs about two evaluations
        "gradient": GradientPlanner(samples=max(1, samples * iterations // 40), iterations=20, horizon=horizon),
    }


class Walker:
    """Goes straight to the goal, or through the door, which it is told of."""

    def __init__(self, door: bool) -> None:
        self.door = door

    def initial(self, rows: int) -> None:
        return None

    def act(self, carry: None, observation: Arrays, is_first: np.ndarray, draw: int) -> tuple[None, Arrays, Arrays]:
        places, aims = observation["position"], observation["target"]
        if self.door:
            aims = towards_door(Rooms(*observation["rooms"].T), places, aims)
        moves = (aims - places) / LARGEST
        moves /= np.abs(moves).max(-1, keepdims=True).clip(1)
        return None, {"action": moves.astype(np.float32)}, {}


def planned(
    model: nn.Module, planner: Planner, every: int, episodes: int, task: str, steps: int = STEPS,
    every_step: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Success of a planner that sees the goal's picture; its plans end with the episode of so many steps."""
    policy = PlannerPolicy(
        as_seen(model), planner, goal=lambda seen: {"image": seen["goal"]}, every_step=every_step, deadline=steps,
        replan_every=every,
    )  # fmt: skip
    return score(policy, episodes, True, task)


def task_of(look: str) -> str:
    return f"gym:actors.envs.two_room:TwoRoom{'' if look == 'standard' else look.title()}-v0"


def parser_of(prog: str, description: str, **defaults: Any) -> argparse.ArgumentParser:
    """The options that benchmarks of planning towards pictures share; `defaults` replace theirs."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help=f"runs of {', '.join(WORLDS)}")
    parser.add_argument("--planners", nargs="+", choices=planners(1, 1, 1), default=["cem"])
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--horizon", type=int, default=5, help="in blocks")
    parser.add_argument("--block", type=int, default=10, help="steps for which a plan holds an action")
    parser.add_argument("--replan-every", type=int, default=5, help="steps of a plan that are taken")
    parser.add_argument("--episodes", type=int, default=EPISODES)
    parser.add_argument("--every-step", action="store_true", help="judge plans after every step, not the last alone")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    parser.set_defaults(**defaults)
    return parser


def measured(
    given: argparse.Namespace, name: str, task: str, steps: int, others: dict[str, Policy], others_episodes: int,
    others_task: str = "", **labels: str,
) -> dict[str, Any]:  # fmt: skip
    """Rows of the planners in the models of the runs, each beside an untrained predictor, and of other policies, which
    may act in a task of their own, with `labels` in each; printed as they come, or as JSON."""
    torch.set_num_threads(1)
    rows = []

    def add(model: str, planner: str, horizon: int, found: dict[str, Any]) -> None:
        rows.append({"model": model, "planner": planner, "horizon": horizon, **labels, **found})
        if not given.json:
            print(line(rows[-1]), flush=True)

    for seed, run in enumerate(given.runs):
        family, model = loaded(run)
        for chosen in given.planners:
            inner = planners(given.samples, given.iterations, given.horizon)[chosen]
            planner = ActionBlocks(planner=inner, block=given.block)
            for kind, one in ((family, model), (f"{family} untrained", untrained(model, seed))):
                found = planned(one, planner, given.replan_every, given.episodes, task, steps, given.every_step)
                add(kind, chosen, planner.horizon, {"run": str(run), **found})
    for other, policy in others.items():
        add(other, "", 0, score(policy, others_episodes, False, others_task or task))
    best = max((row["success"] for row in rows if row["model"] in WORLDS), default=None)
    out = {"name": name, "value": best, "unit": "success of the best planner", "rows": rows,
           "device": describe(torch.device("cpu")), "versions": versions()}  # fmt: skip
    if given.json:
        print(json.dumps(out))
    return out


def random_policy(task: str) -> Policy:
    environment = make(task)
    space = environment.action_space
    environment.close()
    return RandomPolicy(space, SEED)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = parser_of("python -m tests.benchmarks.two_room", __doc__ or "")
    parser.add_argument("--look", choices=LOOKS, default="standard")
    given = parser.parse_args(arguments)
    task = task_of(given.look)
    others: dict[str, Policy] = {
        "straight line": Walker(door=False), "random actions": random_policy(task), "oracle": Walker(door=True),
    }  # fmt: skip
    return measured(given, "two_room", task, STEPS, others, EPISODES, look=given.look)


if __name__ == "__main__":
    main()
