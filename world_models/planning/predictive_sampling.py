"""Predictive sampling: the best of noisy copies of the plan so far."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from world_models.planning.actions import ActionLayout
from world_models.planning.plan import Evaluate, Plan, SamplingPlanner, Warm, lowest, require_settings


@dataclass(frozen=True, kw_only=True)
class PredictiveSampling(SamplingPlanner):
    """`argmin_s cost(m + std e_s)` with e_0 = 0; the best becomes the next m (Howell et al. 2022, arXiv 2212.00541,
    algorithm 1). Noise is drawn at `knots` times and linear in between."""

    samples: int = 1024
    std: float = 0.5
    """Of the noise, in halves of the range of an action."""
    knots: int = 6
    """Times at which noise is drawn; at most the horizon."""
    uniform: float = 0.3
    """Share of uniform draws among discrete actions."""

    def __post_init__(self) -> None:
        require_settings(self, counts=("horizon", "samples", "knots"), positive=("std",), shares=("uniform",))

    def search(self, evaluate: Evaluate, layout: ActionLayout, generator: torch.Generator, start: Warm) -> Plan:
        """The first sample is the plan so far."""
        mean, problems = start.mean, len(start.mean)
        knots = min(self.knots, self.horizon)
        drawn = torch.randn(
            problems * self.samples, layout.width, knots, generator=generator, device=layout.device
        )  # fmt: skip
        if knots < self.horizon:
            drawn = F.interpolate(drawn, self.horizon, mode="linear", align_corners=True)
        noise = drawn.mT.unflatten(0, (problems, self.samples)) * (self.std * layout.half)
        actions = layout.sample(mean, noise, self.uniform, generator)
        actions[:, 0] = layout.nearest(mean)
        cost = evaluate(actions)
        best = lowest(cost, actions, 1)
        return Plan(best[:, 0], cost.amin(1), Warm(best[:, 0], best[:, :0]))
