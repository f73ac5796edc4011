"""The first world model: its shapes, what it learns, its files, and the tutorial of the field as written."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from world_models import SimpleWorldModel, SimpleWorldModelConfig, imagine_parallel, plan_with_world_model
from world_models.planning.actions import ActionLayout
from world_models.planning.cem import CEM
from world_models.planning.costs import GoalCost, RewardCost
from world_models.planning.objective import Objective
from world_models.protocol import PlanningModel

SIZES = {"obs_dim": 3, "action_dim": 1, "latent_dim": 8, "hidden_dim": 32}
Transitions = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def model(**fields: Any) -> SimpleWorldModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SimpleWorldModel(SIZES | fields)


def pendulum(steps: int) -> Transitions:
    """Random transitions of the pendulum: observations, actions, next observations, rewards."""
    environment = gymnasium.make("Pendulum-v1")
    environment.action_space.seed(0)
    observation, _ = environment.reset(seed=0)
    rows = []
    for _ in range(steps):
        action = environment.action_space.sample()
        following, reward, terminated, truncated, _ = environment.step(action)
        rows.append((observation, action, following, reward))
        observation = environment.reset()[0] if terminated or truncated else following
    environment.close()
    obs, actions, next_obs, rewards = (np.array(column, np.float32) for column in zip(*rows, strict=True))
    return obs, actions, next_obs, rewards


@pytest.fixture(scope="module")
def transitions() -> Transitions:
    return pendulum(1500)


def test_the_tutorial_as_written() -> None:
    """What tutorials do with such a model: configure, train on transitions, imagine, plan."""

    @dataclasses.dataclass
    class Config:
        obs_dim: int = 3
        action_dim: int = 1
        latent_dim: int = 32
        hidden_dim: int = 64

    for config in (Config(), dataclasses.asdict(Config())):
        world_model = SimpleWorldModel(config)
        environment = gymnasium.make("Pendulum-v1")
        obs, _ = environment.reset(seed=0)
        losses = []
        for _ in range(20):
            action = environment.action_space.sample()
            next_obs, reward, *_ = environment.step(action)
            loss = world_model.train_step(
                torch.tensor(obs)[None], torch.tensor(action)[None], torch.tensor(next_obs)[None],
                torch.tensor([reward], dtype=torch.float32),
            )  # fmt: skip
            losses.append(loss.item())
            obs = next_obs
        environment.close()
        assert np.isfinite(losses).all()
        state = world_model.encode(torch.tensor(obs))
        next_states, observations, rewards = world_model.imagine(state[None], torch.zeros(1, 1))
        assert (next_states.shape, observations.shape, rewards.shape) == ((1, 32), (1, 3), (1,))
        action = plan_with_world_model(world_model, state, horizon=10)
        assert action.shape == (1,) and -1 <= action.item() <= 1


def test_its_parts_are_modules() -> None:
    for part in ("encoder", "dynamics", "decoder", "reward"):
        assert isinstance(getattr(model(), part), torch.nn.Module)


def test_one_step_and_sequences_are_imagined() -> None:
    one = model()
    states, actions = torch.randn(5, 8), torch.rand(5, 4, 1)
    following, observations, rewards = one.imagine(states, actions)
    assert (following.shape, observations.shape, rewards.shape) == ((5, 4, 8), (5, 4, 3), (5, 4))
    now = states
    for step in range(4):
        now, seen, reward = one.imagine(now, actions[:, step])
        for whole, single in ((following, now), (observations, seen), (rewards, reward)):
            torch.testing.assert_close(whole[:, step], single)
    single = one.imagine(states[0], actions[0])
    torch.testing.assert_close(single[1], observations[0])
    for mine, theirs in zip(one.imagine_parallel(states, actions), (following, observations, rewards), strict=True):
        torch.testing.assert_close(mine, theirs)
    shared = imagine_parallel(one, states, actions[0])
    torch.testing.assert_close(shared[2][0], rewards[0])
    assert one.imagine_parallel(states, horizon=6)[0].shape == (5, 6, 8)
    with pytest.raises(ValueError, match=r"actions of the shape \(3, 4, 1\) do not fit states of the shape \(5, 8\)"):
        one.imagine(states, actions[:3])


@pytest.mark.parametrize("stochastic", [False, True])
def test_it_learns_the_pendulum(transitions: Transitions, stochastic: bool) -> None:
    one = model(action_low=-2.0, action_high=2.0, hidden_dim=64, stochastic=stochastic, lr=3e-3)
    obs, actions, next_obs, rewards = (torch.tensor(array) for array in transitions)
    history = one.pretrain(transitions, epochs=48, batch_size=128)  # far from the limits below, whatever the draws
    assert len(history) == 48 and history[-1] < history[0] / 5
    with torch.no_grad():
        states = one.encode(obs)
        predicted, reward = one.decode(one.prior(states, actions).mean), one.rewards(states, actions).mean(0)
    assert (predicted - next_obs).square().mean() < (next_obs - obs).square().mean()
    assert (reward - rewards).square().mean() < rewards.var() / 5


def test_gaussian_latents_are_drawn_and_repeatable() -> None:
    one = model(stochastic=True)
    states, actions = torch.zeros(4, 8), torch.zeros(4, 3, 1)
    one.seed(3)
    first = one.imagine(states, actions)[0]
    assert not torch.equal(first[0], first[1])
    one.seed(3)
    assert torch.equal(one.imagine(states, actions)[0], first)
    observation = torch.zeros(2, 3)
    assert torch.equal(one.encode(observation)[0], one.encode(observation)[1]), "the mean"


def test_the_latent_losses_in_numbers() -> None:
    """A target of mean m and std s against N(p, q): `ln q/s + (s^2 + (m - p)^2) / 2 q^2 - 1/2`, over the width."""
    one = model(stochastic=True, free_nats=0.0)
    obs = torch.randn(6, 3)
    loss = one.losses(obs, torch.zeros(6, 1), obs, torch.zeros(6))["latent"]
    assert loss.shape == (6,) and (loss >= 0).all()
    then = one.posterior(obs)
    target, same = (torch.distributions.Normal(*then) for _ in range(2))
    assert torch.distributions.kl_divergence(target, same).abs().max() == 0
    floor = model(stochastic=True, free_nats=1e6).losses(obs, torch.zeros(6, 1), obs, torch.zeros(6))["latent"]
    torch.testing.assert_close(floor, torch.full((6,), 1e6 / 8))


def test_image_sized_observations_work() -> None:
    one = model(obs_dim=64 * 64 * 3, action_dim=4)
    obs, actions = torch.rand(8, 64 * 64 * 3), torch.rand(8, 4)
    losses = [one.train_step(obs, actions, obs, torch.zeros(8)) for _ in range(40)]  # Adam's first steps go up
    assert losses[-1] < losses[0]
    assert one.imagine(one.encode(obs), torch.zeros(8, 4))[1].shape == obs.shape
    assert plan_with_world_model(one, one.encode(obs[0]), samples=8).shape == (4,)


@pytest.mark.parametrize("form", ["tuple", "dict", "loader"])
def test_data_sets_come_in_many_forms(form: str, transitions: Transitions) -> None:
    few = tuple(torch.tensor(array[:64]) for array in transitions)
    dataset: Any = {
        "tuple": few,
        "dict": dict(zip(("obs", "actions", "next_obs", "rewards"), few, strict=True)),
        "loader": torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*few), batch_size=16),
    }[form]
    assert len(model(action_low=-2, action_high=2).pretrain(dataset, epochs=2, batch_size=16)) == 2


def test_what_is_no_data_set_is_refused(transitions: Transitions) -> None:
    obs, actions, next_obs, rewards = transitions
    for dataset, message in (
        ((obs, actions[:5], next_obs, rewards), "dataset has arrays of 1500 obs, 5 actions"),
        ({"obs": obs}, "dataset lacks actions, next_obs, rewards"),
        ([1, 2], "dataset yields int; each batch must be obs, actions, next_obs, rewards"),
        ([], "dataset holds no transitions"),
    ):
        with pytest.raises(ValueError, match=message):
            model().pretrain(dataset)


def test_actions_stay_within_their_bounds_and_plans_are_the_best_of_them() -> None:
    one = model(action_dim=2, action_low=(-2.0, 0.0), action_high=(2.0, 0.5))

    class Pushed(SimpleWorldModel):
        def rewards(self, state: Tensor, action: Tensor, following: Any = None) -> Tensor:
            return action.sum(-1)[None]

    torch.manual_seed(0)
    pushed = Pushed(one.config)
    planned = plan_with_world_model(pushed, torch.zeros(8), horizon=1, samples=2000)
    assert (planned <= pushed.high).all() and planned.sum() > 2.3
    with pytest.raises(ValueError, match=r"state has the shape \(1, 8\), not \(8,\): plan for one latent state"):
        plan_with_world_model(pushed, torch.zeros(1, 8))


def test_planners_take_it_as_it_is(transitions: Transitions) -> None:
    one = model(action_low=-2.0, action_high=2.0, reward_heads=3)
    keeps: PlanningModel = one
    assert isinstance(keeps, PlanningModel)
    state = one.encode(torch.tensor(transitions[0][:5])).detach()
    layout, draws = ActionLayout(one.action_space), torch.Generator().manual_seed(0)
    assert layout.low.tolist() == [-2.0]
    for cost in (RewardCost(pessimism=1.0), GoalCost(goal=one.features(state.flip(0)))):
        plan = CEM(samples=32, elites=4, iterations=2, horizon=3).plan(Objective(one, state, cost), layout, 5, draws)
        assert plan.actions.shape == (5, 3, 1) and plan.cost.isfinite().all()
    assert one.rewards(state, torch.zeros(5, 1)).shape == (3, 5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"obs_dim": 3}, "SimpleWorldModel needs action_dim; it has obs_dim"),
        (SIZES | {"latent_dim": 0}, "latent_dim=0 must be positive"),
        (SIZES | {"hiden_dim": 3}, "Unknown field hiden_dim; the nearest: hidden_dim"),
        (SIZES | {"obs_dim": 3.5}, "obs_dim is 3.5 .*expected an integer"),
        (SIZES | {"action_low": 2.0}, "action_low=2.0 must be below action_high=1.0"),
        (SIZES | {"action_low": [0.0, 0.0]}, "action_low has 2 numbers for action_dim=1"),
        (3, "takes a dict or a dataclass, not int"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(config: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimpleWorldModel(config)


def test_numbers_of_numpy_are_numbers() -> None:
    one = SimpleWorldModel({"obs_dim": np.prod((2, 3)), "action_dim": np.int64(1), "action_low": np.array([-2.0])})
    assert one.config == SimpleWorldModelConfig(obs_dim=6, action_dim=1, action_low=(-2.0,))


def test_shapes_that_do_not_fit_are_named() -> None:
    one = model()
    with pytest.raises(ValueError, match=r"obs has the shape \(2, 4\); its last axis must have 3 numbers"):
        one.encode(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="are not the same number of transitions"):
        one.train_step(torch.zeros(4, 3), torch.zeros(4, 1), torch.zeros(4, 3), torch.zeros(3))


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    one = model(stochastic=True, action_high=3.0)
    folder = one.save(tmp_path / "model", task="gym:Pendulum-v1")
    assert json.loads((folder / "config.json").read_text())["task"] == "gym:Pendulum-v1"
    again = SimpleWorldModel.load(folder)
    assert again.config == one.config
    for key, value in one.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    other = model(latent_dim=9).save(tmp_path / "other")
    (folder / "config.json").write_bytes((other / "config.json").read_bytes())
    with pytest.raises(ValueError, match=r"model.safetensors does not fit .* another shape: .*\[9\].* another model"):
        SimpleWorldModel.load(folder)


def test_importing_the_package_imports_no_torch() -> None:
    program = (
        "import sys, world_models; assert 'SimpleWorldModel' in dir(world_models)\n"
        "import world_models.simple.config; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], timeout=500, check=False)
    assert done.returncode == 0
    with pytest.raises(ImportError):
        from world_models import NoSuchModel  # noqa: F401
