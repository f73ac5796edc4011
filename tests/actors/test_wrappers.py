"""Action repeat, time limit, frame stack and action scaling."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

from actors.config import EnvironmentConfig
from actors.envs import make
from actors.envs.gymnasium import GymnasiumEnvironment
from actors.envs.wrappers import FrameStack, NormalizeActions, TimeLimit, step_limit


class Counter(gymnasium.Env):
    """Shows the time as a picture, remembers the last action, and ends at 9."""

    observation_space = Box(0, 255, (4, 4, 1), np.uint8)
    action_space = Box(np.array([0, -10, -np.inf, -3], np.float32), np.array([1, 30, np.inf, np.inf], np.float32))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.time = 0
        return np.full((4, 4, 1), 0, np.uint8), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        self.action = action
        return np.full((4, 4, 1), self.time, np.uint8), float(self.time), self.time == 9, False, {}


def counter(**config: Any) -> GymnasiumEnvironment:
    return GymnasiumEnvironment(Counter(), "counter", EnvironmentConfig(image_size=(0, 0), **config))


ACTION = {"action": np.zeros(4, np.float32)}


def test_rewards_are_summed_over_repeats_up_to_the_end() -> None:
    environment = counter(action_repeat=4)
    assert environment.frames_per_step == 4
    environment.reset(0)
    steps = [environment.step(ACTION) for _ in range(3)]
    assert [step.reward for step in steps] == [1 + 2 + 3 + 4, 5 + 6 + 7 + 8, 9]
    assert [step.is_last for step in steps] == [False, False, True]
    assert [int(step.observation["image"].max()) for step in steps] == [4, 8, 9]


def test_dm_control_repeats_like_two_single_steps() -> None:
    twice, once = make("dmc_walker_walk", EnvironmentConfig(action_repeat=2)), make("dmc_walker_walk")
    twice.reset(5), once.reset(5)
    rng = np.random.default_rng(0)
    for _ in range(10):
        action = {"action": rng.uniform(-1, 1, 6).astype(np.float32)}
        step, first, second = twice.step(action), once.step(action), once.step(action)
        assert step.reward == first.reward + second.reward
        for key, value in step.observation.items():
            np.testing.assert_array_equal(value, second.observation[key])


def test_dm_control_episodes_are_truncated_after_1000_frames() -> None:
    environment = make("dmc_cartpole_swingup", EnvironmentConfig(action_repeat=2))
    step, steps = environment.reset(0), 0
    while not step.is_last:
        step, steps = environment.step({"action": np.zeros(1, np.float32)}), steps + 1
    assert (steps, step.is_terminal, environment.frames_per_step) == (500, False, 2)


def test_a_time_limit_truncates_and_counts_frames() -> None:
    environment = TimeLimit(counter(action_repeat=2), frames=6)
    environment.reset(0)
    flags = [environment.step(ACTION)[2:4] for _ in range(3)]
    assert flags == [(False, False), (False, False), (True, False)]
    with pytest.raises(ValueError, match="time limit of 6 frames"):
        environment.step(ACTION)
    environment.reset(0)
    assert not environment.step(ACTION).is_last


def test_environments_say_after_how_many_steps_a_time_limit_cuts_them() -> None:
    for limit, repeat, steps in ((0, 1, 500), (0, 3, 167), (100, 1, 100), (100, 3, 34), (900, 1, 500)):
        environment = make("gym:CartPole-v1", EnvironmentConfig(time_limit=limit, action_repeat=repeat))
        assert step_limit(environment) == steps, (limit, repeat)
    assert step_limit(FrameStack(TimeLimit(counter(), 7), 2)) == 7 and step_limit(counter()) == 0


def test_a_termination_before_the_time_limit_stays_one() -> None:
    environment = TimeLimit(counter(), frames=9)
    environment.reset(0)
    step = [environment.step(ACTION) for _ in range(9)][-1]
    assert (step.is_last, step.is_terminal) == (True, True)


def test_frames_are_stacked_oldest_first_and_refilled_at_a_reset() -> None:
    environment = FrameStack(counter(), 3)
    assert environment.observation_space["image"].shape == (4, 4, 3)
    for _ in range(2):
        step = environment.reset(0)
        stacks = [step.observation["image"][0, 0].tolist()]
        stacks += [environment.step(ACTION).observation["image"][0, 0].tolist() for _ in range(3)]
        assert stacks == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]


@pytest.mark.parametrize(
    ("action", "raw"),
    [
        ([-1, -1, -1, -1], [0, -10, -1, -1]),
        ([1, 1, 1, 1], [1, 30, 1, 1]),
        ([0, 0, 0, 0], [0.5, 10, 0, 0]),
        ([-9, 9, 90, -9], [0, 30, 90, -3]),  # clipped where there is a bound
    ],
)
def test_actions_are_clipped_and_rescaled(action: list[float], raw: list[float]) -> None:
    inner = counter()
    environment = NormalizeActions(inner)
    space = environment.action_space["action"]
    np.testing.assert_array_equal(space.low, [-1, -1, -np.inf, -3])
    np.testing.assert_array_equal(space.high, [1, 1, np.inf, np.inf])
    environment.reset(0)
    environment.step({"action": np.array(action, np.float32)})
    np.testing.assert_allclose(inner.raw.unwrapped.action, np.array(raw), atol=1e-6)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"action_repeat": 0}, "action_repeat=0 must be at least 1"),
        ({"observations": "picture"}, "observations='picture' is not one of"),
        ({"image_size": (64,)}, "image_size"),
        ({"image_size": (2, 64)}, "at least 4 pixels"),
        ({"time_limit": -1}, "time_limit=-1"),
    ],
)
def test_bad_configurations_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EnvironmentConfig(**config)
