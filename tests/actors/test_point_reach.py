"""Point reach: an environment like others, whose goal neither chance nor standing still reaches."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from actors.config import EnvironmentConfig
from actors.envs import make
from actors.envs.point_reach import LARGEST, RADIUS, STEPS, draw, moved, random_clips, starts_and_goals

TASK = "gym:actors.envs.point_reach:PointReach-v0"


def test_it_is_a_gymnasium_environment() -> None:
    check_env(gymnasium.make("PointReach-v0").unwrapped, skip_render_check=False)


def test_an_episode_of_the_task() -> None:
    environment = make(TASK, EnvironmentConfig())
    assert {key: space.shape for key, space in environment.observation_space.items()} == {
        "image": (64, 64, 3), "goal": (64, 64, 3), "position": (2,),
    }  # fmt: skip
    first = environment.reset(0)
    goal = first.observation["goal"]
    position = first.observation["position"]
    for step in range(1, STEPS + 1):
        seen = environment.step({"action": np.array([1, -1], np.float32)})
        position = moved(position, np.array([LARGEST, -LARGEST], np.float32))
        np.testing.assert_allclose(seen.observation["position"], position, atol=1e-6)
        np.testing.assert_array_equal(seen.observation["goal"], goal)
        np.testing.assert_array_equal(seen.observation["image"], draw(position[None])[0])
        assert seen.reward < 0 and not seen.is_terminal and seen.is_last == (step == STEPS)
    again = environment.reset(0)
    np.testing.assert_array_equal(again.observation["goal"], goal)
    environment.close()


@pytest.mark.parametrize(("policy", "least", "most"), [("random", 0.0, 0.004), ("zero", 0, 0), ("oracle", 0.935, 0.96)])
def test_chance_does_not_reach_the_goal(policy: str, least: float, most: float) -> None:
    rng = np.random.default_rng(0)
    positions, goals = starts_and_goals(5000, rng)
    assert (np.linalg.norm(positions - goals, axis=1) >= 0.4).all()
    reached = np.zeros(5000, bool)
    for _ in range(STEPS):
        moves = {
            "random": rng.uniform(-LARGEST, LARGEST, positions.shape), "zero": 0 * goals, "oracle": goals - positions,
        }[policy]  # fmt: skip
        positions = moved(positions, moves)
        reached |= np.linalg.norm(positions - goals, axis=1) <= RADIUS
    assert least <= reached.mean() <= most


def test_success_is_reported_once_reached() -> None:
    environment = gymnasium.make("PointReach-v0")
    observation, _ = environment.reset(seed=1)
    target = environment.unwrapped._target  # type: ignore[attr-defined]
    seen = []
    for _ in range(STEPS):
        *_, truncated, info = environment.step(np.clip(target - observation["position"], -LARGEST, LARGEST))
        observation = environment.unwrapped._observation()  # type: ignore[attr-defined]
        seen.append(info["is_success"])
    assert truncated and seen == sorted(seen) and seen[-1]


def test_pictures_show_the_place_more_finely_than_pixels_do() -> None:
    places = np.array([[0.5, 0.5], [0.503, 0.5], [0, 1], [1, 0]], np.float32)
    for size in (32, 64):
        pictures = draw(places, size)
        assert pictures.shape == (4, size, size, 3) and (pictures[0] != pictures[1]).any()
        bright = (pictures[..., 0] > 137).sum((1, 2))
        np.testing.assert_allclose(bright, np.pi * (0.08 * size) ** 2, rtol=0.2)  # whole at the edges, too
        rows, columns = np.nonzero(pictures[2][..., 0] > 137)
        assert rows.min() > 0.8 * size and columns.max() < 0.2 * size


def test_random_clips_follow_the_dynamics() -> None:
    frames, actions, states = random_clips(5, 9, seed=0, size=32)
    assert frames.shape == (5, 9, 32, 32, 3) and actions.shape == (5, 8, 2) and states.shape == (5, 9, 2)
    np.testing.assert_array_equal(moved(states[:, :-1], LARGEST * actions), states[:, 1:])
    np.testing.assert_array_equal(frames, draw(states.reshape(-1, 2), 32).reshape(frames.shape))
    assert np.abs(actions).max() <= 1 and not np.array_equal(frames, random_clips(5, 9, seed=1, size=32)[0])
