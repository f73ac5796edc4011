"""An environment of slow steps that fails in a small part of its episodes, each failure recorded before it happens.

The environment variable `CHAOS` holds a JSON object: `injected` (the file to record in), `calm` (a file whose existence
ends the failures), `rate` (failures per episode) and `kinds`.
"""

import ctypes
import json
import os
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

TASK = f"gym:{__name__}:Chaos-v0"
CHAOS = "NEXUS_CHAOS"
STEP = 0.02  # seconds
SHORTEST, LONGEST = 100, 150  # steps of an episode: at least 2 s
LEAK = 4_000_000  # float64 a step: 32 MB
LIMIT = 0.5  # GB that an environment may have


class Chaos(gym.Env[np.ndarray, np.int64]):
    """Observations float32 `[2]`: the part of the episode that is over, and noise."""

    metadata = {"render_modes": []}

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = spaces.Discrete(3)
        self.settings = json.loads(os.environ.get(CHAOS, '{"rate": 0}'))
        self.leaked: list[np.ndarray] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        rng, rate = self.np_random, self.settings["rate"]
        self.time, self.length, self.kind = 0, int(rng.integers(SHORTEST, LONGEST)), ""
        if rng.random() < rate and not Path(self.settings["calm"]).exists():
            self.kind = str(rng.choice(self.settings["kinds"]))
            # A leak takes some steps to be noticed, all of which are to belong to this episode.
            self.moment = int(rng.integers(1, self.length // 3 if self.kind == "memory" else self.length))
        return self._look(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict]:
        time.sleep(STEP)
        self.time += 1
        look = self._look()
        if self.kind and self.time >= self.moment:
            if self.time == self.moment:
                self._record()
            self._fail(look)
        return look, float(action == 1), False, self.time >= self.length, {}

    def _look(self) -> np.ndarray:
        return np.array([self.time / self.length, self.np_random.uniform(-1, 1)], np.float32)

    def _record(self) -> None:
        line = json.dumps({"kind": self.kind, "time": time.time(), "process": os.getpid()})
        with open(self.settings["injected"], "a") as file:
            file.write(line + "\n")

    def _fail(self, look: np.ndarray) -> None:
        match self.kind:
            case "exception":
                raise RuntimeError("injected")
            case "non_finite":
                look[1] = np.nan
            case "timeout":
                while True:
                    time.sleep(1)
            case "memory":
                self.leaked.append(np.ones(LEAK))
            case "crash":
                ctypes.string_at(0)


gym.register("Chaos-v0", f"{__name__}:Chaos")
