"""Planners as policies: they act in environments, in actors of the fleet, and continue from checkpoints."""

from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from actors.actor import Actor
from actors.envs import make
from actors.evaluation import run_episodes
from actors.policies.planner_policy import PlannerPolicy
from actors.vector import VectorEnvironment
from replay.memory.memory_store import MemoryStore
from replay.step import Field, Schema
from tests.world_models.small_agent import DISCRETE, VECTOR, build
from world_models.dreamer.acting import ActingModel
from world_models.dreamer.planning import DreamerPlanning
from world_models.dreamer.policy import DreamerPolicy
from world_models.planning.cem import CEM
from world_models.planning.costs import RewardCost
from world_models.planning.gradient import GradientPlanner
from world_models.planning.icem import ICEM
from world_models.simple.world_model import SimpleWorldModel
from world_models.snapshot import take_snapshot
from world_models.space import Spaces

PENDULUM = {"obs_dim": 3, "action_dim": 1, "latent_dim": 4, "hidden_dim": 8, "action_low": -2.0, "action_high": 2.0}
SMALL = ICEM(horizon=3, samples=8, elites=2, iterations=2)


def simple() -> PlannerPolicy:
    torch.manual_seed(0)
    model = SimpleWorldModel(PENDULUM)
    return PlannerPolicy(model, SMALL, RewardCost(), module=model)


def dreamer(spaces: tuple[Spaces, Spaces]) -> PlannerPolicy:
    agent = build(*spaces)
    return PlannerPolicy(DreamerPlanning(agent), CEM(horizon=3, samples=8, elites=2, iterations=2), RewardCost(),
                         module=agent)  # fmt: skip


def test_the_latents_to_store_are_those_of_the_policy() -> None:
    agent = build({"vector": VECTOR}, {"action": DISCRETE})
    planned = DreamerPlanning(agent)
    policy = PlannerPolicy(planned, CEM(horizon=2, samples=4, elites=2), RewardCost(), latents_of=planned.latents)
    own = DreamerPolicy(ActingModel.sharing(agent))
    assert policy.latents.keys() == own.latents.keys()
    rows, first = {"vector": np.ones((2, 3), np.float32)}, np.ones(2, bool)
    _, _, stored = policy.act(policy.initial(2), rows, first, 0)
    _, _, others = own.act(own.initial(2), rows, first, 0)
    for key, value in own.latents.items():
        np.testing.assert_array_equal(policy.latents[key], value)
        assert policy.latents[key].dtype == value.dtype == stored[key].dtype == others[key].dtype
        assert stored[key].shape == others[key].shape
    np.testing.assert_allclose(stored["deter"], others["deter"], atol=2e-3)  # drawn from the same initial state


def schema(spaces: tuple[Spaces, Spaces], policy: PlannerPolicy) -> Schema:
    """A step with the latents that the policy says it stores."""
    observation, action = ({key: Field(dtype=s.dtype, shape=s.shape) for key, s in part.items()} for part in spaces)
    latents = {key: Field(dtype=value.dtype, shape=value.shape) for key, value in policy.latents.items()}
    return Schema.transitions(observation, action, latents=latents)


@pytest.mark.parametrize(("task", "make_policy"), [("gym:Pendulum-v1", simple), ("gym:CartPole-v1", dreamer)])
def test_a_planner_acts_in_an_actor_and_continues_exactly(task: str, make_policy: Any) -> None:
    def actor(environments: VectorEnvironment, store: MemoryStore) -> Actor:
        spaces = environments.observation_space, environments.action_space
        policy = simple() if make_policy is simple else dreamer(spaces)
        return Actor(environments, policy, store, [0, 1], seed=0, random_steps=4)

    with closing(VectorEnvironment([partial(make, task)] * 2, 0)) as environments:
        spaces = environments.observation_space, environments.action_space
        store = MemoryStore(schema(spaces, simple()), length=3, capacity=200)
        first = actor(environments, store)
        for _ in range(8):
            first.step()
        counters, arrays = first.state()
        for _ in range(3):
            first.step()
        first.writer.flush()
        expected = [store.read(stream, 8, 3)["action"] for stream in (0, 1)]
    with closing(VectorEnvironment([partial(make, task)] * 2, 0)) as environments:
        again = actor(environments, store)
        assert not again.load(counters, arrays)
        found: list[np.ndarray] = []
        for _ in range(3):
            again.step()
            assert again.actions is not None
            found.append(again.actions["action"])
    for i, stream in enumerate(expected):
        np.testing.assert_array_equal(np.stack(found)[:, i], stream)


