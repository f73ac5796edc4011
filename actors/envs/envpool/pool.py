"""Environments of envpool as a Pool."""

from collections.abc import Mapping, Sequence

import numpy as np

from actors.envs.envpool.simulation import Simulation
from actors.envs.wrappers import normalized
from actors.native_actions import native_values
from actors.pool import PoolStep


class EnvpoolPool:
    """All environments of a simulation as a Pool, stepped by envpool's own threads."""

    backend = "envpool"

    def __init__(self, simulation: Simulation, count: int) -> None:
        self._simulation, self._count = simulation, count
        self.observation_space = simulation.observation_space
        self.action_space = {key: normalized(space) for key, space in simulation.action_space.items()}
        self.frames_per_step = simulation.frames_per_step
        self._key, self._space = next(iter(self.action_space.items()))  # envpool has none with several
        self._scaled = not self._space.discrete or bool(np.any((self._space.native or {}).get("start", 0)))

    def __len__(self) -> int:
        return self._count

    def reset(self, seeds: Sequence[int]) -> PoolStep:
        return self._simulation.begin(seeds)

    def step(self, actions: Mapping[str, np.ndarray], ended: np.ndarray) -> PoolStep:
        values = actions[self._key]
        native = native_values([self._space], [values]) if self._scaled else values
        return self._simulation.step(native.astype(self._simulation.action_dtype, copy=False), ended)

    def render(self, i: int) -> np.ndarray:
        return self._simulation.render(i)

    def close(self) -> None:
        self._simulation.close()
