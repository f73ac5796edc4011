"""Every planner finds the best actions where they are known, for many problems at once."""

from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from actors.config import PlannerName
from tests.world_models.planning.point_mass import PointMass
from world_models.planning.action_blocks import ActionBlocks
from world_models.planning.actions import ActionLayout
from world_models.planning.cem import CEM
from world_models.planning.costs import GoalCost, RewardCost
from world_models.planning.objective import Objective
from world_models.planning.plan import cold, restart, shift
from world_models.planning.planners import PLANNERS, make_planner
from world_models.simple.world_model import SimpleWorldModel
from world_models.space import Space, Spaces

FLOAT = np.dtype(np.float32)
STICK: Spaces = {"stick": Space(dtype=FLOAT, shape=(2,), low=np.array([-2, 0]), high=np.array([2, 1]))}
BUTTONS: Spaces = {"buttons": Space(dtype=np.dtype(np.int32), shape=(2,), classes=3)}
HORIZON = 3
# How near the plan comes to the best one, in halves of the range; blind draws come least near.
TOLERANCE = {"random_shooting": 0.7, "predictive_sampling": 0.35, "mppi": 0.3}


def test_the_names_of_planners_are_the_same_everywhere() -> None:
    assert get_args(PlannerName) == tuple(PLANNERS)


def planner(name: str) -> Any:
    return PLANNERS[name](horizon=HORIZON)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Target:
    """The squared distance to a sequence of each problem, `[P H A]`."""

    def __init__(self, best: Tensor):
        self.best = best
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, actions: Tensor) -> Tensor:
        self.shapes.append(tuple(actions.shape))
        return (actions - self.best[:, None]).square().sum((2, 3))


def planned(name: str, target: Target, layout: ActionLayout, steps: int = 3) -> Tensor:
    """The plan after a few calls, each from the one before; the target does not move, so nothing is shifted."""
    plan, draws = None, generator()
    for _ in range(steps):
        plan = planner(name).plan(target, layout, len(target.best), draws, plan.warm if plan else None)
    assert plan is not None and plan.cost.shape == (len(target.best),)
    return plan.actions


@pytest.mark.parametrize("name", PLANNERS)
def test_continuous_plans_reach_their_targets(name: str) -> None:
    layout = ActionLayout(STICK)
    best = layout.uniform(4, HORIZON, generator=generator(1)) * 0.9
    target = Target(best)
    actions = planned(name, target, layout)
    assert (actions >= layout.low).all() and (actions <= layout.high).all()
    apart = ((actions - best) / layout.half).abs()
    assert apart.max() < TOLERANCE.get(name, 0.15)
    assert {shape[0] for shape in target.shapes} == {4}, "all problems are one call"


@pytest.mark.parametrize("name", sorted(PLANNERS.keys() - {"random_shooting"}))
def test_what_lies_beyond_the_bounds_is_approached_along_them(name: str) -> None:
    layout = ActionLayout(STICK)
    actions = planned(name, Target(torch.full((2, HORIZON, 2), 5.0)), layout)
    assert ((actions - layout.high) / layout.half).abs().max() < 0.8
    assert (actions <= layout.high).all()


@pytest.mark.parametrize("name", ["cem", "mppi", "predictive_sampling", "random_shooting"])
def test_discrete_and_mixed_actions_are_planned(name: str) -> None:
    layout = ActionLayout(STICK | BUTTONS)
    best = layout.uniform(3, HORIZON, generator=generator(2))
    actions = planned(name, Target(best * torch.tensor([3.0] * 6 + [0.1] * 2)), layout)
    classes = slice(0, 6)  # "buttons" comes before "stick"
    assert torch.equal(actions[..., classes], best[..., classes])
    assert torch.equal(actions[..., classes].unflatten(-1, (2, 3)).sum(-1), torch.ones(3, HORIZON, 2))


@pytest.mark.parametrize("name", ["icem", "gradient"])
def test_planners_of_continuous_actions_refuse_discrete_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"plans continuous actions, but buttons is discrete; use cem, mppi"):
        planned(name, Target(torch.zeros(1, HORIZON, 6)), ActionLayout(BUTTONS))