def test_the_same_draw_gives_the_same_action_whatever_was_before() -> None:
    policy = simple()
    rows = {"vector": np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32)}
    first = np.ones(3, bool)
    carry, actions, latents = policy.act(policy.initial(3), rows, first, 5)
    assert actions["action"].shape == (3, 1) and np.abs(actions["action"]).max() <= 1 and latents == {}
    policy.act(carry, rows, ~first, 6)
    again = policy.act(policy.initial(3), rows, first, 5)[1]
    np.testing.assert_array_equal(again["action"], actions["action"])


def test_snapshots_replace_the_parameters_of_the_whole_model() -> None:
    policy = simple()
    other = SimpleWorldModel(PENDULUM)
    policy.update(take_snapshot(other, version=3, updates=1))
    assert policy.version == 3 and policy.module is not None
    for mine, theirs in zip(policy.module.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_goal_is_picked_out_of_the_observation() -> None:
    """The goal is the observation itself, where nothing is left to do: the plan's cost is near 0."""
    model = SimpleWorldModel(PENDULUM)
    policy = PlannerPolicy(model, SMALL, goal=lambda seen: {"vector": seen["goal"]})
    rows = {"vector": np.zeros((2, 3), np.float32), "goal": np.ones((2, 3), np.float32)}
    with pytest.raises(ValueError, match="its last axis must have 3"):
        policy.act(policy.initial(2), rows, np.ones(2, bool), 0)  # the model sees all keys: both are too many
    policy = PlannerPolicy(model, SMALL, goal=lambda seen: seen)
    _, actions, _ = policy.act(policy.initial(2), {"vector": rows["vector"]}, np.ones(2, bool), 0)
    assert actions["action"].shape == (2, 1)
    with pytest.raises(ValueError, match="either cost or goal"):
        PlannerPolicy(model, SMALL)
    with pytest.raises(ValueError, match="deadline=5 must be at least 1, and is for plans towards a goal"):
        PlannerPolicy(model, SMALL, RewardCost(), deadline=5)


def test_plans_end_with_the_episode() -> None:
    model = SimpleWorldModel(PENDULUM)
    goal, seen = {"vector": np.array([[0.0, 1.0, 2.0]], np.float32)}, {"vector": np.ones((1, 3), np.float32)}
    planner = GradientPlanner(horizon=3, samples=1, iterations=5)
    policy = PlannerPolicy(model, planner, goal=lambda seen: goal, deadline=3)
    carry = policy.initial(1)
    for step, moved in enumerate(([True, True], [True, False], [False, False])):
        carry, _, _ = policy.act(carry._replace(warm=policy.initial(1).warm), seen, np.array([step == 0]), 0)
        # What follows in the plan: an action after the end is left where it began.
        assert carry.warm.mean[0, :2, 0].ne(0).tolist() == moved, step
    assert carry.taken.tolist() == [3]


def test_plans_are_followed_for_some_steps_or_until_their_episode_ends() -> None:
    model, seen = SimpleWorldModel(PENDULUM), {"vector": np.ones((2, 3), np.float32)}
    policy = PlannerPolicy(model, SMALL, RewardCost(), replan_every=3)
    carry, taken, plans = policy.initial(2), [], []
    for step in range(7):
        first = np.array([step == 0, step in (0, 2)])  # the second episode begins anew
        carry, _, _ = policy.act(carry, seen, first, step)
        taken.append(carry.action)
        plans.append(carry.plan.clone())
        assert carry.plan.shape == (2, SMALL.horizon, 1)
    for row, planned in ((0, (0, 3, 6)), (1, (0, 2, 5))):
        for begin, end in zip(planned, (*planned[1:], 7), strict=True):
            for step in range(begin + 1, end):
                assert torch.equal(taken[step][row], plans[begin][row, step - begin - 1]), (row, step)
        assert not torch.equal(plans[planned[1]][row, 0], plans[planned[1] - 1][row, 1]), row
    same = PlannerPolicy(model, SMALL, RewardCost(), replan_every=3)
    again = same.load(policy.state(carry))
    one, other = (made.act(state, seen, np.zeros(2, bool), 7)[1] for made, state in ((policy, carry), (same, again)))
    np.testing.assert_array_equal(one["action"], other["action"])
    with pytest.raises(ValueError, match=rf"replan_every=0 must lie between 1 and {SMALL.horizon}"):
        PlannerPolicy(model, SMALL, RewardCost(), replan_every=0)


def test_whole_episodes_are_scored() -> None:
    policy = PlannerPolicy(SimpleWorldModel(PENDULUM), CEM(horizon=2, samples=4, elites=2, iterations=1), RewardCost())
    result = run_episodes([partial(make, "gym:Pendulum-v1")] * 2, policy, 2, 0, actions="planned")
    assert result.lengths == [200, 200] and result.protocol["actions"] == "planned"
