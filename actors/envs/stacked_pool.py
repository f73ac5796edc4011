"""The newest images of a pool joined, as `FrameStack` does for one environment."""

from collections.abc import Mapping, Sequence

import numpy as np

from actors.envs.wrappers import stacked
from actors.pool import Pool, PoolStep


class StackedPool:
    """Joins the last `count` images along the channels, oldest first: [N H W C] -> [N H W count*C]."""

    def __init__(self, inner: Pool, count: int) -> None:
        self.inner, self._count = inner, count
        self._images = [key for key, space in inner.observation_space.items() if space.is_image]
        self.observation_space = dict(inner.observation_space)
        for key in self._images:
            self.observation_space[key] = stacked(inner.observation_space[key], count)
        self.action_space = inner.action_space
        self.frames_per_step, self.backend = inner.frames_per_step, inner.backend
        self._frames: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.inner)

    def reset(self, seeds: Sequence[int]) -> PoolStep:
        return self._joined(self.inner.reset(seeds), np.ones(len(self), bool))

    def step(self, actions: Mapping[str, np.ndarray], ended: np.ndarray) -> PoolStep:
        return self._joined(self.inner.step(actions, ended), ended)

    def render(self, i: int) -> np.ndarray:
        return self.inner.render(i)

    def close(self) -> None:
        self.inner.close()

    def _joined(self, answer: PoolStep, begun: np.ndarray) -> PoolStep:
        for key in self._images:
            newest = answer.observation[key]
            channels = newest.shape[-1]
            first = np.concatenate([newest] * self._count, -1)
            if begun.all():
                self._frames[key] = first
                continue
            frames = np.concatenate([self._frames[key][..., channels:], newest], -1)
            frames[begun] = first[begun]
            self._frames[key] = frames
        return answer._replace(observation=answer.observation | self._frames)
