"""The cross-entropy method, for continuous, discrete and mixed actions."""

from dataclasses import dataclass

import torch

from world_models.planning.actions import ActionLayout
from world_models.planning.plan import Evaluate, Plan, SamplingPlanner, Warm, lowest, require_elites, require_settings


@dataclass(frozen=True, kw_only=True)
class CEM(SamplingPlanner):
    """Samples sequences, and fits mean and standard deviation (of discrete actions: the frequencies of classes) to
    those of least cost, `iterations` times; the mean is the plan.

    Rubinstein and Kroese 2004, *The Cross-Entropy Method*; in latent space: Hafner et al. 2019, arXiv 1811.04551,
    algorithm 2. The frequencies are the maximum-likelihood fit of categorical distributions, as the mean is of a
    Gaussian one.
    """

    iterations: int = 5
    elites: int = 50
    std: float = 1.0
    """First standard deviation, in halves of the range of an action."""
    min_std: float = 0.05
    """Least standard deviation, in the same unit."""
    momentum: float = 0.1
    """Weight of the previous mean and standard deviation in the fit."""
    uniform: float = 0.05
    """Share of uniform draws among discrete actions."""

    def __post_init__(self) -> None:
        require_settings(
            self, counts=("horizon", "samples", "iterations"), positive=("std",),
            shares=("momentum", "uniform", "min_std"),
        )  # fmt: skip
        require_elites(self, self.elites, self.samples)

    def search(self, evaluate: Evaluate, layout: ActionLayout, generator: torch.Generator, start: Warm) -> Plan:
        """Begins at the mean of the plan before, with the first standard deviation."""
        mean, problems = start.mean, len(start.mean)
        std = (self.std * layout.half).expand_as(mean)
        shape = (problems, self.samples, self.horizon, layout.width)
        cost = mean.new_zeros(problems)
        for _ in range(self.iterations):
            noise = torch.randn(shape, generator=generator, device=layout.device) * std[:, None]
            actions = layout.sample(mean, noise, self.uniform, generator)
            found = evaluate(actions)
            elite = lowest(found, actions, self.elites)
            mean = self.momentum * mean + (1 - self.momentum) * elite.mean(1)
            std = self.momentum * std + (1 - self.momentum) * elite.std(1, correction=0)
            std = torch.maximum(std, self.min_std * layout.half)
            cost = found.topk(self.elites, 1, largest=False).values.mean(1)
        return Plan(layout.nearest(mean), cost, Warm(mean, elite[:, :0]))
