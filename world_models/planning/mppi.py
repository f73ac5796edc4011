"""Model-predictive path integral control."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from world_models.planning.actions import ActionLayout
from world_models.planning.plan import Evaluate, Plan, SamplingPlanner, Warm, require_settings


@dataclass(frozen=True, kw_only=True)
class MPPI(SamplingPlanner):
    """The plan is the mean of noisy samples with the weights `softmax(-cost / temperature)`, `iterations` times
    (Williams et al. 2017, *Information theoretic MPC*, algorithm 2, arXiv 1707.02342).

    Deviation: costs are divided by their standard deviation over the samples, so that one temperature serves costs of
    any scale, and the cost of control is that of the objective alone. Of discrete actions the frequencies are weighted.
    """

    iterations: int = 3
    std: float = 0.5
    """Of the noise, in halves of the range of an action."""
    temperature: float = 0.1
    """In standard deviations of the cost; low values follow the best samples alone."""
    uniform: float = 0.1
    """Share of uniform draws among discrete actions."""

    def __post_init__(self) -> None:
        require_settings(
            self, counts=("horizon", "samples", "iterations"), positive=("std", "temperature"), shares=("uniform",)
        )

    def search(self, evaluate: Evaluate, layout: ActionLayout, generator: torch.Generator, start: Warm) -> Plan:
        """Begins at the mean of the plan before."""
        mean, problems = start.mean, len(start.mean)
        shape = (problems, self.samples, self.horizon, layout.width)
        expected = mean.new_zeros(problems)
        for _ in range(self.iterations):
            noise = torch.randn(shape, generator=generator, device=layout.device) * (self.std * layout.half)
            actions = layout.sample(mean, noise, self.uniform, generator)
            cost = evaluate(actions)
            weight = self._weights(cost)
            mean = torch.einsum("ps,psha->pha", weight, actions)
            expected = torch.where(weight > 0, weight * cost, 0.0).sum(1)
        return Plan(layout.nearest(mean), expected, Warm(mean, actions[:, :0]))

    def _weights(self, cost: Float[Tensor, "P S"]) -> Float[Tensor, "P S"]:
        """Samples of infinite cost have none, unless all are."""
        finite = cost.isfinite()
        count = finite.sum(1, keepdim=True).clamp_min(1)
        mean = torch.where(finite, cost, 0.0).sum(1, keepdim=True) / count
        variance = torch.where(finite, cost - mean, 0.0).square().sum(1, keepdim=True) / count
        logits = (cost.amin(1, keepdim=True) - cost) / (self.temperature * variance.sqrt().clamp_min(1e-8))
        return torch.softmax(torch.where(finite, logits, torch.finfo(cost.dtype).min), 1)
