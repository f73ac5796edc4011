"""An environment whose every step takes 20 ms and no CPU, as one does that waits for a simulator elsewhere."""

import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

TASK = f"gym:{__name__}:Slow-v0"
STEP = 0.02  # seconds
LENGTH = 1000  # steps of an episode


class Slow(gym.Env[np.ndarray, np.int64]):
    """Observations float32 `[2]`: the part of the episode that is over, and the last action."""

    metadata = {"render_modes": []}

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.time = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict]:
        time.sleep(STEP)
        self.time += 1
        return np.array([self.time / LENGTH, action], np.float32), 1.0, False, self.time >= LENGTH, {}


gym.register("Slow-v0", f"{__name__}:Slow")
