"""`python -m tests.benchmarks.reacher --runs RUN ... --json`: planners that move dm_control's reacher to a picture.

Each run is one of `nexus pretrain latent` or `nexus pretrain vjepa2-ac` on what `nexus record
gym:actors.envs.reacher_goal:ReacherGoal-v0` recorded of random actions. Its planner sees pictures alone, of the goal as
well, and its plans end with the episode. Beside it: the same planner with an untrained predictor on the same encoder,
random actions, none, and an oracle that turns each joint towards its angle, on the same episodes and as many as make
100. One thread; CPU seconds are the measure on a busy machine.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from actors.envs.reacher_goal import STEPS, towards
from actors.trivial_policies import Arrays, Policy
from tests.benchmarks.two_room import measured, parser_of, random_policy

TASK = "gym:actors.envs.reacher_goal:ReacherGoal-v0"
UNSEEN = "gym:actors.envs.reacher_goal:ReacherGoalPlaces-v0"
"""The same episodes without pictures, which take most of the time."""
EPISODES = 100


class Reflex:
    """Actions `[N 2]` from the positions `[N 4]` and the targets `[N 4]` alone."""

    def __init__(self, moves: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        self.moves = moves

    def initial(self, rows: int) -> None:
        return None

    def act(self, carry: None, observation: Arrays, is_first: np.ndarray, draw: int) -> tuple[None, Arrays, Arrays]:
        return None, {"action": self.moves(observation["position"], observation["target"])}, {}


def still(positions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.zeros((len(positions), 2), np.float32)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = parser_of("python -m tests.benchmarks.reacher", __doc__ or "", planners=["mppi"], samples=128, horizon=4,
                       block=2, replan_every=1, episodes=EPISODES)  # fmt: skip
    given = parser.parse_args(arguments)
    others: dict[str, Policy] = {
        "random actions": random_policy(UNSEEN), "no action": Reflex(still), "oracle": Reflex(towards),
    }  # fmt: skip
    return measured(given, "reacher", TASK, STEPS, others, EPISODES, UNSEEN)


if __name__ == "__main__":
    main()