@pytest.mark.parametrize("name", PLANNERS)
def test_the_same_draws_give_the_same_plan(name: str) -> None:
    layout = ActionLayout(STICK)
    target = Target(torch.zeros(2, HORIZON, 2))
    first, second = (planner(name).plan(target, layout, 2, generator(7)) for _ in range(2))
    assert torch.equal(first.actions, second.actions) and torch.equal(first.cost, second.cost)


@pytest.mark.parametrize("name", PLANNERS)
def test_receding_horizon_reaches_a_goal_in_a_world(name: str) -> None:
    """From 0, with steps of at most 1/4, the corners (1, -1/2) and (-1, 1/2) are 4 steps away."""
    model = PointMass()
    layout = ActionLayout(model.action_space)
    goal = torch.tensor([[1.0, -0.5], [-1.0, 0.5]])
    state, warm, draws = model.initial(2), None, generator()
    for _ in range(6):
        model.calls = 0
        objective = Objective(model, state, GoalCost(goal=goal, every_step=True))
        plan = planner(name).plan(objective, layout, 2, draws, warm)
        assert model.rows % 2 == 0 and model.rows > 2, "problems and samples are one batch"
        state, warm = model.step(state, plan.actions[:, 0]), shift(plan.warm)
    assert (state.position - goal).abs().max() < 0.2


def test_gradients_are_of_the_actions_alone() -> None:
    layout = ActionLayout(STICK)
    weight = torch.nn.Parameter(torch.ones(()))
    plan = planner("gradient").plan(lambda actions: (weight * actions).square().sum((2, 3)), layout, 1, generator())
    assert weight.grad is None and not plan.actions.requires_grad
    assert plan.actions.abs().max() < 0.05


def test_a_plan_is_continued_where_it_is_and_forgotten_where_an_episode_begins() -> None:
    layout = ActionLayout(STICK)
    warm = cold(layout, 2, 3)._replace(mean=torch.arange(12.0).view(2, 3, 2), elites=torch.ones(2, 4, 3, 2))
    moved = shift(warm)
    assert moved.mean[0].tolist() == [[2, 3], [4, 5], [4, 5]] and moved.elites.shape == (2, 4, 3, 2)
    again = restart(moved, torch.tensor([False, True]), layout)
    assert torch.equal(again.mean[0], moved.mean[0])
    assert again.mean[1].tolist() == [[0, 0.5]] * 3 and again.elites[1, 0].tolist() == [[0, 0.5]] * 3


def test_elites_of_icem_are_kept_for_the_next_step() -> None:
    layout = ActionLayout(STICK)
    plan = planner("icem").plan(Target(torch.zeros(2, HORIZON, 2)), layout, 2, generator())
    assert plan.warm.elites.shape == (2, 6, HORIZON, 2)  # 0.3 of 20
    counts = Target(torch.zeros(2, HORIZON, 2))
    planner("icem").plan(counts, layout, 2, generator(), shift(plan.warm))
    # 256 / 1.25^i new ones; the first call has the 6 elites, the last one the mean.
    assert [shape[1] for shape in counts.shapes] == [256 + 6, 205, 164, 131 + 1]


