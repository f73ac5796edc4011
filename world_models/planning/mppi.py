"""Model-predictive path integral control."""

from dataclasses import dataclass

import torch

from world_models.planning.actions import ActionLayout
from world_models.planning.plan import Evaluate, Plan, Warm, cold, require_counts, require_positive, require_share


@dataclass(frozen=True, kw_only=True)
class MPPI:
    """The plan is the mean of noisy samples with the weights `softmax(-cost / temperature)`, `iterations` times
    (Williams et al. 2017, *Information theoretic MPC*, algorithm 2, arXiv 1707.02342).

    Deviation: costs are divided by their standard deviation over the samples, so that one temperature serves costs of
    any scale, and the cost of control is that of the objective alone. Of discrete actions the frequencies are weighted.
    """

    horizon: int = 12
    samples: int = 512
    iterations: int = 3
    std: float = 0.5
    """Of the noise, in halves of the range of an action."""
    temperature: float = 0.1
    """In standard deviations of the cost; low values follow the best samples alone."""
    uniform: float = 0.1
    """Share of uniform draws among discrete actions."""

    def __post_init__(self) -> None:
        require_counts(self, "horizon", "samples", "iterations")
        require_positive(self, "std", "temperature")
        require_share(self, "uniform")

    @torch.inference_mode()
    def plan(
        self, evaluate: Evaluate, layout: ActionLayout, problems: int, generator: torch.Generator,
        warm: Warm | None = None,
    ) -> Plan:  # fmt: skip
        """Begins at the mean of the plan before."""
        mean = (warm or cold(layout, problems, self.horizon)).mean
        shape = (problems, self.samples, self.horizon, layout.width)
        expected = mean.new_zeros(problems)
        for _ in range(self.iterations):
            noise = torch.randn(shape, generator=generator, device=layout.device) * (self.std * layout.half)
            actions = layout.sample(mean, noise, self.uniform, generator)
            cost = evaluate(actions)
            scale = cost.std(1, correction=0, keepdim=True).clamp_min(1e-8)
            weight = torch.softmax(-(cost - cost.amin(1, keepdim=True)) / (self.temperature * scale), 1)
            mean = torch.einsum("ps,psha->pha", weight, actions)
            expected = (weight * cost).sum(1)
        return Plan(layout.nearest(mean), expected, Warm(mean, actions[:, :0]))
