"""The cross-entropy method of V-JEPA 2-AC, for a robot arm whose rotation stays as it is.

Legend: P problems, S samples, H steps, I iterations; actions are translation (3), rotation (3), gripper (1).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from world_models.planning.actions import ActionLayout
from world_models.planning.plan import Evaluate, Plan, SamplingPlanner, Warm, lowest, require_elites, require_settings

WIDTH = 7
GRIPPER_LIMIT = 0.75
"""Greatest change of the gripper that is sampled."""
GRIPPER_LEAST = 0.25
"""A planned change of the gripper below this is set to 0."""


@dataclass(frozen=True, kw_only=True)
class ArmCEM(SamplingPlanner):
    """V-JEPA 2-AC's planner (Assran et al. 2025, arXiv 2506.09985, section 3.2, and the official program).

    Translation and gripper are sampled from `N(mean, std^2)`, translation clipped to +-`maxnorm` an axis; mean and
    standard deviation of the elites are mixed with the old ones by momentum; the last mean is the plan.
    """

    horizon: int = 2
    samples: int = 400
    elites: int = 10
    iterations: int = 10
    maxnorm: float = 0.05
    """Greatest translation along an axis in a step, in metres, and its first standard deviation; the gripper's is 1."""
    momentum_mean: float = 0.15
    momentum_std: float = 0.15
    gripper_momentum_mean: float = 0.15
    gripper_momentum_std: float = 0.15

    def __post_init__(self) -> None:
        require_settings(
            self, counts=("horizon", "samples", "iterations"), positive=("maxnorm",),
            shares=("momentum_mean", "momentum_std", "gripper_momentum_mean", "gripper_momentum_std"),
        )  # fmt: skip
        require_elites(self, self.elites, self.samples, least=2)

    def search(self, evaluate: Evaluate, layout: ActionLayout, generator: torch.Generator, start: Warm) -> Plan:
        """The earlier plan makes no difference. ValueError: actions are not those of an arm."""
        if layout.width != WIDTH:
            raise ValueError(f"ArmCEM plans actions of {WIDTH} numbers (translation, rotation, gripper), not "
                             f"{layout.width}; use CEM.")  # fmt: skip
        shape = (self.iterations, len(start.mean), self.samples, self.horizon, 4)
        actions, cost = self.refine(evaluate, torch.randn(shape, generator=generator, device=layout.device))
        return Plan(actions, cost, Warm(actions, actions[:, None][:, :0]))

    @torch.inference_mode()
    def refine(
        self, evaluate: Evaluate, noise: Float[Tensor, "I P S H 4"]
    ) -> tuple[Float[Tensor, "P H 7"], Float[Tensor, " P"]]:
        """The plans of P problems from given noise, and the mean cost of the last elites; `evaluate` gets actions
        `[P S H 7]` without rotation."""
        problems, device = noise.shape[1], noise.device
        limit = torch.tensor([self.maxnorm] * 3 + [GRIPPER_LIMIT], device=device)
        keep_mean = torch.tensor([self.momentum_mean] * 3 + [self.gripper_momentum_mean], device=device)
        keep_std = torch.tensor([self.momentum_std] * 3 + [self.gripper_momentum_std], device=device)
        mean = torch.zeros(problems, self.horizon, 4, device=device)
        std = torch.tensor([self.maxnorm] * 3 + [1.0], device=device).expand_as(mean)
        for drawn in noise:
            actions = torch.clamp(mean[:, None] + std[:, None] * drawn, -limit, limit)
            cost = evaluate(with_rotation(actions))
            elite = lowest(cost, actions, self.elites)
            mean = keep_mean * mean + (1 - keep_mean) * elite.mean(1)
            std = keep_std * std + (1 - keep_std) * elite.std(1)
        gripper = torch.where(mean[..., 3:].abs() < GRIPPER_LEAST, 0.0, mean[..., 3:])
        return with_rotation(torch.cat([mean[..., :3], gripper], -1)), cost.sort(1).values[:, : self.elites].mean(1)


def with_rotation(actions: Float[Tensor, "... 4"]) -> Float[Tensor, "... 7"]:
    """Translation and gripper as whole actions whose rotation is 0."""
    return torch.cat([actions[..., :3], torch.zeros_like(actions[..., :3]), actions[..., 3:]], -1)
