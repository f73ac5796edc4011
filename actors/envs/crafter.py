"""Crafter: `crafter_reward`, and `crafter_noreward`, where the reward is always 0. Its 22 achievements are metrics."""

from collections import defaultdict
from typing import Any

import numpy as np
from crafter.engine import World
from crafter.env import Env

from actors.config import EnvironmentConfig
from actors.environment import Step
from actors.envs import unknown_task
from actors.episode_metrics import Info, read_info
from world_models.space import Space, Spaces

_TASKS = {"crafter_reward": True, "crafter_noreward": False}
VIDEO_SIZE = 432  # a multiple of the 9 cells of the view


def task_names() -> list[str]:
    """Both tasks."""
    return list(_TASKS)


def make(task: str, config: EnvironmentConfig) -> "CrafterEnvironment":
    """The environment of a task. Raises ValueError if it is unknown."""
    if task not in _TASKS:
        raise unknown_task(task, list(_TASKS))
    return CrafterEnvironment(task, config)


class CrafterEnvironment:
    """Crafter as an Environment: 64x64 pixels, 17 actions. Death ends the task; 10,000 frames truncate the episode."""

    backend = "crafter"

    def __init__(self, task: str, config: EnvironmentConfig) -> None:
        self._task = task
        height, width = config.image_size if config.image_size != (0, 0) else (64, 64)
        self.raw = Env(size=(width, height), reward=_TASKS[task], seed=0)
        self.raw._world.__class__ = _OrderedWorld
        self.frames_per_step = config.action_repeat
        self.observation_space: Spaces = {"image": Space(dtype=np.dtype(np.uint8), shape=(height, width, 3))}
        self.action_space: Spaces = {
            "action": Space(dtype=np.dtype(np.int32), shape=(), classes=len(self.raw.action_names))
        }
        self._open = False

    def reset(self, seed: int) -> Step:
        # The world of an episode depends on this pair alone.
        self.raw._seed, self.raw._episode = seed, 0
        image = self.raw.reset()
        self._open = True
        return Step({"image": image}, 0.0, False, False)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        if not self._open:
            raise ValueError(f"{self._task}: step() without an open episode; call reset(seed) first.")
        total, infos = 0.0, list[Info]()
        for _ in range(self.frames_per_step):
            image, reward, last, info = self.raw.step(int(action["action"]))
            total += float(reward)
            infos.append(read_info({"achievements": info["achievements"]}))
            if last:
                break
        self._open = not last
        return Step({"image": image}, total, bool(last), bool(last) and info["discount"] == 0, infos)

    def render(self) -> np.ndarray:
        # At night the picture has noise from the generator that moves the creatures; a video must not change their way.
        random = self.raw._world.random
        state = random.get_state()
        try:
            return self.raw.render((VIDEO_SIZE, VIDEO_SIZE))
        finally:
            random.set_state(state)

    def close(self) -> None:
        """There is nothing to free."""


class _Objects(dict[Any, None]):
    """A set in the order of insertion."""

    def add(self, thing: Any) -> None:
        self[thing] = None

    def remove(self, thing: Any) -> None:
        del self[thing]


class _OrderedWorld(World):
    """Crafter keeps the creatures of an area in a set, whose order depends on their addresses in memory: the creature
    that disappears would differ when an episode is repeated."""

    def reset(self, seed: int | None = None) -> None:
        super().reset(seed)
        self._chunks: defaultdict[Any, _Objects] = defaultdict(_Objects)
