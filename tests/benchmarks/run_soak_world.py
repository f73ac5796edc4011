"""A world whose every observation says which episode it belongs to, how far that is, and which actions led there, so
that rows which do not belong together are found wherever they meet. Legend: T steps, n sequences.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from tests.benchmarks.run_soak_judge import ACTIONS, length, reward, trace

TASK = f"gym:{__name__}:Counting-v0"


class Counting(gym.Env[np.ndarray, np.int64]):
    """Observations float32 `[4]`: the episode's token (its seed) in two parts, the step, the trace of its actions."""

    metadata = {"render_modes": []}

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 1 << 16, (4,), np.float32)
        self.action_space = spaces.Discrete(ACTIONS)
        self._token = self._step = self._trace = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._token, self._step, self._trace = seed or 0, 0, 0
        return self._observation(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict]:
        self._step += 1
        self._trace = trace(self._trace, int(action))
        ended = self._step >= length(self._token)
        terminal = bool(ended and self._token % 2)
        return self._observation(), float(reward(self._trace)), terminal, bool(ended and not terminal), {}

    def _observation(self) -> np.ndarray:
        return np.array([self._token >> 16, self._token & 0xFFFF, self._step, self._trace], np.float32)


gym.register("Counting-v0", f"{__name__}:Counting")
