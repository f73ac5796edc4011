"""Random shooting: the best of uniformly random action sequences."""

from dataclasses import dataclass

import torch

from world_models.planning.actions import ActionLayout
from world_models.planning.plan import Evaluate, Plan, SamplingPlanner, Warm, cold, lowest, require_settings


@dataclass(frozen=True, kw_only=True)
class RandomShooting(SamplingPlanner):
    """`argmin_s cost(a_s)`, a_s uniform (Nagabandi et al. 2018, arXiv 1708.02596, section IV.C)."""

    samples: int = 1024

    def __post_init__(self) -> None:
        require_settings(self, counts=("horizon", "samples"))

    def search(self, evaluate: Evaluate, layout: ActionLayout, generator: torch.Generator, start: Warm) -> Plan:
        """The earlier plan makes no difference."""
        problems = len(start.mean)
        actions = layout.uniform(problems, self.samples, self.horizon, generator=generator)
        cost = evaluate(actions)
        return Plan(lowest(cost, actions, 1)[:, 0], cost.amin(1), cold(layout, problems, self.horizon))
