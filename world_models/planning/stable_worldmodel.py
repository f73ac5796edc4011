"""A world model as the solvers of stable-worldmodel call it: `get_cost(info_dict, action_candidates)`.

The package itself is not needed. Its solvers hand over candidates `[P S H A]`, and the entries of `info_dict` repeated
for every sample, `[P S ...]`; they minimise the costs `[P S]` that come back. Candidates of k actions a step (its
`action_block`) are unfolded to `[P S H*k A/k]`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from world_models.planning.actions import ActionLayout
from world_models.planning.costs import GoalCost
from world_models.planning.objective import Cost, Objective
from world_models.protocol import PlanningModel

Observe = Callable[[Mapping[str, Tensor]], Any]


class CostModel(nn.Module):
    """The cost of action candidates from what `info_dict` observes.

    `observe` picks the model's observation of P problems out of the entries `[P ...]`; `goal` picks that of the goal,
    whose feature distance is then the cost; without it `cost` is.
    """

    def __init__(
        self, model: PlanningModel, observe: Observe, *, goal: Observe | None = None, cost: Cost | None = None
    ):
        super().__init__()
        if (goal is None) == (cost is None):
            raise ValueError("CostModel needs either goal or cost: what is a plan to be judged by?")
        self.model, self.observe, self.goal, self.cost = model, observe, goal, cost
        self.layout = ActionLayout(model.action_space)
        # Solvers read the type of numbers off the parameters.
        self.number = nn.Parameter(torch.zeros(()), requires_grad=False)
        if isinstance(model, nn.Module):
            self.add_module("inner", model)

    def get_cost(
        self, info_dict: Mapping[str, Any], action_candidates: Float[Tensor, "P S H K"]
    ) -> Float[Tensor, "P S"]:
        """ValueError: the candidates are not whole actions of the model."""
        width, wide = self.layout.width, action_candidates.shape[-1]
        if wide % width:
            raise ValueError(
                f"action candidates have {wide} numbers a step, which is no multiple of the model's {width}."
            )
        actions = action_candidates.unflatten(-1, (-1, width)).flatten(2, 3)
        # Every sample has the same entry, so that one of each problem is encoded.
        once = {key: torch.as_tensor(value)[:, 0] for key, value in info_dict.items() if hasattr(value, "shape")}
        with torch.no_grad():
            state = self.model.encode(self.observe(once))
            cost = self.cost
            if self.goal is not None:
                cost = GoalCost(goal=self.model.features(self.model.encode(self.goal(once))))  # type: ignore[attr-defined]
        assert cost is not None, "one of both is given"
        return Objective(self.model, state, cost)(actions)
