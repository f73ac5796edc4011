"""Random shooting: the best of uniformly random action sequences."""

from dataclasses import dataclass

import torch

from world_models.planning.actions import ActionLayout
from world_models.planning.plan import Evaluate, Plan, Warm, cold, lowest, require_counts


@dataclass(frozen=True, kw_only=True)
class RandomShooting:
    """`argmin_s cost(a_s)`, a_s uniform (Nagabandi et al. 2018, arXiv 1708.02596, section IV.C)."""

    horizon: int = 12
    samples: int = 1024

    def __post_init__(self) -> None:
        require_counts(self, "horizon", "samples")

    @torch.inference_mode()
    def plan(
        self, evaluate: Evaluate, layout: ActionLayout, problems: int, generator: torch.Generator,
        warm: Warm | None = None,
    ) -> Plan:  # fmt: skip
        """The earlier plan makes no difference."""
        actions = layout.uniform(problems, self.samples, self.horizon, generator=generator)
        cost = evaluate(actions)
        return Plan(lowest(cost, actions, 1)[:, 0], cost.amin(1), cold(layout, problems, self.horizon))
