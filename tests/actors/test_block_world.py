"""The block world: an environment like others, with clips as hard to predict as they are said to be."""

from functools import cache
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from actors.config import EnvironmentConfig
from actors.conformance import check_environment
from actors.envs import make
from actors.envs.block_world import (
    FAR,
    GOAL,
    MOVES,
    STEPS,
    WALK_STEPS,
    distances,
    draw,
    goal_maps,
    moved,
    random_clips,
    shortest,
)

TASK = "gym:actors.envs.block_world:"
PLAIN = EnvironmentConfig(image_size=(0, 0))


@pytest.mark.parametrize("name", ["BlockWorld-v0", "BlockWorldLevels-v0", "BlockWorldWalk-v0"])
def test_it_is_an_environment(name: str) -> None:
    check_env(gymnasium.make(name).unwrapped, skip_render_check=False)
    environment = make(TASK + name, PLAIN)
    assert not check_environment(environment, steps=200)
    environment.close()


def test_levels_are_eight_and_begin_anywhere() -> None:
    environment = gymnasium.make("BlockWorldLevels-v0")
    world: Any = environment.unwrapped
    maps, begun = set(), set()
    for seed in range(100):
        environment.reset(seed=seed)
        maps.add((world.maps.walls.tobytes(), world.maps.light.tobytes(), world.maps.goals.tobytes()))
        begun.add(world.place.tobytes())
        away = distances(world.maps.walls, world.maps.goals)
        assert 0 < away[0, world.place[:, 0], world.place[:, 1]][0] < FAR, "the goal can be reached"
    assert len(maps) == 8 and len(begun) > 20


def test_an_expert_reaches_the_goal_which_ends_the_episode() -> None:
    environment = gymnasium.make("BlockWorld-v0")
    world: Any = environment.unwrapped
    rng = np.random.default_rng(0)
    seen = set()
    for seed in range(10):
        image, _ = environment.reset(seed=seed)
        assert (image == GOAL).all(-1).sum() == 16
        seen.add(image.tobytes())
        away = distances(world.maps.walls, world.maps.goals)
        (left,) = away[0, world.place[:, 0], world.place[:, 1]]
        assert 0 < left < FAR
        for step in range(1, left + 1):
            (action,) = shortest(away, world.place, rng)
            image, reward, terminated, truncated, info = environment.step(action)
            assert not truncated and reward == terminated == info["is_success"] == (step == left)
        assert not (image == GOAL).all(-1).any()
    assert len(seen) == 10


@pytest.mark.parametrize(("name", "limit"), [("BlockWorld-v0", STEPS), ("BlockWorldWalk-v0", WALK_STEPS)])
def test_standing_still_ends_with_the_time(name: str, limit: int) -> None:
    environment = make(TASK + name, PLAIN)
    environment.reset(0)
    steps = [environment.step({"action": np.array(0, np.int32)}) for _ in range(limit)]
    assert [step.is_last for step in steps] == [False] * (limit - 1) + [True]
    assert not any(step.is_terminal or step.reward for step in steps)
    environment.close()


def test_random_actions_seldom_reach_the_goal() -> None:
    rng = np.random.default_rng(0)
    maps, places = goal_maps(2000, rng)
    reached = np.zeros(len(places), bool)
    for _ in range(STEPS):
        places = moved(maps.walls, places, rng.integers(len(MOVES), size=len(places)))
        reached |= (places == maps.goals).all(1)
    assert reached.mean() == pytest.approx(0.18, abs=0.03)


def test_distances_go_around_walls() -> None:
    walls = np.zeros((1, 8, 8), bool)
    walls[0, 1, :7] = True
    walls[0, 6] = True
    away = distances(walls, np.array([[0, 0]]))[0]
    assert (away[0] == np.arange(8)).all() and (away[2] == 16 - np.arange(8)).all()
    assert away[1, 7] == 8 and (away[1, :7] == FAR).all() and (away[7] == FAR).all()


@cache
def clips() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return random_clips(1000, 16, [0, False])


def test_the_agent_moves_as_its_actions_say() -> None:
    frames, actions, places = clips()
    assert frames.shape == (1000, 16, 32, 32, 3) and actions.shape == (1000, 15)
    steps = np.diff(places, axis=1)
    went = (steps != 0).any(-1)
    np.testing.assert_array_equal(steps[went], np.array(MOVES)[actions][went])
    unchanged = (frames[:, 1:] == frames[:, :-1]).all((2, 3, 4))
    np.testing.assert_array_equal(unchanged, ~went)
    assert unchanged.mean() == pytest.approx(0.45, abs=0.02)
    for clip, place in zip(frames[:50], places[:50], strict=True):
        for frame, (y, x) in zip(clip, place, strict=True):
            assert (frame[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] == (240, 240, 30)).all()


def test_copying_the_last_frame_is_a_poor_prediction() -> None:
    """PSNR of the mean squared error."""
    frames = clips()[0] / 255
    psnr = [-10 * np.log10(((frames[:, k:] - frames[:, :-k]) ** 2).mean()) for k in (1, 4)]
    assert psnr == pytest.approx([22.5, 21.0], abs=0.3)


def test_clips_with_goals_show_the_environments_pictures() -> None:
    frames, _, places = random_clips(20, 4, 0, goals=True)
    shown = (frames == GOAL).all(-1).sum((2, 3))
    assert set(np.unique(shown)) <= {0, 16} and shown.mean() > 14  # the agent may stand on it
    maps, start = goal_maps(3, np.random.default_rng(1))
    assert draw(maps, start).shape == (3, 32, 32, 3) and places.shape == (20, 4, 2)
