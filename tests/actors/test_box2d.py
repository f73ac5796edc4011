"""Gymnasium's Box2D environments: exact episodes, whatever was played before."""

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("Box2D", reason="the extra box2d is not installed")
from actors.envs import make


@pytest.mark.parametrize("task", ["gym:LunarLander-v3", "gym:BipedalWalker-v3", "gym:CarRacing-v3"])
def test_the_seed_alone_determines_the_episode(task: str) -> None:
    fresh, used = make(task), make(task)
    random = np.random.default_rng(0)
    draw: Callable[[], np.ndarray] = lambda: random.uniform(-1, 1, space.shape).astype(np.float32)  # noqa: E731
    (space,) = fresh.action_space.values()
    if space.discrete:
        draw = lambda: np.array(random.integers(space.classes), np.int32)  # noqa: E731
    for seed in (3, 4):
        used.reset(seed)
        for _ in range(60):
            if used.step({"action": draw()}).is_last:
                break
    one, other = fresh.reset(9), used.reset(9)
    for _ in range(80):
        assert one[1:4] == other[1:4]
        for key, value in one.observation.items():
            np.testing.assert_array_equal(value, other.observation[key])
        if one.is_last:
            break
        action = {"action": draw()}
        one, other = fresh.step(action), used.step(action)
    fresh.close()
    used.close()


def test_a_lander_may_fly_higher_than_its_space_says() -> None:
    environment = make("gym:LunarLander-v3")
    step, highest = environment.reset(0), 0.0
    while not step.is_last and highest < 2.6:
        tilt = step.observation["vector"][4] + step.observation["vector"][5]  # and its speed
        engine = 2 if abs(tilt) < 0.15 else 3 if tilt > 0 else 1  # the main one, or those at the sides
        step = environment.step({"action": np.array(engine, np.int32)})
        highest = float(step.observation["vector"][1])
    assert highest > 2.5 and environment.observation_space["vector"].low.max() == -np.inf  # type: ignore[union-attr]
    environment.close()
