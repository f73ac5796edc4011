"""Point reach: a point on the unit square is moved to a goal that is given as a picture, within 8 steps.

A Gymnasium environment, the task `gym:actors.envs.point_reach:PointReach-v0`, and clips of random actions to learn it
from. Legend: N points, T steps, S pixels a side.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

STEPS, LARGEST, RADIUS, APART = 8, 0.1, 0.07, 0.4
"""Steps of an episode; largest move along an axis; distance that counts as reached; least distance at the start."""
SIZE = 64
POINT = 0.08
"""Radius of the point in the picture, of the square's side."""
_SHADES = np.linspace((20, 30, 60), (255, 220, 90), 256).round().astype(np.uint8)  # from the ground to the point
_AT_ONCE = 64  # pictures: temporary arrays fit the cache


class PointReach(gymnasium.Env):
    """`image` and `goal` uint8 `[S S 3]` show where the point is and where it is to be; `position` float32 `[2]` says
    the former. The action is the move, at most 0.1 along each axis; the reward is minus the distance to the goal after
    it. An episode takes 8 steps; `is_success` in `info`: the goal was reached in any of them."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}

    def __init__(self, size: int = SIZE, render_mode: str | None = "rgb_array") -> None:
        picture = spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.observation_space = spaces.Dict(
            {"image": picture, "goal": picture, "position": spaces.Box(0, 1, (2,), np.float32)}
        )
        self.action_space = spaces.Box(-LARGEST, LARGEST, (2,), np.float32)
        self.size, self.render_mode = size, render_mode
        self._position = self._target = np.zeros(2, np.float32)
        self._reached, self._goal = False, picture.low

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], Any]:
        super().reset(seed=seed)
        starts, goals = starts_and_goals(1, self.np_random)
        self._position, self._target, self._reached = starts[0], goals[0], False
        self._goal = draw(goals, self.size)[0]
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self._position = moved(self._position, np.asarray(action, np.float32))
        distance = float(np.linalg.norm(self._position - self._target))
        self._reached |= distance <= RADIUS
        return self._observation(), -distance, False, False, {"is_success": self._reached}

    def render(self) -> np.ndarray:
        return draw(self._position[None], 4 * self.size)[0]

    def _observation(self) -> dict[str, np.ndarray]:
        image = draw(self._position[None], self.size)[0]
        return {"image": image, "goal": self._goal.copy(), "position": self._position.copy()}


def moved(positions: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Positions float32 `[..., 2]` after actions `[..., 2]`, both kept in their bounds."""
    moves = np.clip(actions, -LARGEST, LARGEST)
    return np.clip(positions + moves, 0, 1).astype(np.float32)


def starts_and_goals(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Starts and goals float32 `[N 2]`, uniform among those at least 0.4 apart."""
    pairs = np.empty((0, 2, 2), np.float32)
    while len(pairs) < n:
        some = rng.random((2 * n, 2, 2), np.float32)
        pairs = np.concatenate([pairs, some[np.linalg.norm(some[:, 0] - some[:, 1], axis=1) >= APART]])
    return pairs[:n, 0], pairs[:n, 1]


def draw(positions: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Pictures uint8 `[N S S 3]` of points at positions `[N 2]` (right, down), with soft edges: the place is finer than
    a pixel."""
    out = np.empty((len(positions), size, size, 3), np.uint8)
    center = (np.arange(size, dtype=np.float32) + 0.5) / size
    inside = POINT + positions * (1 - 2 * POINT)  # the whole point is visible at the edges
    for at in range(0, len(out), _AT_ONCE):
        x, y = ((center - inside[at : at + _AT_ONCE, axis, None]) ** 2 for axis in (0, 1))
        distance = np.sqrt(x[:, None, :] + y[:, :, None])
        share = np.clip((POINT - distance) * size + 0.5, 0, 1)
        np.take(_SHADES, (share * 255).astype(np.uint8), axis=0, out=out[at : at + _AT_ONCE])
    return out


def random_clips(n: int, frames: int, seed: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips of uniform random actions from uniform starts: frames uint8 `[N T S S 3]`, actions float32 `[N T-1 2]` in
    units of the largest move, positions float32 `[N T 2]`."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (n, frames - 1, 2)).astype(np.float32)
    positions = [rng.random((n, 2), np.float32)]
    for action in actions.swapaxes(0, 1):
        positions.append(moved(positions[-1], LARGEST * action))
    states = np.stack(positions, 1)
    return draw(states.reshape(-1, 2), size).reshape(n, frames, size, size, 3), actions, states


gymnasium.register("PointReach-v0", "actors.envs.point_reach:PointReach", max_episode_steps=STEPS)
