"""ReacherGoal: a posture given as a picture, which neither chance nor standing still takes."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from actors.envs import make
from actors.envs.reacher_goal import (
    APART,
    RADIUS,
    STEPS,
    WRIST,
    ReacherGoal,
    angles_of,
    places,
    starts_and_goals,
    towards,
)
from actors.envs.rendering import BACKENDS, try_backend

TASK = "gym:actors.envs.reacher_goal:ReacherGoal-v0"


@pytest.fixture(scope="module")
def drawn() -> None:
    if not any(try_backend(name) == "" for name in BACKENDS):
        pytest.skip("neither EGL nor OSMesa draws here; install libosmesa6 to run this")


@pytest.mark.usefixtures("drawn")
def test_it_is_a_gymnasium_environment() -> None:
    check_env(gymnasium.make("ReacherGoal-v0").unwrapped, skip_render_check=False)
    environment = make("gym:actors.envs.reacher_goal:ReacherGoalPicture-v0")
    assert list(environment.observation_space) == ["image"]
    environment.close()


@pytest.mark.usefixtures("drawn")
def test_an_episode_is_the_same_without_pictures() -> None:
    seeing, blind = make(TASK), make(TASK.replace("ReacherGoal-", "ReacherGoalPlaces-"))
    assert sorted(blind.observation_space) == ["position", "target"]
    one, other = seeing.reset(4).observation, blind.reset(4).observation
    for _ in range(4):
        for key, value in other.items():
            np.testing.assert_array_equal(value, one[key])
        action = {"action": np.array([0.5, -0.7], np.float32)}
        one, other = seeing.step(action).observation, blind.step(action).observation
    seeing.close()
    blind.close()


@pytest.mark.usefixtures("drawn")
def test_proportional_control_takes_the_posture_of_the_picture() -> None:
    environment = make(TASK)
    for seed in range(3):
        seen = environment.reset(seed).observation
        goal, reached = seen["goal"], []
        assert np.linalg.norm((seen["position"] - seen["target"])[2:]) >= APART - 1e-6
        assert (np.abs(seen["image"].astype(int) - goal) > 50).any()
        for step in range(1, STEPS + 1):
            there = environment.step({"action": towards(seen["position"], seen["target"])})
            seen = there.observation
            elbow, finger = np.linalg.norm((seen["position"] - seen["target"]).reshape(2, 2), axis=1)
            reached.append(max(elbow, finger) <= RADIUS)
            np.testing.assert_allclose(there.reward, -finger, atol=1e-6)
            np.testing.assert_array_equal(seen["goal"], goal)
            assert there.infos[0]["is_success"] == any(reached)
            assert not there.is_terminal and there.is_last == (step == STEPS)
        assert reached[-1] and finger < 0.01
        assert np.abs(seen["image"].astype(int) - goal).mean() < 0.5
    environment.close()


@pytest.mark.usefixtures("drawn")
def test_the_seed_alone_determines_an_episode() -> None:
    fresh, used = make(TASK), make(TASK)
    used.reset(5)
    for _ in range(3):
        used.step({"action": np.ones(2, np.float32)})
    one, other = fresh.reset(9), used.reset(9)
    for _ in range(5):
        for key, value in one.observation.items():
            np.testing.assert_array_equal(value, other.observation[key])
        action = {"action": np.array([0.3, -1], np.float32)}
        one, other = fresh.step(action), used.step(action)
    fresh.close()
    used.close()


def test_chance_seldom_reaches_the_goal_and_standing_still_never_does() -> None:
    environment = ReacherGoal(pictures=False)
    rng, reached = np.random.default_rng(0), []
    for seed in range(100):
        environment.reset(seed=seed)
        for _ in range(STEPS):
            *_, info = environment.step(rng.uniform(-1, 1, 2))
        reached.append(info["is_success"])
    assert 0.02 <= np.mean(reached) <= 0.2
    starts, goals = (places(angles) for angles in starts_and_goals(1000, rng))
    apart = np.linalg.norm((starts - goals).reshape(-1, 2, 2), axis=2).max(1)
    assert len(starts) == 1000 and apart.min() >= APART > RADIUS
    environment.close()


def test_angles_and_places_tell_each_other() -> None:
    rng = np.random.default_rng(0)
    angles = rng.uniform(-1, 1, (100, 2)) * (np.pi, WRIST)
    np.testing.assert_allclose(angles_of(places(angles)), angles, atol=1e-6)
    near = places(np.array([[3.1, 0.0], [-3.1, 0.0]]))
    assert towards(near[0], near[1])[0] > 0 > towards(near[1], near[0])[0]  # the shorter way round
    environment = ReacherGoal(pictures=False)
    environment.reset(seed=0)
    position, joints = environment._position(), np.array(environment._physics.data.qpos)
    np.testing.assert_allclose(places(joints), position, atol=1e-6)
    environment.close()
