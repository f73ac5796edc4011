"""Plans in blocks of equal actions, so that a long horizon has few actions to search."""

from dataclasses import dataclass

import torch

from world_models.planning.actions import ActionLayout
from world_models.planning.plan import Evaluate, Plan, Planner, Warm, require_settings


@dataclass(frozen=True, kw_only=True)
class ActionBlocks:
    """A planner whose every action is imagined `block` times in a row.

    Independent noise at every step stays near its start: with a block of b, sequences go about sqrt(b) times as far. As
    the action block of stable-worldmodel or the frame skip of DINO-WM (arXiv 2411.04983), but a new plan begins
    whenever an action has been taken.
    """

    planner: Planner
    block: int = 4

    def __post_init__(self) -> None:
        require_settings(self, counts=("block",))

    @property
    def horizon(self) -> int:
        """Steps ahead."""
        return self.planner.horizon * self.block

    def plan(
        self, evaluate: Evaluate, layout: ActionLayout, problems: int, generator: torch.Generator,
        warm: Warm | None = None,
    ) -> Plan:  # fmt: skip
        """As the planner's, with the actions of every step."""
        if warm is not None:
            warm = Warm(*(part[..., :: self.block, :] for part in warm))
        plan = self.planner.plan(lambda actions: evaluate(self._steps(actions)), layout, problems, generator, warm)
        return Plan(self._steps(plan.actions), plan.cost, Warm(*map(self._steps, plan.warm)))

    def _steps(self, blocks: torch.Tensor) -> torch.Tensor:
        return blocks.repeat_interleave(self.block, -2)
