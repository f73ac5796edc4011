"""An environment whose steps take long until a given time and are quick afterwards."""

import os
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

TASK = f"gym:{__name__}:Paced-v0"
PACE = "NEXUS_PACE"
"""Names the variable with the path of a file; it holds the time, in seconds since 1970, from which on steps are quick.
Without the file they are slow."""
SLOW, QUICK = 0.25, 0.005  # seconds of a step, asleep
LENGTH = 50  # steps of an episode


class Paced(gym.Env[np.ndarray, np.int64]):
    """Walks to the left or right, and is rewarded for the right."""

    metadata = {"render_modes": []}

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._position, self._steps, self._quick_from = 0.0, 0, float("inf")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._position, self._steps = 0.0, 0
        return self._observation(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self._quick_from == float("inf") and (pace := Path(os.environ[PACE])).exists():
            self._quick_from = float(pace.read_text())
        time.sleep(QUICK if time.time() >= self._quick_from else SLOW)
        self._steps += 1
        self._position = float(np.clip(self._position + (0.1 if action else -0.1), -1, 1))
        return self._observation(), self._position, False, self._steps >= LENGTH, {}

    def _observation(self) -> np.ndarray:
        return np.array([self._position, self._steps / LENGTH], np.float32)


gym.register("Paced-v0", f"{__name__}:Paced")
