"""Environments that do what their action says: go on, or fail in one of the ways in which environments fail."""

import ctypes
import os
import signal
import sys
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

TASK = f"gym:{__name__}:Faulty-v0"
GO_ON, RAISE, NAN, WRONG, HANG, SEGFAULT, KILL, EXIT, LEAK, NOISE, END = range(11)
COUNT = 11


class Faulty(gymnasium.Env[np.ndarray, np.int64]):
    """Observations float32 `[2]`: the process and the step, both small enough to be exact."""

    metadata: Any = {"render_modes": ["rgb_array"]}
    observation_space, action_space = Box(0, 1 << 23, (2,), np.float32), Discrete(COUNT)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.kept: list[np.ndarray] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.time = 0
        return self._look(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.time += 1
        look = self._look()
        if action == RAISE:
            raise RuntimeError("the gripper is stuck")
        if action == NAN:
            look[1] = np.nan
        if action == WRONG:
            look = look[:1]
        if action == HANG:
            self._wait()
        if action == SEGFAULT:
            ctypes.string_at(0)
        if action == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        if action == EXIT:
            ctypes.CDLL(None)._exit(3)
        if action == LEAK:
            self.kept.append(np.ones(25_000_000))
        if action == NOISE:
            print("the motor is warm")
            print("and so is the gripper", file=sys.stderr)
        return look, 1.0, bool(action == END), False, {"log/time": self.time}

    def _wait(self) -> None:
        while True:
            time.sleep(0.01)

    def _look(self) -> np.ndarray:
        return np.array([os.getpid(), self.time], np.float32)

    def render(self) -> Any:
        return np.full((4, 6, 3), self.time, np.uint8)


class ResetRaises(Faulty):
    """From the second episode on."""

    episodes = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        ResetRaises.episodes += 1
        if ResetRaises.episodes > 1:
            raise RuntimeError("there is no map")
        return super().reset(seed=seed)


class CloseRaises(Faulty):
    def close(self) -> None:
        raise RuntimeError("the window is gone")


class CloseHangs(Faulty):
    def close(self) -> None:
        self._wait()


class CannotBeMade(Faulty):
    def __init__(self, render_mode: str | None = None) -> None:
        raise KeyError("goal")


class MakingCrashes(Faulty):
    def __init__(self, render_mode: str | None = None) -> None:
        ctypes.string_at(0)


class MakingHangs(Faulty):
    def __init__(self, render_mode: str | None = None) -> None:
        self._wait()


for kind in (Faulty, ResetRaises, CloseRaises, CloseHangs, CannotBeMade, MakingCrashes, MakingHangs):
    gymnasium.register(f"{kind.__name__}-v0", f"{__name__}:{kind.__name__}")
