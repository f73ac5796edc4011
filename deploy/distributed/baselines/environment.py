"""An environment of Nexus as a gymnasium.Env, as RLlib's algorithms take it: one array in, one action out."""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np

from actors.batch_environment import Episode
from actors.environment import Environment
from actors.vector import VectorEnvironment
from world_models.space import Space, Spaces


class Layout:
    """How observation and action dictionaries become the single arrays of RLlib's default networks.

    Vectors, and classes as one-hot vectors, are joined in the order of their names: float32 [F]. A single image alone
    is float32 [H W C] in [0, 1]. There is one action, continuous in [-1, 1] or one class. ValueError: the task has
    other observations or actions.
    """

    def __init__(self, task: str, observation: Spaces, action: Spaces) -> None:
        self._keys = {key: observation[key] for key in sorted(observation)}
        images = [key for key, space in self._keys.items() if space.is_image]
        self._image = images[0] if images and len(self._keys) == 1 else ""
        if images and not self._image:
            raise ValueError(
                f"Task {task!r} observes {', '.join(self._keys)}: baselines take vectors alone, or one image alone."
            )
        if len(action) != 1:
            raise ValueError(f"Task {task!r} has the actions {', '.join(action)}: baselines take exactly one.")
        ((self._action, space),) = action.items()
        if space.discrete and space.shape not in ((), (1,)):
            raise ValueError(f"Task {task!r} has several discrete actions at once: baselines take exactly one.")
        self.discrete, self._shape, self._dtype = space.discrete, space.shape, space.dtype
        shape = self._keys[self._image].shape if self._image else (sum(one.width for one in self._keys.values()),)
        low, high = (0.0, 1.0) if self._image else (-np.inf, np.inf)
        self.observation_space = gymnasium.spaces.Box(low, high, shape, np.float32)
        self.action_space: gymnasium.Space[Any] = (
            gymnasium.spaces.Discrete(space.classes)
            if space.discrete
            else gymnasium.spaces.Box(-1.0, 1.0, (space.width,), np.float32)
        )

    def observation(self, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        """Observation keys [N ...] as one float32 array [N F] or [N H W C]."""
        if self._image:
            return rows[self._image].astype(np.float32) / 255
        return np.concatenate([_flat(rows[key], space) for key, space in self._keys.items()], -1)

    def action(self, actions: Any) -> dict[str, np.ndarray]:
        """N actions of RLlib as the task's [N ...]."""
        actions = np.asarray(actions)
        return {self._action: actions.reshape(len(actions), *self._shape).astype(self._dtype)}


def _flat(values: np.ndarray, space: Space) -> np.ndarray:
    """[N ...] as float32 [N F]."""
    if space.discrete:
        values = np.arange(space.classes) == np.asarray(values, np.int64)[..., None]
    return values.reshape(len(values), space.width).astype(np.float32)


class BaselineEnvironment(gymnasium.Env[np.ndarray, Any]):
    """One environment, with the seeds, scores and lengths that environment `index` of a run has; `ended` gets each
    episode that ends."""

    metadata = {"render_modes": []}

    def __init__(
        self, task: str, make: Callable[[], Environment], seed: int, index: int, ended: Callable[[Episode], object]
    ) -> None:
        self._inner, self._ended = VectorEnvironment([make], seed, [index]), ended
        self._layout = Layout(task, self._inner.observation_space, self._inner.action_space)
        self.observation_space, self.action_space = self._layout.observation_space, self._layout.action_space
        self.steps, self.frames_per_step = 0, self._inner.frames_per_step

    @property
    def episode(self) -> int:
        """The number of the open episode, counted from 0; the next `reset` begins the one after it."""
        return self._inner.episodes[0]

    @episode.setter
    def episode(self, number: int) -> None:
        self._inner.episodes[0] = number

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, Any]:
        """Begin the next episode, whose seed is the run's: `seed` is ignored."""
        self._inner.ended[:] = True  # also an episode that RLlib breaks off
        return self._layout.observation(self._inner.step())[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        rows = self._inner.step(self._layout.action([action]))
        self.steps += 1
        for episode in self._inner.finished():
            self._ended(episode)
        over, terminal = bool(rows["is_last"][0]), bool(rows["is_terminal"][0])
        observation, reward = self._layout.observation(rows)[0], float(rows["reward"][0])
        return observation, reward, over and terminal, over and not terminal, {}

    def close(self) -> None:
        self._inner.close()
