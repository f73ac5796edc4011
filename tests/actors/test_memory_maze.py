"""Memory Maze: the published numbers of its tasks, exact episodes, pictures, and what it says where nothing draws."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from actors.config import EnvironmentConfig
from actors.environment import Step
from actors.envs import make
from actors.envs.memory_maze import MemoryMazeEnvironment
from actors.envs.rendering import BACKENDS, try_backend

pytestmark = pytest.mark.skipif(find_spec("memory_maze") is None, reason="the extra memory_maze is not installed")
ROOT = Path(__file__).parents[2]
FORWARD, LEFT, FORWARD_RIGHT = ({"action": np.array(number, np.int32)} for number in (1, 2, 5))


@pytest.fixture(scope="module")
def drawing() -> None:
    if not any(not try_backend(name) for name in BACKENDS):
        pytest.skip("neither EGL nor OSMesa draws here; install libosmesa6 to run this")


@pytest.fixture(scope="module")
def maze(drawing: None) -> Iterator[MemoryMazeEnvironment]:
    environment = MemoryMazeEnvironment("memory_maze_9x9", EnvironmentConfig(fast_rendering=True))
    yield environment
    environment.close()


def same(one: Step, two: Step) -> bool:
    return one[1:] == two[1:] and np.array_equal(one.observation["image"], two.observation["image"])


def test_the_task_is_the_published_one(maze: MemoryMazeEnvironment) -> None:
    assert maze.observation_space["image"].shape == (64, 64, 3)
    assert maze.action_space["action"].classes == 6 and maze.frames_per_step == 1
    task, inner = maze._task, maze._inner
    assert inner._time_limit / task.control_timestep == pytest.approx(1000, abs=0.01)
    assert task.n_targets == 3 and (maze._arena.maze.width, maze._arena.maze.height) == (11, 11)


def test_an_episode_is_the_same_in_a_fresh_and_in_a_used_environment(maze: MemoryMazeEnvironment) -> None:
    """The maze too, whose generator cannot be reseeded. Drawing for people changes nothing."""
    fresh = MemoryMazeEnvironment("memory_maze_9x9", EnvironmentConfig(fast_rendering=True))
    first = maze.reset(8)
    for _ in range(5):
        maze.step(FORWARD)
    one, other = fresh.reset(3), maze.reset(3)
    assert same(one, other) and not same(first, one)
    for number in range(25):
        action = (FORWARD, LEFT, FORWARD_RIGHT)[number % 3]
        one, other = fresh.step(action), maze.step(action)
        assert same(one, other), f"step {number}"
        if number % 8 == 0:
            maze.render()
    fresh.close()


def test_the_border_has_the_colour_of_the_target(maze: MemoryMazeEnvironment) -> None:
    image = maze.reset(1).observation["image"]
    color = maze._task._target_colors[maze._task._current_target_ix] * 255 * 0.7
    for edge in (image[:2], image[-2:], image[:, :2], image[:, -2:]):
        assert np.abs(edge - color).max() < 1
    assert image[2:-2, 2:-2].std() > 5
    video = maze.render()
    assert video.shape == (256, 256, 3)
    assert np.abs(video[0, 0] - color).max() < 1 and video[8:-8, 8:-8].std() > 5


def test_reaching_the_target_is_rewarded_once(maze: MemoryMazeEnvironment) -> None:
    maze.reset(2)
    task = maze._task
    target = task._targets[task._current_target_ix]
    position = maze._inner.physics.bind(target.geom).xpos[:2]
    task._walker.set_pose(maze._inner.physics, position=[*position, 0])
    step = maze.step({"action": np.array(0, np.int32)})
    assert step.reward == 1 and not step.is_last


def test_only_the_time_limit_ends_an_episode(maze: MemoryMazeEnvironment) -> None:
    maze.reset(2)
    maze._inner.physics.data.time = 249.7
    step = maze.step(LEFT)
    assert not step.is_last
    step = maze.step(LEFT)
    assert step.is_last and not step.is_terminal
    with pytest.raises(ValueError, match="reset"):
        maze.step(LEFT)


def test_a_smaller_picture_still_shows_the_maze(drawing: None) -> None:
    config = EnvironmentConfig(image_size=(32, 48), action_repeat=3, fast_rendering=True)
    environment = make("memory_maze_9x9", config)
    image = environment.reset(1).observation["image"]
    assert image.shape == (32, 48, 3) and image[4:-4, 4:-4].std() > 5
    before = environment.inner._inner.physics.data.time  # type: ignore[attr-defined]
    environment.step(FORWARD)
    after = environment.inner._inner.physics.data.time  # type: ignore[attr-defined]
    assert after - before == pytest.approx(0.75)  # 4 control steps a second
    environment.close()


def test_where_nothing_draws_the_packages_are_named_and_nothing_else_is_said() -> None:
    bare = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    code = "from actors.envs import make; make('memory_maze_9x9').reset(0)"
    for backend in ("disabled", *[name for name in BACKENDS if not try_backend(name)][:1]):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=bare | {"MUJOCO_GL": backend}, capture_output=True, text=True,
            timeout=500,
        )  # fmt: skip
        if backend == "disabled":
            last = done.stderr.strip().splitlines()[-1]
            assert "MuJoCo cannot render here" in last and "libosmesa6" in last and "libegl1" in last
        else:
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("task", ["memory_maze_9x10", "memory_maze_9"])
def test_an_unknown_size_names_the_nearest(task: str) -> None:
    with pytest.raises(ValueError, match=r"Unknown task 'memory_maze_9.*nearest are .*memory_maze_9x9"):
        make(task)
