"""Environments of envpool as a Pool."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from actors.envs.envpool.simulation import Simulation
from actors.envs.wrappers import normalized
from actors.native_actions import Scale, bounds, within
from actors.pool import PoolStep
from world_models.space import Space


class EnvpoolPool:
    """All environments of a simulation as a Pool, stepped by envpool's own threads."""

    backend = "envpool"

    def __init__(self, simulation: Simulation, count: int) -> None:
        self._simulation, self._count = simulation, count
        self.observation_space = simulation.observation_space
        self.action_space = {key: normalized(space) for key, space in simulation.action_space.items()}
        self.frames_per_step = simulation.frames_per_step
        ((self._key, space),) = self.action_space.items()  # envpool has none with several
        self._native = _native(space, simulation.action_dtype)

    def __len__(self) -> int:
        return self._count

    def reset(self, seeds: Sequence[int]) -> PoolStep:
        return self._simulation.begin(seeds)

    def step(self, actions: Mapping[str, np.ndarray], ended: np.ndarray) -> PoolStep:
        return self._simulation.step(self._native(actions[self._key]), ended)

    def render(self, i: int) -> np.ndarray:
        return self._simulation.render(i)

    def close(self) -> None:
        self._simulation.close()


def _native(space: Space, dtype: np.dtype) -> Callable[[np.ndarray], np.ndarray]:
    """`native_values` for one space, prepared once."""
    native: Mapping[str, Any] = space.native or {}
    if space.discrete:
        start = np.asarray(native["start"], dtype)
        return lambda value: value + start if start.any() else value.astype(dtype, copy=False)
    scale, shape = Scale(*bounds(space)), tuple(native["shape"])
    low, high = (np.asarray(native[side], dtype).reshape(shape) for side in ("low", "high"))
    return lambda value: within(scale(value).reshape(-1, *shape), dtype, low, high)