def test_costs_that_are_no_numbers_are_never_chosen() -> None:
    def evaluate(actions: Tensor) -> Tensor:
        first = actions[:, :, 0, 0]
        return torch.nan_to_num(torch.where(first > 0, torch.nan, first.abs()), nan=torch.inf)

    for name in ("random_shooting", "cem", "icem", "predictive_sampling", "gradient"):
        plan = planner(name).plan(evaluate, ActionLayout(STICK), 1, generator())
        assert plan.actions[0, 0, 0] <= 0.05 and plan.actions.isfinite().all(), name


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("cem", {"elites": 600}, r"CEM elites=600 must lie between 1 and samples=512"),
        ("cem", {"horizon": 0}, r"CEM horizon=0 must be at least 1"),
        ("cem", {"momentum": 1.5}, r"CEM momentum=1.5 must lie in \[0, 1\]"),
        ("icem", {"beta": -1.0}, r"ICEM beta=-1.0 must not be negative"),
        ("mppi", {"temperature": 0.0}, r"MPPI temperature=0.0 must be positive"),
    ],
)
def test_fields_that_make_no_sense_are_refused(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PLANNERS[name](**fields)


@pytest.mark.parametrize("name", PLANNERS)
def test_one_sample_is_enough(name: str) -> None:
    small = make_planner(name, {"samples": 1, "horizon": 2})
    plan = small.plan(lambda actions: actions.square().sum((-1, -2)), ActionLayout(STICK), 1, generator())
    assert plan.actions.shape == (1, 2, 2) and plan.actions.isfinite().all()


def test_pessimism_chooses_what_the_heads_agree_on() -> None:
    """The heads of `PointMass` give -d and -3d: the mean is -2d, their standard deviation d."""
    model = PointMass(1)
    states = model.initial(1)
    actions = torch.tensor([[[[1.0]], [[-1.0]]]])  # distances 3/4 and 5/4
    hopeful, careful = (Objective(model, states, RewardCost(pessimism=k))(actions) for k in (0.0, 2.0))
    torch.testing.assert_close(hopeful, torch.tensor([[1.5, 2.5]]))
    torch.testing.assert_close(careful, torch.tensor([[3.0, 5.0]]))


def test_cem_with_a_single_elite_and_step_works() -> None:
    plan = CEM(horizon=1, samples=4, elites=1, iterations=1).plan(
        Target(torch.zeros(1, 1, 2)), ActionLayout(STICK), 1, generator()
    )
    assert plan.actions.isfinite().all()


@pytest.mark.parametrize("name", PLANNERS)
def test_what_has_no_finite_cost_is_not_followed(name: str) -> None:
    layout = ActionLayout(STICK)
    target = Target(layout.uniform(3, HORIZON, generator=generator(1)) * 0.5)

    def partly(actions: Tensor) -> Tensor:
        """Infinite in problem 0, and in problem 1 on the left."""
        cost = target(actions)
        left = actions[..., 0, 0] < 0
        return torch.where(torch.tensor([True, False, False])[:, None] | (left & (torch.arange(3) == 1)[:, None]),
                           torch.inf, cost)  # fmt: skip

    plan = planner(name).plan(partly, layout, 3, generator())
    assert plan.actions.isfinite().all() and plan.warm.mean.isfinite().all()
    assert plan.cost[0] == torch.inf and plan.cost[1:].isfinite().all()
    assert plan.actions[1, 0, 0] >= 0


@pytest.mark.parametrize("name", PLANNERS)
def test_plans_are_made_in_inference_mode_too(name: str) -> None:
    model = SimpleWorldModel({"obs_dim": 3, "action_dim": 2, "latent_dim": 4, "hidden_dim": 8})
    with torch.inference_mode():
        layout = ActionLayout(model.action_space)
        evaluate = Objective(model, model.encode(torch.randn(2, 3)), RewardCost())
        assert planner(name).plan(evaluate, layout, 2, generator()).actions.shape == (2, HORIZON, 2)
    assert all(part.requires_grad and part.grad is None for part in model.parameters())


@pytest.mark.parametrize("name", PLANNERS)
def test_blocks_of_equal_actions_are_found(name: str) -> None:
    layout = ActionLayout(STICK, torch.device("cpu"))
    blocks = torch.tensor([[[1.5, 0.2], [-1.0, 0.8]], [[0.0, 0.5], [1.0, 1.0]]])
    target = Target(blocks.repeat_interleave(3, 1))
    held = ActionBlocks(planner=PLANNERS[name](horizon=2), block=3)
    assert held.horizon == 6
    plan, draws = held.plan(target, layout, 2, generator()), generator(1)
    for _ in range(2):
        plan = held.plan(target, layout, 2, draws, plan.warm)
    assert target.shapes[-1][2:] == (6, 2) and plan.actions.shape == plan.warm.mean.shape == (2, 6, 2)
    assert plan.warm.elites.shape[2:] == (6, 2)
    assert torch.equal(plan.actions[:, :3], plan.actions[:, :1].expand(-1, 3, -1))
    error = (plan.actions - target.best).abs() / layout.half
    assert error.max() < TOLERANCE.get(name, 0.15)
    # The first action has been taken: the block it belonged to goes on.
    assert torch.equal(shift(plan.warm).mean[:, ::3], plan.warm.mean[:, [1, 4]])
