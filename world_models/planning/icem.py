"""The improved cross-entropy method: coloured noise, and elites that are kept."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from world_models.planning.actions import ActionLayout
from world_models.planning.coloured_noise import coloured_noise
from world_models.planning.plan import Evaluate, Plan, SamplingPlanner, Warm, lowest, require_elites, require_settings


@dataclass(frozen=True, kw_only=True)
class ICEM(SamplingPlanner):
    """CEM for real-time planning (Pinneri et al. 2020, arXiv 2008.06389, algorithm 1).

    Noise is coloured over time; iteration i has `max(samples decay^-i, 2 elites)` samples; a share of the elites is
    kept for the next iteration and, shifted, for the next step; the mean is one of the samples of the last iteration;
    the best sequence ever seen is the plan.
    """

    samples: int = 256
    iterations: int = 4
    elites: int = 20
    std: float = 0.5
    """First standard deviation, in halves of the range of an action."""
    momentum: float = 0.1
    """Weight of the previous mean and standard deviation in the fit."""
    decay: float = 1.25
    """Factor by which each iteration has fewer samples."""
    kept: float = 0.3
    """Share of the elites that is kept."""
    beta: float = 2.0
    """Colour of the noise: 0 white, 1 pink, 2 red."""

    def __post_init__(self) -> None:
        require_settings(
            self, counts=("horizon", "samples", "iterations", "decay"), positive=("std",), shares=("momentum", "kept")
        )
        require_elites(self, self.elites, self.samples)
        if self.beta < 0:
            raise ValueError(f"ICEM beta={self.beta} must not be negative; 0 is white noise.")

    def search(self, evaluate: Evaluate, layout: ActionLayout, generator: torch.Generator, start: Warm) -> Plan:
        """ValueError: an action is discrete."""
        layout.require_continuous("ICEM")
        (mean, elites), problems = start, len(start.mean)
        std = (self.std * layout.half).expand_as(mean)
        keep = round(self.kept * self.elites)
        if elites.shape[1]:  # their last action is a copy since the shift; a new one is drawn
            elites = elites.clone()
            elites[:, :, -1] = layout.uniform(*elites.shape[:2], generator=generator)
        known, known_cost = elites, None
        best, least = mean, mean.new_full((problems,), torch.inf)
        for i in range(self.iterations):
            count = max(round(self.samples * self.decay**-i), 2 * self.elites)
            noise = self._noise(problems, count, layout.width, generator) * std[:, None]
            actions = layout.sample(mean, noise, 0.0, generator)
            if i == self.iterations - 1:
                actions = torch.cat([actions, mean[:, None]], 1)
            if known_cost is None:  # those of the step before are worth something else now
                actions = torch.cat([actions, known], 1)
                cost = evaluate(actions)
            else:
                cost = torch.cat([evaluate(actions), known_cost], 1)
                actions = torch.cat([actions, known], 1)
            elites = lowest(cost, actions, self.elites)
            known, known_cost = elites[:, :keep], cost.topk(self.elites, 1, largest=False).values[:, :keep]
            mean = self.momentum * mean + (1 - self.momentum) * elites.mean(1)
            std = self.momentum * std + (1 - self.momentum) * elites.std(1, correction=0)
            better = cost.amin(1) < least
            best = torch.where(better[:, None, None], elites[:, 0], best)
            least = torch.minimum(least, cost.amin(1))
        return Plan(best, least, Warm(mean, known))

    def _noise(
        self, problems: int, count: int, width: int, generator: torch.Generator
    ) -> Float[Tensor, "P S H A"]:  # fmt: skip
        drawn = coloured_noise(self.beta, problems * count * width, self.horizon, generator)
        return drawn.view(problems, count, width, self.horizon).mT
