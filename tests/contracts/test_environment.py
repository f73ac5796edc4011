"""What every environment must do, whichever suite it comes from."""

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import gymnasium
import numpy as np
import pytest

from actors.config import AtariConfig, EnvironmentConfig
from actors.conformance import check_environment
from actors.environment import Environment, Step
from actors.envs import make
from actors.envs.rendering import BACKENDS, try_backend
from actors.isolation.environment_process import Limits
from actors.isolation.isolated import IsolatedEnvironments
from actors.trivial_policies import RandomPolicy
from tests.actors.envpool_here import what_drawing_lacks, what_procgen_lacks
from tests.session import shared


class Blocks(gymnasium.Env):
    """Picture and vector in, a class and two numbers out; it ends by itself or after 30 steps."""

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = gymnasium.spaces.Dict(
        {
            "camera": gymnasium.spaces.Box(0, 255, (16, 16, 3), np.uint8),
            "arm": gymnasium.spaces.Dict({"joints": gymnasium.spaces.Box(-2, 2, (3,), np.float64)}),
        }
    )
    action_space = gymnasium.spaces.Dict(
        {"grip": gymnasium.spaces.Discrete(3), "push": gymnasium.spaces.Box(0, 10, (2,), np.float32)}
    )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.time = self.np_random.uniform(-1, 1, 3), 0
        return self._look(), {}

    def step(self, action: dict[str, Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.time += 1
        self.place[:2] = np.clip(self.place[:2] + (action["push"] - 5) / 20, -2, 2)
        return self._look(), float(action["grip"] == 1), bool(abs(self.place[0]) > 1.9), self.time >= 30, {}

    def _look(self) -> dict[str, Any]:
        camera = np.full((16, 16, 3), self.time, np.uint8)
        camera[int(8 + 3 * self.place[0]), int(8 + 3 * self.place[1])] = 255
        return {"camera": camera, "arm": {"joints": self.place.copy()}}


if "NexusBlocks-v0" not in gymnasium.registry:
    gymnasium.register(id="NexusBlocks-v0", entry_point=f"{__name__}:Blocks")

SMALL = EnvironmentConfig(image_size=(32, 32))
PIXELS = EnvironmentConfig(
    action_repeat=2, image_size=(16, 16), observations="pixels", time_limit=40, fast_rendering=True
)
ATARI = EnvironmentConfig(action_repeat=4, image_size=(32, 32), atari=AtariConfig(frame_limit=500))
LIVES = AtariConfig(sticky=0.25, actions="full", color="gray", life_loss="reset")
MAKERS: dict[str, Callable[[], Environment]] = {
    "cartpole": partial(make, "gym:CartPole-v1"),
    "blocks": partial(make, "gym:NexusBlocks-v0", SMALL),
    "blocks stacked, repeated": partial(make, "gym:NexusBlocks-v0", EnvironmentConfig(frame_stack=3, action_repeat=2)),
    "dmc vectors": partial(make, "dmc_walker_walk", EnvironmentConfig(action_repeat=2, time_limit=120)),
    "dmc pixels": partial(make, "dmc_cartpole_swingup", PIXELS),
    "crafter": partial(make, "crafter_reward", EnvironmentConfig(action_repeat=2, time_limit=60)),
    "minigrid": partial(make, "minigrid_fetch_5x5_n2"),
    "minigrid both": partial(make, "gym:MiniGrid-FourRooms-v0", EnvironmentConfig(observations="both")),
    "memory maze": partial(make, "memory_maze_9x9", EnvironmentConfig(time_limit=35, fast_rendering=True)),
    "atari": partial(make, "atari_pong", ATARI),
    "atari lives": partial(
        make, "atari_breakout", EnvironmentConfig(action_repeat=4, image_size=(16, 16), atari=LIVES)
    ),
    "envpool": partial(make, "envpool:Pendulum-v1", EnvironmentConfig(action_repeat=2)),
    "procgen": partial(make, "procgen_maze", EnvironmentConfig(image_size=(32, 32), time_limit=60)),
    "metaworld": partial(make, "metaworld_reach", EnvironmentConfig(time_limit=60)),
    "isolated": IsolatedEnvironments(f"gym:{__name__}:NexusBlocks-v0", SMALL, Limits(60.0, 60.0)),
    "isolated dmc": IsolatedEnvironments(
        "dmc_walker_walk", EnvironmentConfig(action_repeat=2, time_limit=120), Limits(60.0, 60.0)
    ),
}
EXTRAS = {"crafter": "crafter", "minigrid": "minigrid", "minigrid both": "minigrid", "memory maze": "memory_maze"}
SLOW = {"memory maze"}  # a reset takes a second or two
for _maker in MAKERS.values():
    if isinstance(_maker, IsolatedEnvironments):
        shared.callback(_maker.close)


@pytest.fixture(scope="module")
def drawing() -> str:
    """Why MuJoCo cannot render here; empty if it can."""
    reasons = []
    for name in BACKENDS:
        if not (reason := try_backend(name)):
            return ""
        reasons.append(f"{name}: {reason}")
    return "; ".join(reasons)


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in MAKERS])
def environment(request: pytest.FixtureRequest) -> Iterator[Environment]:
    if (package := EXTRAS.get(request.param)) and not importlib.util.find_spec(package):
        pytest.skip(f"the package {package} is not installed")
    if request.param in ("dmc pixels", "memory maze") and (reason := request.getfixturevalue("drawing")):
        pytest.skip(f"MuJoCo cannot render here: {reason}")
    if "atari" in request.param:
        pytest.importorskip("ale_py", reason="Atari is an extra: pip install 'nexus-worlds[atari]'")
    if request.param in ("envpool", "procgen", "metaworld"):
        if not find_spec("envpool"):
            pytest.skip("envpool is a dependency on Linux alone")
        if request.param == "procgen" and (missing := what_procgen_lacks()):
            pytest.skip(missing)
    made = MAKERS[request.param]()
    yield made
    made.close()


