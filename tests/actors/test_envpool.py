"""Environments of envpool: names, options, rewards and flags as envpool gives them, and what is said about misuse."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.batch_environment import episode_seed
from actors.config import EnvironmentConfig, ProcgenConfig
from actors.environment import Environment
from actors.envs import make, make_pool, steps_in_batches, task_names
from actors.envs.envpool import loading
from actors.evaluation import run_episodes
from actors.native_actions import native_action
from actors.pool_environment import PoolEnvironment
from actors.trivial_policies import RandomPolicy
from deploy.wiring.config import RunConfig
from deploy.wiring.task import pool_maker
from tests.actors.envpool_here import what_drawing_lacks, what_procgen_lacks

pytestmark = pytest.mark.filterwarnings("ignore:.*precision lowered")

if not find_spec("envpool"):
    pytest.skip("envpool is a dependency on Linux alone", allow_module_level=True)
envpool = loading.envpool()

ROOT = Path(__file__).parents[2]
NOBODY = np.zeros(2, bool)


def python(code: str, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    environ.pop("NEXUS_ENVPOOL_DRAWS", None)
    return subprocess.run(
        [*command, sys.executable, "-c", code], cwd=folder, env=environ, capture_output=True, text=True, timeout=500
    )


def test_tasks_have_names() -> None:
    names = task_names()
    assert {"procgen_coinrun", "metaworld_reach-v3", "envpool:CartPole-v1", "envpool:MetaWorld/Reach-v3"} <= set(names)
    assert len([name for name in names if name.startswith("procgen_")]) == 16
    assert len([name for name in names if name.startswith("metaworld_")]) == 50
    assert {f"envpool:{name}" for name in envpool.list_all_envs()} <= set(names)
    plain, limited = EnvironmentConfig(), EnvironmentConfig(time_limit=7)
    assert steps_in_batches("procgen_coinrun", plain) and not steps_in_batches("dmc_walker_walk", plain)
    assert steps_in_batches("metaworld_reach", limited) and not steps_in_batches("procgen_coinrun", limited)


def test_a_time_limit_that_envpool_ignores_is_kept_one_by_one() -> None:
    environment = make("procgen_coinrun", EnvironmentConfig(time_limit=7))
    environment.reset(0)
    steps = [environment.step({"action": np.array(4, np.int32)}) for _ in range(7)]  # no move
    assert [step.is_last for step in steps] == [False] * 6 + [True] and not steps[-1].is_terminal
    environment.close()
    config = RunConfig(task="procgen_coinrun", environment=EnvironmentConfig(time_limit=7))
    assert pool_maker(config) is None
    with pytest.raises(ValueError, match="keeps environment.time_limit"):
        pool_maker(replace(config, environment=replace(config.environment, pool="on")))


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        ("procgen_coinrum", {}, "nearest are procgen_coinrun"),
        ("metaworld_rech", {}, "nearest are metaworld_reach, "),
        ("envpool:CartPol-v1", {}, "nearest are envpool:CartPole-v1"),
        ("envpool:Go9x9-v1", {}, "up to 2 players"),
        ("envpool:CartPole-v1", {"observations": "pixels"}, "no other pixels than its own"),
        ("metaworld_reach", {"observations": "both"}, "no both vectors and pixels"),
        ("procgen_coinrun", {"fast_rendering": True}, "is for dm_control"),
        ("envpool:CartPole-v1", {"procgen": ProcgenConfig(num_levels=3)}, "is for Procgen's games"),
    ],
)
def test_what_it_cannot_do_is_said(task: str, options: dict[str, Any], words: str) -> None:
    for way in (make, partial(make_pool, count=2)):
        with pytest.raises(ValueError, match=words):
            way(task, EnvironmentConfig(**options))


def test_a_task_without_a_pool_is_named() -> None:
    with pytest.raises(ValueError, match="'gym:CartPole-v1' has no back end that steps in batches"):
        make_pool("gym:CartPole-v1", EnvironmentConfig(), 2)


CONFIGS = {
    "envpool:CartPole-v1": EnvironmentConfig(action_repeat=3),
    "envpool:WalkerWalk-v1": EnvironmentConfig(action_repeat=2, time_limit=30),
    "envpool:Pong-v5": EnvironmentConfig(time_limit=40),
    "envpool:Taxi-v3": EnvironmentConfig(),
    "envpool:BinPack-v2": EnvironmentConfig(),
    "procgen_maze": EnvironmentConfig(image_size=(20, 24), frame_stack=2),
    "metaworld_reach": EnvironmentConfig(time_limit=15),
}


@pytest.mark.parametrize("task", CONFIGS)
def test_the_first_episode_of_a_pool_is_that_of_a_single_environment_with_its_seed(task: str) -> None:
    if task.startswith("procgen") and (missing := what_procgen_lacks()):
        pytest.skip(missing)
    config = CONFIGS[task]
    pool = PoolEnvironment(partial(make_pool, task, config, 2, 1), 5, [0, 1])
    alone: Environment = make(task, config)
    assert (pool.observation_space, pool.action_space) == (alone.observation_space, alone.action_space)
    assert pool.frames_per_step == alone.frames_per_step
    policy, rows = RandomPolicy(pool.action_space, 1), pool.step()
    step = alone.reset(episode_seed(5, 1, 0))
    for draw in range(40):
        assert all(np.array_equal(rows[key][1], value) for key, value in step.observation.items()), draw
        assert rows["reward"][1] == np.float32(step.reward)
        assert (rows["is_last"][1], rows["is_terminal"][1]) == (step.is_last, step.is_terminal)
        if step.is_last:
            break
        actions = policy.act(None, rows, rows["is_first"], draw)[1]
        rows, step = pool.step(actions), alone.step({key: value[1] for key, value in actions.items()})
    pool.close()
    alone.close()


def test_a_pool_gives_what_envpool_gives() -> None:
    """The same seeds and actions through envpool's own interface: every observation, reward and flag."""
    raw = envpool.make_gymnasium("CartPole-v1", num_envs=2, seed=[3, 4])
    pool = make_pool("envpool:CartPole-v1", EnvironmentConfig(), 2)
    observation, _ = raw.reset()
    step = pool.reset([3, 4])
    rng, ended = np.random.default_rng(0), NOBODY
    for _ in range(100):
        assert np.array_equal(step.observation["vector"], observation)
        actions = rng.integers(0, 2, 2, dtype=np.int32)
        step, (observation, reward, terminated, truncated, info) = (
            pool.step({"action": actions}, ended),
            raw.step(actions),
        )
        assert np.array_equal(step.reward, reward)
        assert np.array_equal(step.is_terminal, terminated) and np.array_equal(step.is_last, terminated | truncated)
        assert np.array_equal(ended, info["elapsed_step"] == 0)  # it begins an episode in the call after the last step
        ended = step.is_last
    pool.close()


