"""Costs in literal numbers, and what models without the ability are told."""

import pytest
import torch

from tests.world_models.planning.point_mass import MortalPointMass, PointMass
from world_models.planning.costs import GoalCost, RewardCost, StepCost
from world_models.planning.objective import Objective

# One problem, two samples, two steps of one dimension: positions 1/4, 1/2 and -1/4, -1/4.
ACTIONS = torch.tensor([[[[1.0], [1.0]], [[-1.0], [0.0]]]])


def test_reward_is_summed_over_steps() -> None:
    model = PointMass(1)
    cost = Objective(model, model.initial(1), RewardCost())(ACTIONS)
    # Distances .75 + .5 and 1.25 + 1.25, times the mean 2 of both heads.
    torch.testing.assert_close(cost, torch.tensor([[2.5, 5.0]]))
    assert (model.calls, model.rows) == (2, 2), "a call of the model for each step, with all samples"
    discounted = Objective(model, model.initial(1), RewardCost(discount=0.5))(ACTIONS)
    torch.testing.assert_close(discounted, torch.tensor([[2.0, 3.75]]))


def test_the_value_of_the_last_state_counts_as_often_as_it_is_reached() -> None:
    model = MortalPointMass(1)
    with_value = Objective(model, model.initial(1), RewardCost())(ACTIONS)
    without = Objective(model, model.initial(1), RewardCost(bootstrap=False))(ACTIONS)
    torch.testing.assert_close(without, torch.tensor([[2.0, 3.75]]))  # the second reward counts half
    torch.testing.assert_close(with_value, without - 10 / 4)


def test_goals_are_of_each_problem() -> None:
    model = PointMass(1)
    actions = ACTIONS.expand(2, -1, -1, -1)
    goal = torch.tensor([[0.5], [-0.5]])

    def cost(**fields: object) -> list[list[float]]:
        return Objective(model, model.initial(2), GoalCost(goal=goal, **fields))(actions).tolist()  # type: ignore[arg-type]

    assert cost() == [[0.0, 0.75], [1.0, 0.25]]
    assert cost(distance="l2") == [[0.0, 0.5625], [1.0, 0.0625]]
    assert cost(every_step=True) == [[0.25, 1.5], [1.75, 0.5]]
    assert cost(steps=torch.tensor([1, 2])) == [[0.25, 0.75], [1.0, 0.25]]
    assert cost(steps=torch.tensor([1, 2]), every_step=True) == [[0.25, 0.75], [1.75, 0.5]]
    assert cost(steps=torch.tensor([1, 1])) == [[0.25, 0.75], [0.75, 0.25]]
    with pytest.raises(ValueError, match=r"distance='cosine' is not one of \('l1', 'l2'\)"):
        cost(distance="cosine")


def test_a_function_of_steps_is_summed() -> None:
    model = PointMass(1)
    cost = StepCost(function=lambda state, action, following: action[:, 0] ** 2 + following.time[:, 0])
    assert Objective(model, model.initial(1), cost)(ACTIONS).tolist() == [[5.0, 4.0]]


def test_a_model_without_rewards_is_told_what_else_it_can_be_planned_with() -> None:
    class Mute(PointMass):
        rewards = None  # type: ignore[assignment]

    model = Mute(1)
    with pytest.raises(ValueError, match=r"Mute has no rewards\(\); plan towards a goal, or with a function"):
        Objective(model, model.initial(1), RewardCost())(ACTIONS)


def test_every_call_has_the_same_draws_and_what_is_no_number_costs_most() -> None:
    model = PointMass(1)
    objective = Objective(model, model.initial(1), lambda model, steps: sum(s[1][:, 0] for s in steps) / 0.0, draw=7)  # type: ignore[arg-type, return-value]
    assert objective(ACTIONS * 0).tolist() == [[torch.inf] * 2]
    objective(ACTIONS)
    assert model.seeds == [7, 7]
