"""The facts in actors/README.md, of the environments themselves: one or two tasks of every suite, by its preset."""

import importlib.util
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest

from actors.config import EnvironmentConfig
from actors.environment import Environment
from actors.envs import SUITES, make
from actors.vector import VectorEnvironment
from deploy.wiring.config import RunConfig
from deploy.wiring.presets import apply
from tests.actors.envpool_here import what_procgen_lacks

pytestmark = pytest.mark.filterwarnings("ignore:.*precision lowered")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What the README says of a task. `action`: what to do forever so that only the time limit, in frames, ends the
    episode; without it the limit is not played."""

    task: str
    observation: dict[str, tuple[int, ...]]
    actions: int = 0
    """Classes of a discrete action."""
    dimensions: int = 0
    """Of a continuous one."""
    frames_per_step: int = 1
    preset: str = ""
    limit: int = 0
    action: float | None = None


PROTOCOLS = [
    Protocol(
        task="dmc_cartpole_swingup", dimensions=1, limit=1000, action=0,
        observation={"position": (3,), "velocity": (2,)},
    ),
    Protocol(task="dmc_walker_walk", preset="dmc_vision", observation={"image": (64, 64, 3)}, dimensions=6),
    Protocol(task="atari_pong", observation={"image": (64, 64, 3)}, actions=6, frames_per_step=4),
    Protocol(
        task="atari_pong", preset="atari200m", observation={"image": (96, 96, 1)}, actions=18, frames_per_step=4
    ),
    Protocol(task="crafter_reward", observation={"image": (64, 64, 3)}, actions=17),
    Protocol(task="procgen_coinrun", observation={"image": (64, 64, 3)}, actions=15, limit=1000, action=4),
    Protocol(task="metaworld_reach", observation={"vector": (39,)}, dimensions=4, limit=500, action=0),
    Protocol(
        task="minigrid_empty_8x8", actions=7, limit=256, action=0,
        observation={"object": (7, 7), "color": (7, 7), "state": (7, 7), "direction": ()},
    ),
    Protocol(task="memory_maze_9x9", observation={"image": (64, 64, 3)}, actions=6),
    Protocol(
        task="gym:actors.envs.block_world:BlockWorld-v0", actions=5, limit=32, action=0,
        observation={"image": (64, 64, 3)},
    ),  # fmt: skip
    Protocol(task="gym:HalfCheetah-v5", observation={"vector": (17,)}, dimensions=6, limit=1000, action=0),
    Protocol(task="gym:CartPole-v1", observation={"vector": (4,)}, actions=2),
    Protocol(task="gym:Acrobot-v1", observation={"vector": (6,)}, actions=3, limit=500, action=1),
    Protocol(task="gym:MountainCar-v0", observation={"vector": (2,)}, actions=3, limit=200, action=1),
    Protocol(task="gym:Pendulum-v1", observation={"vector": (3,)}, dimensions=1, limit=200, action=0),
    Protocol(task="gym:LunarLander-v3", observation={"vector": (8,)}, actions=4),
]  # fmt: skip
SLOW = ("memory_maze_9x9",)  # a reset takes a second or two
PACKAGES = {"gym:LunarLander-v3": "Box2D"}


def configured(task: str, preset: str = "") -> EnvironmentConfig:
    return apply(RunConfig(task=task), preset).environment


@pytest.fixture(params=[
    pytest.param(protocol, id=f"{protocol.task} {protocol.preset}".strip(),
                 marks=[pytest.mark.slow] * (protocol.task in SLOW))
    for protocol in PROTOCOLS
])  # fmt: skip
def protocol(request: pytest.FixtureRequest) -> Protocol:
    one: Protocol = request.param
    suite = next((suite for suite in SUITES if one.task.startswith(suite.prefix)), None)
    package = PACKAGES.get(one.task) or (suite.package if suite else one.task.partition("_")[0])
    if suite is None or not importlib.util.find_spec(package):
        pytest.skip(f"the package {package} is not installed")
    if one.task.startswith("procgen_") and (missing := what_procgen_lacks()):
        pytest.skip(missing)
    return one


def made(protocol: Protocol, **options: Any) -> Environment:
    try:
        return make(protocol.task, replace(configured(protocol.task, protocol.preset), **options))
    except ValueError as error:
        if "libosmesa" in str(error) or "libqt5gui5" in str(error):
            pytest.skip(f"a system package is missing: {error}")
        raise


def fixed(environment: Environment, value: float) -> dict[str, np.ndarray]:
    return {key: np.full(space.shape, value, space.dtype) for key, space in environment.action_space.items()}


def test_observations_actions_and_frames_are_as_documented(protocol: Protocol) -> None:
    environment = made(protocol)
    assert {key: space.shape for key, space in environment.observation_space.items()} == protocol.observation
    (space,) = environment.action_space.values()
    assert (space.classes, 0 if space.discrete else space.width) == (protocol.actions, protocol.dimensions)
    assert environment.frames_per_step == protocol.frames_per_step
    environment.close()


def test_the_time_limit_truncates_when_documented(protocol: Protocol) -> None:
    if protocol.action is None:
        pytest.skip("the episode ends earlier, or takes too long")
    environment = made(protocol)
    environment.reset(0)
    steps = 0
    while not (step := environment.step(fixed(environment, protocol.action))).is_last:
        steps += 1
    assert (steps + 1) * environment.frames_per_step == protocol.limit
    assert not step.is_terminal
    environment.close()


def test_an_open_episode_is_restored(protocol: Protocol) -> None:
    makers = [partial(made, protocol)]
    environments = VectorEnvironment(makers, run_seed=3)
    action = {key: value[None] for key, value in fixed(environments.environments[0], 0).items()}
    rows = [environments.step(), *(environments.step(action) for _ in range(6))]  # CartPole falls after 8
    stored = {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
    stored |= {key: value.repeat(len(rows), 0) for key, value in action.items()}
    restored = VectorEnvironment(makers, run_seed=3)
    assert (outcome := restored.restore(0, 0, stored)), outcome.reason
    expected, got = environments.step(action), restored.step(action)
    for key, value in expected.items():
        np.testing.assert_array_equal(value, got[key])
    for one in (environments, restored):
        one.close()


@pytest.mark.slow
def test_an_atari_episode_lasts_half_an_hour() -> None:
    pytest.importorskip("ale_py", reason="Atari is an extra: pip install 'nexus-worlds[atari]'")
    environment = make("atari_breakout", replace(configured("atari_breakout"), image_size=(4, 4)))
    environment.reset(0)
    steps = 1
    while not (step := environment.step({"action": np.array(0, np.int32)})).is_last:  # the ball is never served
        steps += 1
    assert (steps, step.is_terminal) == (27_000, False)


@pytest.mark.parametrize(("task", "limit"), [
    ("CartPole-v1", 500), ("Acrobot-v1", 500), ("Pendulum-v1", 200), ("MountainCar-v0", 200),
    ("MountainCarContinuous-v0", 999), ("HalfCheetah-v5", 1000), ("Humanoid-v5", 1000), ("LunarLander-v3", 1000),
    ("BipedalWalker-v3", 1600), ("CarRacing-v3", 1000),
])  # fmt: skip
def test_gymnasium_declares_the_documented_limits(task: str, limit: int) -> None:
    assert gymnasium.spec(task).max_episode_steps == limit


def test_crafter_lasts_ten_thousand_frames_and_names_its_actions() -> None:
    crafter = pytest.importorskip("crafter", reason="Crafter is an extra: pip install 'nexus-worlds[crafter]'")
    raw = crafter.Env(seed=0)
    assert raw._length == 10_000
    assert raw.action_names[:6] == ["noop", "move_left", "move_right", "move_up", "move_down", "do"]
