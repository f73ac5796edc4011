"""envpool's DeepMind Control Suite beside dm_control: two programs, on two versions of MuJoCo, for the same tasks.

Neither seeds nor first states can be compared: each draws them in its own way, and envpool cannot be given a state. But
its first observation determines the state of these tasks (up to the walker's place along the floor), so dm_control is
put into that one, and both get the same actions. What they then show is the same up to float32, and stays so as long as
the physics is smooth; a walker on the floor amplifies any rounding, to about 1e-3 after 50 steps and beyond every bound
after 200. So scores may be compared as those of one task with other random draws, but no trajectory is the same.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from actors.config import EnvironmentConfig
from actors.envs import make, make_pool
from actors.envs.dm_control import DmControlEnvironment

if not find_spec("envpool"):
    pytest.skip("envpool is a dependency on Linux alone", allow_module_level=True)

Put = Callable[..., None]


def angle(cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
    return np.arctan2(np.asarray(sine, np.float64), cosine)


def put_cartpole(physics: Any, shown: dict[str, np.ndarray]) -> None:
    place, cosine, sine = shown["position"]
    physics.data.qpos[:] = [place, angle(cosine, sine)]
    physics.data.qvel[:] = shown["velocity"]


def put_pendulum(physics: Any, shown: dict[str, np.ndarray]) -> None:
    physics.data.qpos[:] = angle(*shown["orientation"])
    physics.data.qvel[:] = shown["velocity"]


def put_walker(physics: Any, shown: dict[str, np.ndarray]) -> None:
    """The angles of its seven parts, from which those of its joints follow; its height last."""
    torso, *legs = angle(shown["orientations"][0::2], shown["orientations"][1::2])
    state = physics.named.data.qpos
    state["rootx"], state["rootz"], state["rooty"] = 0.0, 0.0, torso
    for side, parts in (("right", legs[:3]), ("left", legs[3:])):
        for joint, above, below in zip(("hip", "knee", "ankle"), (torso, *parts), parts, strict=False):
            state[f"{side}_{joint}"] = (above - below + np.pi) % (2 * np.pi) - np.pi
    physics.data.qvel[:] = shown["velocity"]
    physics.forward()
    state["rootz"] = shown["height"][0] - physics.torso_height()


def differences(name: str, task: str, put: Put, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest difference of an observation at each step, the first state included, and that of the reward."""
    pool, ours = make_pool(f"envpool:{name}", EnvironmentConfig(), 1), make(task)
    adapter: DmControlEnvironment = ours.inner  # type: ignore[attr-defined]
    step = pool.reset([3])
    ours.reset(0)
    put(adapter.raw.physics, {key: value[0] for key, value in step.observation.items()})
    adapter.raw.physics.forward()
    shown = adapter._observe(adapter.raw.task.get_observation(adapter.raw.physics))
    assert shown.keys() == step.observation.keys()
    observations, rewards = [[abs(shown[key] - step.observation[key][0]).max() for key in shown]], [0.0]
    rng, ended = np.random.default_rng(0), np.zeros(1, bool)
    for _ in range(steps):
        action = rng.uniform(-1, 1, pool.action_space["action"].shape).astype(np.float32)
        step, single = pool.step({"action": action[None]}, ended), ours.step({"action": action})
        assert (step.is_last[0], step.is_terminal[0]) == (single.is_last, single.is_terminal)
        observations.append([abs(single.observation[key] - step.observation[key][0]).max() for key in shown])
        rewards.append(abs(single.reward - step.reward[0]))
        ended = step.is_last
    assert ended[0] == (steps == 1000)
    pool.close()
    ours.close()
    return np.max(observations, 1), np.asarray(rewards)


@pytest.mark.parametrize(
    ("name", "task", "put", "steps"),
    [
        ("CartpoleSwingup-v1", "dmc_cartpole_swingup", put_cartpole, 1000),
        ("PendulumSwingup-v1", "dmc_pendulum_swingup", put_pendulum, 300),
    ],
)
def test_smooth_physics_is_the_same_for_a_whole_episode(
    name: str, task: str, put: Put, steps: int, record_property: Callable[[str, object], None]
) -> None:
    observations, rewards = differences(name, task, put, steps)
    record_property("largest difference of observations", float(observations.max()))
    assert observations[0] < 2e-7
    assert observations.max() < 1e-4  # 3e-6 and 2e-7 were seen
    assert rewards.max() < 1e-6


def test_contacts_amplify_rounding(record_property: Callable[[str, object], None]) -> None:
    observations, rewards = differences("WalkerWalk-v1", "dmc_walker_walk", put_walker, 20)
    record_property("differences of observations", observations.tolist())
    assert observations[:3].max() < 1e-5
    assert observations.max() < 1e-2  # 5e-5 was seen; 8e-4 after 50 steps, 2e-3 after 100, 17 after 200
    assert rewards.max() < 1e-4
