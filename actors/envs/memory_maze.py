"""Memory Maze: `memory_maze_9x9` to `memory_maze_15x15`, a test of memory in random mazes, in pixels."""

import importlib
import importlib.util
import logging
import os
import sys
from types import ModuleType
from typing import Any

import numpy as np

from actors.closing import close_outside
from actors.config import EnvironmentConfig
from actors.environment import Step
from actors.envs import rendering, unknown_task
from actors.faults import require_reward
from actors.native_observations import resize
from world_models.space import Space, Spaces

SIZES = ("9x9", "11x11", "13x13", "15x15")
PREFIX = "memory_maze_"
VIDEO_SIZE = 256
_LEAST = 64  # pixels: the package's border, which has the colour of the target, covers all of a smaller picture


def task_names() -> list[str]:
    """The four mazes."""
    return [PREFIX + size for size in SIZES]


def make(task: str, config: EnvironmentConfig) -> "MemoryMazeEnvironment":
    """The environment of a maze. Raises ValueError if it is unknown, or if pixels cannot be rendered."""
    if task not in task_names():
        raise unknown_task(task, task_names())
    return MemoryMazeEnvironment(task, config)


class MemoryMazeEnvironment:
    """A maze as an Environment: 64x64 pixels whose border has the colour of the object to find, 6 actions.

    Episodes are truncated after 1,000 (9x9), 2,000, 3,000 or 4,000 frames (15x15) and end in no other way.
    """

    backend = "memory_maze"

    def __init__(self, task: str, config: EnvironmentConfig) -> None:
        self._name = task
        size = config.image_size if config.image_size != (0, 0) else (_LEAST, _LEAST)
        resolution = max(_LEAST, *size)
        make_maze = getattr(_tasks(), task)
        try:
            self.raw = make_maze(seed=0, image_only_obs=True, camera_resolution=resolution)
        except Exception as error:
            if rendering.is_about_drawing(error):
                raise rendering.no_renderer() from error
            raise
        self._inner = _innermost(self.raw)
        self._task: Any = self._inner.task
        self._arena: Any = self._task._maze_arena
        if config.fast_rendering:
            quality = self._task.root_entity.mjcf_model.visual.quality
            quality.offsamples = quality.shadowsize = 0
        self.frames_per_step = config.action_repeat
        self._check = config.check_steps
        self._size = size
        self.observation_space: Spaces = {"image": Space(dtype=np.dtype(np.uint8), shape=(*size, 3))}
        self.action_space: Spaces = {
            "action": Space(dtype=np.dtype(np.int32), shape=(), classes=self.raw.action_spec().num_values)
        }
        self._open = False
        self._seed = self._steps = 0

    def reset(self, seed: int) -> Step:
        self._seed, self._steps = seed, 0
        random = np.random.RandomState(seed)
        self._inner._random_state = random
        self._arena._maze = _again(self._arena.maze, int(random.randint(1, 2**31 - 1)))
        try:
            time_step = self.raw.reset()
        except RuntimeError as error:
            if rendering.is_about_drawing(error):
                raise rendering.no_renderer() from error
            raise
        self._open = True
        return Step(self._observation(time_step), 0.0, False, False)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        if not self._open:
            raise ValueError(f"{self._name}: step() without an open episode; call reset(seed) first.")
        self._steps += 1
        reward = 0.0
        for _ in range(self.frames_per_step):
            time_step = self.raw.step(int(action["action"]))
            reward += float(time_step.reward or 0.0)
            if time_step.last():
                break
        if self._check:
            where = f"{self._name}, step() number {self._steps} of the episode with seed {self._seed}, reward"
            require_reward(reward, where)
        last = bool(time_step.last())
        self._open = not last
        return Step(self._observation(time_step), reward, last, last and time_step.discount == 0)

    def render(self) -> np.ndarray:
        """The agent's view in a higher resolution."""
        picture = self._inner.physics.render(VIDEO_SIZE, VIDEO_SIZE, camera_id="walker/egocentric")
        border = VIDEO_SIZE // 32
        out = np.empty_like(picture)
        out[:] = self._task._target_colors[self._task._current_target_ix] * 255 * 0.7
        out[border:-border, border:-border] = picture[border:-border, border:-border]
        return out

    def close(self) -> None:
        close_outside(self.raw.close, self._name)

    def _observation(self, time_step: Any) -> dict[str, np.ndarray]:
        image = time_step.observation
        return {"image": np.array(image) if image.shape[:2] == self._size else resize(image, *self._size)}


def _tasks() -> Any:
    """The package's module of tasks, without its `__init__`, which needs the package gym, no longer maintained."""
    rendering.choose_backend()
    # A process renders from one thread here; dm_control's own rendering threads cause errors at exit.
    os.environ.setdefault("DISABLE_RENDER_THREAD_OFFLOADING", "1")
    if "memory_maze" not in sys.modules:
        spec = importlib.util.find_spec("memory_maze")
        assert spec is not None and spec.submodule_search_locations, "the suite is only asked if it is installed"
        package = ModuleType("memory_maze")
        package.__path__, package.__spec__ = list(spec.submodule_search_locations), spec
        sys.modules["memory_maze"] = package
    try:
        tasks = importlib.import_module("memory_maze.tasks")
    except Exception as error:  # OpenGL loaders raise many kinds of errors
        if rendering.is_about_drawing(error):
            raise rendering.no_renderer() from error
        raise
    if _without_velocity not in (absl := logging.getLogger("absl")).filters:
        absl.addFilter(_without_velocity)
    return tasks


def _without_velocity(record: logging.LogRecord) -> bool:
    """Whether to log a line: at every reset dm_control says of the walker, which rolls, that it has no free joint."""
    return "Cannot set velocity on Entity" not in record.getMessage()


def _innermost(environment: Any) -> Any:
    while "env" in vars(environment):
        environment = environment.env
    return environment


def _again(maze: Any, seed: int) -> Any:
    """A maze generator of the same kind; it cannot be reseeded."""
    return type(maze)(
        height=maze.height,
        width=maze.width,
        max_rooms=maze.max_rooms,
        room_min_size=maze.room_min_size,
        room_max_size=maze.room_max_size,
        max_variations=maze.max_variations,
        spawns_per_room=maze.spawns_per_room,
        objects_per_room=maze.objects_per_room,
        simplify=True,  # as MazeWithTargetsArena sets it
        random_seed=seed,
    )
