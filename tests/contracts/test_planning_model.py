"""What every world model that planners can search must keep: shapes, independent rows, repeatable draws."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.world_models.genie.small import small_genie
from tests.world_models.jepa import small_vjepa2_ac
from tests.world_models.latent.small import build as small_latent
from tests.world_models.small_agent import CONTINUOUS, DISCRETE, IMAGE, VECTOR, build, random_values
from world_models.dreamer.planning import DreamerPlanning
from world_models.genie.planning import GeniePlanning
from world_models.genie.reward import RewardHead
from world_models.jepa.planning import VJEPA2ACPlanning
from world_models.latent.planning import LatentPlanning
from world_models.layers import total_width
from world_models.planning.actions import ActionLayout
from world_models.planning.cem import CEM
from world_models.planning.costs import GoalCost, RewardCost
from world_models.planning.gradient import GradientPlanner
from world_models.planning.objective import Objective
from world_models.protocol import GoalModel, PlanningModel, leaves, map_state, repeat_rows
from world_models.simple.world_model import SimpleWorldModel

MIXED = {"button": DISCRETE, "stick": CONTINUOUS}
SEEN = {"image": IMAGE, "vector": VECTOR}


def dreamer(sample: bool) -> tuple[GoalModel, dict[str, Any]]:
    spaces = {"stick": CONTINUOUS} if sample else MIXED
    return DreamerPlanning(build(SEEN, spaces), sample), random_values(np.random.default_rng(0), SEEN, 3)


def simple(stochastic: bool) -> tuple[GoalModel, dict[str, Any]]:
    torch.manual_seed(0)
    config = {"obs_dim": 3, "action_dim": 2, "latent_dim": 4, "hidden_dim": 8, "stochastic": stochastic}
    return SimpleWorldModel(config), random_values(np.random.default_rng(0), {"vector": VECTOR}, 3)


def vjepa2_ac(context: int) -> tuple[GoalModel, dict[str, Any]]:
    spaces = {"stick": CONTINUOUS} if context > 1 else MIXED
    model = small_vjepa2_ac.build(action=total_width(spaces), state=3)
    torch.manual_seed(0)
    with torch.no_grad():
        for part in model.parameters():  # larger than at the start, so that actions matter
            part.add_(0.2 * torch.randn_like(part))
    values = random_values(np.random.default_rng(0), SEEN, 3)
    return VJEPA2ACPlanning(model, action_space=spaces, context=context), values


def genie(real: bool) -> tuple[GoalModel, dict[str, Any]]:
    frames = np.random.default_rng(0).integers(256, size=(3, 8, 8, 3), dtype=np.uint8)
    if real:
        return GeniePlanning(small_genie(real_actions=total_width(MIXED)), action_space=MIXED), {"image": frames}
    head = RewardHead(torch.tensor([0.0, 1.0]), 3)
    return GeniePlanning(small_genie(), reward=head, temperature=1.0, steps=1), {"image": frames}


def latent(history: int) -> tuple[GoalModel, dict[str, Any]]:
    frames = np.random.default_rng(0).integers(256, size=(3, 8, 8, 3), dtype=np.uint8)
    model = small_latent(action=total_width(MIXED), history=history)
    return LatentPlanning(model, action_space=MIXED), {"image": frames}


MODELS: dict[str, Callable[[], tuple[GoalModel, dict[str, Any]]]] = {
    "dreamer": lambda: dreamer(True),
    "dreamer-modes": lambda: dreamer(False),
    "simple": lambda: simple(False),
    "simple-gaussian": lambda: simple(True),
    "vjepa2-ac": lambda: vjepa2_ac(1),
    "vjepa2-ac-context": lambda: vjepa2_ac(2),
    "genie": lambda: genie(False),
    "genie-real": lambda: genie(True),
    "latent": lambda: latent(1),
    "latent-history": lambda: latent(2),
}
WITHOUT_MEMORY = ("simple", "simple-gaussian", "vjepa2-ac", "genie", "genie-real", "latent")
WITH_PAST = ("vjepa2", "genie", "latent")  # which imagine() leaves out
everyone = pytest.mark.parametrize("name", MODELS)


def drawn(model: PlanningModel, rows: int, steps: int) -> Tensor:
    return ActionLayout(model.action_space).uniform(rows, steps, generator=torch.Generator().manual_seed(1))


@everyone
def test_imagining_is_stepping(name: str) -> None:
    model, observation = MODELS[name]()
    assert isinstance(model, GoalModel)
    actions = drawn(model, 3, 4)
    with torch.no_grad():
        model.seed(0)
        start = model.encode(observation)
        model.seed(1)
        states, observations, rewards = model.imagine(start, actions)
        model.seed(1)
        now = start
        for step in range(4):
            before, now = now, model.step(now, actions[:, step])
            for whole, one in zip(leaves(states), leaves(now), strict=not name.startswith(WITH_PAST)):
                torch.testing.assert_close(whole[:, step], one)
            if rewards is not None:
                torch.testing.assert_close(rewards[:, step], model.rewards(before, actions[:, step], now).mean(0))  # type: ignore[attr-defined]
    assert all(len(x) == 3 for x in leaves(model.initial(3)))
    if observations is not None:
        decoded = observations if isinstance(observations, dict) else {"vector": observations}
        assert {key: (3, 4, *np.shape(value)[1:]) for key, value in observation.items()} == {
            key: tuple(value.shape) for key, value in decoded.items()
        }


@everyone
def test_rows_know_nothing_of_each_other(name: str) -> None:
    model, observation = MODELS[name]()
    model.seed(0)
    with torch.no_grad():
        whole = model.features(model.encode(observation))
        model.seed(0)
        first = model.features(model.encode({key: value[:1] for key, value in observation.items()}))
    torch.testing.assert_close(whole[:1], first)


@everyone
def test_the_state_before_matters_to_models_with_memory_alone(name: str) -> None:
    model, observation = MODELS[name]()
    actions = drawn(model, 3, 1)[:, 0]
    with torch.no_grad():
        first = model.encode(observation)

        def again(begins: bool) -> list[Tensor]:
            model.seed(5)
            return leaves(model.encode(observation, first, actions, torch.full((3,), begins)))

        model.seed(5)
        fresh = leaves(model.encode(observation))
        assert all(map(torch.equal, again(True), fresh))
        assert all(map(torch.equal, again(False), fresh)) == (name in WITHOUT_MEMORY)


@everyone
def test_plans_are_made_by_reward_and_towards_goals(name: str) -> None:
    model, observation = MODELS[name]()
    layout, draws = ActionLayout(model.action_space), torch.Generator().manual_seed(0)
    with torch.no_grad():
        state = model.encode(observation)
        goal = model.features(map_state(lambda x: x.flip(0), state))
    planners: list[Any] = [CEM(horizon=3, samples=8, elites=2, iterations=2)]
    planners += [GradientPlanner(horizon=3, samples=2, iterations=2)] if layout.continuous else []
    for planner in planners:
        costs: list[Any] = [GoalCost(goal=goal, every_step=True)]
        costs += [RewardCost()] if hasattr(model, "rewards") else []
        for cost in costs:
            plan = planner.plan(Objective(model, state, cost), layout, 3, draws)
            assert plan.actions.shape == (3, 3, layout.width) and plan.cost.isfinite().all()
            torch.testing.assert_close(layout.nearest(plan.actions), plan.actions)
    assert all(len(x) == 6 for x in leaves(repeat_rows(state, 2)))