def test_a_time_limit_is_no_terminal_and_counts_frames() -> None:
    pool = PoolEnvironment(partial(make_pool, "envpool:Pong-v5", EnvironmentConfig(time_limit=20), 1), 0, [0])
    assert pool.frames_per_step == 4
    pool.step()
    for _ in range(5):
        rows = pool.step({"action": np.zeros(1, np.int32)})
    assert rows["is_last"].all() and not rows["is_terminal"].any()
    assert [episode.length for episode in pool.finished()] == [20]


@pytest.mark.parametrize("name", ["Pendulum-v1", "CarRacing-v3", "Cleaner-v0"])
def test_actions_reach_their_bounds(name: str) -> None:
    """-1 and 1 are the environment's own bounds: floats, bounds that are not symmetric, integers."""
    space = make(f"envpool:{name}").action_space["action"]
    own = envpool.make_spec(name).gymnasium_action_space
    for value, bound in ((-1, own.low), (1, own.high), (9, own.high)):
        action = native_action({"action": space}, {"action": np.full(space.shape, value, np.float32)})
        assert np.array_equal(action, bound) and action.dtype == own.dtype


def test_a_bound_that_means_none_is_none() -> None:
    """envpool gives DMC's observations a lower bound of 2.2e-308."""
    space = make("envpool:WalkerWalk-v1").observation_space["velocity"]
    assert np.isneginf(space.low).all() and np.isposinf(space.high).all()