def actions(environment: Environment, seed: int = 0) -> Iterator[dict[str, np.ndarray]]:
    policy = RandomPolicy(environment.action_space, seed)
    for draw in range(10_000):
        yield {key: value[0] for key, value in policy.act(None, {}, np.zeros(1, bool), draw)[1].items()}


def play(environment: Environment, seed: int, limit: int = 10_000) -> list[Step]:
    steps = [environment.reset(seed)]
    for action, _ in zip(actions(environment), range(limit), strict=False):
        steps.append(environment.step(action))
        if steps[-1].is_last:
            break
    return steps


def same(one: Step, two: Step) -> bool:
    return one[1:] == two[1:] and all(
        np.array_equal(one.observation[key], two.observation[key]) for key in one.observation
    )


def test_observations_are_as_the_spaces_say(environment: Environment) -> None:
    assert isinstance(environment, Environment)
    for step in play(environment, seed=1, limit=20):
        assert step.observation.keys() == environment.observation_space.keys()
        for key, space in environment.observation_space.items():
            value = step.observation[key]
            assert isinstance(value, np.ndarray), key
            assert (value.dtype, value.shape) == (space.dtype, space.shape), key
            if not space.discrete and not space.is_image:
                assert np.isfinite(value).all(), key
                assert (value >= space.low).all() and (value <= space.high).all(), key
        assert isinstance(step.reward, float)
        assert isinstance(step.is_last, bool) and isinstance(step.is_terminal, bool)


def test_an_episode_begins_open_and_without_reward(environment: Environment) -> None:
    first = environment.reset(3)
    assert (first.reward, first.is_last, first.is_terminal) == (0.0, False, False)


def test_a_seed_determines_the_episode(environment: Environment) -> None:
    one, other, again = (play(environment, seed, limit=30) for seed in (5, 6, 5))
    assert len(one) == len(again)
    assert all(same(a, b) for a, b in zip(one, again, strict=True))
    assert not all(same(a, b) for a, b in zip(one, other, strict=False))


def test_every_episode_ends_and_only_terminal_at_its_end(environment: Environment) -> None:
    steps = play(environment, seed=2)
    assert steps[-1].is_last
    assert not any(step.is_last or step.is_terminal for step in steps[:-1])


def test_a_step_without_an_open_episode_is_refused(environment: Environment) -> None:
    action = next(actions(environment))
    with pytest.raises(ValueError, match="reset"):
        environment.step(action)
    play(environment, seed=2)
    with pytest.raises(ValueError, match="reset"):
        environment.step(action)
    environment.reset(2)
    environment.step(action)


def test_actions_beyond_the_bounds_are_clipped(environment: Environment) -> None:
    far = {
        k: v if environment.action_space[k].discrete else np.full_like(v, 7.5)
        for k, v in next(actions(environment)).items()
    }
    edge = {k: v if environment.action_space[k].discrete else np.ones_like(v) for k, v in far.items()}
    environment.reset(4)
    beyond = environment.step(far)
    environment.reset(4)
    assert same(beyond, environment.step(edge))


def test_earlier_observations_are_not_overwritten(environment: Environment) -> None:
    first = environment.reset(1)
    kept = {key: value.copy() for key, value in first.observation.items()}
    for action, _ in zip(actions(environment), range(5), strict=False):
        environment.step(action)
    assert all(np.array_equal(first.observation[key], kept[key]) for key in kept)


def test_actions_are_not_changed(environment: Environment) -> None:
    environment.reset(1)
    action = next(actions(environment))
    kept = {key: value.copy() for key, value in action.items()}
    environment.step(action)
    assert all(np.array_equal(action[key], kept[key]) for key in kept)


def test_it_draws_itself(environment: Environment, request: pytest.FixtureRequest) -> None:
    if "dmc" in request.node.callspec.id and (reason := request.getfixturevalue("drawing")):
        pytest.skip(f"MuJoCo cannot render here: {reason}")
    if "metaworld" in request.node.callspec.id and (reason := what_drawing_lacks()):
        pytest.skip(reason)
    environment.reset(0)
    picture = environment.render()
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[-1] == 3
    assert picture.max() > 0


def test_the_conformance_check_finds_no_error(environment: Environment) -> None:
    errors = [str(finding) for finding in check_environment(environment, steps=200) if finding.severity == "error"]
    assert not errors
