"""Gradient descent on action sequences, through the world model."""

from dataclasses import dataclass

import torch

from world_models.planning.actions import ActionLayout
from world_models.planning.plan import Evaluate, Plan, Warm, cold, lowest, require_settings


@dataclass(frozen=True, kw_only=True)
class GradientPlanner:
    """Projected Adam: `a <- clip(a - lr Adam(d cost / d a))` from several starts; the best sequence seen is the plan.

    Gradients of the cost with respect to actions: Henaff et al. 2017, arXiv 1705.07177; Adam: Kingma and Ba 2015.
    The projection is that onto the bounds. One start is the plan before, the others are uniform.
    """

    horizon: int = 12
    samples: int = 16
    """Number of starts."""
    iterations: int = 15
    lr: float = 0.1
    """Step size in halves of the range of an action."""

    def __post_init__(self) -> None:
        require_settings(self, counts=("horizon", "samples", "iterations"), positive=("lr",))

    @torch.inference_mode(False)
    def plan(
        self, evaluate: Evaluate, layout: ActionLayout, problems: int, generator: torch.Generator,
        warm: Warm | None = None,
    ) -> Plan:  # fmt: skip
        """ValueError: an action is discrete."""
        layout.require_continuous("GradientPlanner")
        middle, half = layout.middle.clone(), layout.half.clone()  # normal tensors, wherever the layout was made
        start = (warm or cold(layout, problems, self.horizon)).mean
        actions = layout.uniform(problems, self.samples, self.horizon, generator=generator)
        actions[:, 0] = start
        unit = ((actions - middle) / half).requires_grad_()  # so that lr is in halves of each range
        optimizer = torch.optim.Adam([unit], lr=self.lr)
        best, least = actions, actions.new_full(actions.shape[:2], torch.inf)
        with torch.enable_grad():
            for i in range(self.iterations + 1):
                cost = evaluate(middle + half * unit)
                with torch.no_grad():
                    better = cost < least
                    now = middle + half * unit
                    best = torch.where(better[..., None, None], now, best)
                    least = torch.minimum(cost, least)
                if i < self.iterations:
                    # Of the actions alone: the model's parameters get no gradient.
                    (unit.grad,) = torch.autograd.grad(torch.where(cost.isfinite(), cost, 0).sum(), unit)
                    optimizer.step()
                    with torch.no_grad():
                        unit.clamp_(-1, 1)
        chosen = lowest(least, best, 1)
        return Plan(chosen[:, 0], least.amin(1), Warm(chosen[:, 0], chosen[:, :0]))