def test_procgen_is_as_published() -> None:
    if missing := what_procgen_lacks():
        pytest.skip(missing)
    pool = make_pool("procgen_coinrun", EnvironmentConfig(), 2)
    assert pool.observation_space["image"].shape == (64, 64, 3)
    assert (pool.action_space["action"].classes, pool.frames_per_step) == (15, 1)
    raw = envpool.make_gymnasium("CoinrunHard-v0", num_envs=2, seed=[3, 4])
    assert (raw.config["distribution_mode"], raw.config["num_levels"]) == (1, 0)  # hard, all levels
    assert np.array_equal(pool.reset([3, 4]).observation["image"], np.moveaxis(raw.reset()[0], 1, -1))
    pool.close()


def test_metaworld_shows_the_goal_and_reports_success() -> None:
    pool = PoolEnvironment(partial(make_pool, "metaworld_reach", EnvironmentConfig(time_limit=10), 2), 0, [0, 1])
    goals = [tuple(pool.step()["vector"][0, 36:])]
    for _ in range(11):
        rows = pool.step({"action": np.zeros((2, 4), np.float32)})
    goals.append(tuple(rows["vector"][0, 36:]))
    assert all(any(goal) for goal in goals)
    assert goals[0] != goals[1]  # another one in every episode
    (first, second) = pool.finished()
    assert first.metrics.keys() == {"is_success", "log/success/avg", "log/success/max", "log/success/sum"}
    assert (first.seed, second.seed) == (episode_seed(0, 0, 0), episode_seed(0, 1, 0))
    pool.close()


class ReachedAtFirst:
    """envpool's environments, with success in the first of the frames of a step alone."""

    def __init__(self, raw: Any, success: int) -> None:
        self.raw, self.success, self.answers = raw, success, 0
        self._send = raw._send

    def _recv(self) -> list[np.ndarray]:
        state = list(self.raw._recv())
        state[self.success] = np.full_like(state[self.success], self.answers % 2 == 0)
        self.answers += 1
        return state


def test_success_within_a_step_of_several_frames_is_not_lost() -> None:
    pool: Any = make_pool("metaworld_reach", EnvironmentConfig(action_repeat=2), 2)
    pool.reset([0, 1])
    simulation = pool._simulation
    simulation._raw = ReachedAtFirst(simulation._raw, simulation._success)
    infos = pool.step({"action": np.zeros((2, 4), np.float32)}, NOBODY).infos
    assert simulation._raw.answers == 2
    assert infos["log/success"].tolist() == [1, 1], "in any frame"
    assert infos["is_success"].tolist() == [0, 0], "in the last one"
    pool.close()


def test_each_environment_of_an_evaluation_plays_its_share() -> None:
    task, config = "envpool:CartPole-v1", EnvironmentConfig()
    result = run_episodes(
        [partial(make, task)] * 3, RandomPolicy(make(task).action_space), 7, 4, first_index=50, video_episodes=1,
        pool=partial(make_pool, task, config),
    )  # fmt: skip
    assert [(e.env_index, e.episode) for e in result.episodes] == [
        (50, 0), (51, 0), (52, 0), (50, 1), (51, 1), (52, 1), (50, 2),
    ]  # fmt: skip
    assert result.scores == result.lengths  # CartPole pays 1 a frame
    assert [e.seed for e in result.episodes[3:]] == [-1] * 4
    assert {e.backend for e in result.episodes} == {"envpool"}
    assert len(result.frames) == result.lengths[0] + 1 and result.frames[0].shape == (400, 600, 3)


def test_pixels_of_mujoco_have_channels_last_and_the_size_that_is_asked_for(tmp_path: Path) -> None:
    if reason := what_drawing_lacks():
        pytest.skip(reason)
    config = EnvironmentConfig(observations="pixels", image_size=(32, 48), time_limit=3)
    environments = PoolEnvironment(partial(make_pool, "envpool:CartpoleBalance-v1", config, 2, 1), 0, [0, 1])
    assert {key: space.shape for key, space in environments.observation_space.items()} == {"image": (32, 48, 3)}
    rows = environments.step()
    assert rows["image"].shape == (2, 32, 48, 3) and rows["image"].max() > 0
    assert np.array_equal(environments.render(0).shape, (32, 48, 3))
    environments.close()
