"""A solver of stable-worldmodel's kind minimises what the adapter returns."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.world_models.planning.point_mass import PointMass
from world_models.planning.costs import RewardCost
from world_models.planning.stable_worldmodel import CostModel


def observe(info: Any) -> dict[str, Tensor]:
    return {"vector": info["position"]}


def goal(info: Any) -> dict[str, Tensor]:
    return {"vector": info["goal"]}


def info(samples: int) -> dict[str, Any]:
    """Entries as solvers repeat them; names and the like are no arrays."""
    position, target = torch.zeros(2, 2), torch.tensor([[0.5, 0.5], [-0.5, 0.0]])
    return {
        "position": position[:, None].expand(-1, samples, -1), "goal": target[:, None].expand(-1, samples, -1),
        "task": "reach",
    }  # fmt: skip


def test_candidates_are_judged_by_the_distance_to_the_goal() -> None:
    model = CostModel(PointMass(), observe, goal=goal)
    candidates = torch.tensor([[[[1.0, 1.0], [1.0, 1.0]], [[-1.0, 0.0], [-1.0, 0.0]]]]).expand(2, -1, -1, -1)
    torch.testing.assert_close(model.get_cost(info(2), candidates), torch.tensor([[0.0, 0.75], [0.75, 0.0]]))
    blocks = candidates.flatten(2)[:, :, None]  # both actions in one block
    torch.testing.assert_close(model.get_cost(info(2), blocks), torch.tensor([[0.0, 0.75], [0.75, 0.0]]))
    assert next(model.parameters()).dtype == torch.float32


def test_gradients_reach_the_candidates() -> None:
    candidates = torch.zeros(2, 3, 2, 2, requires_grad=True)
    CostModel(PointMass(), observe, goal=goal).get_cost(info(3), candidates).sum().backward()
    assert candidates.grad is not None and candidates.grad.abs().sum() > 0


def test_another_cost_may_be_given_but_only_one() -> None:
    cost = CostModel(PointMass(), observe, cost=RewardCost()).get_cost(info(1), torch.zeros(2, 1, 1, 2))
    torch.testing.assert_close(cost, torch.full((2, 1), 4.0))  # 2 dimensions at a distance of 1, heads of mean 2
    with pytest.raises(ValueError, match="either goal or cost"):
        CostModel(PointMass(), observe)
    with pytest.raises(ValueError, match="3 numbers a step, which is no multiple of the model's 2"):
        CostModel(PointMass(), observe, goal=goal).get_cost(info(1), torch.zeros(2, 1, 1, 3))
