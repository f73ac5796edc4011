"""TwoRoom: a point goes through the door of a wall to a goal in the other room, given as a picture, in 50 steps.

A Gymnasium environment, the task `gym:actors.envs.two_room:TwoRoom-v0` (`TwoRoomColours-v0` and `TwoRoomSizes-v0` look
otherwise, of `TwoRoomPicture-v0` only `image` is seen), and clips of random walks to learn it from. Wall and door are
elsewhere in every episode. Legend: N points, T steps, S pixels a side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

STEPS, LARGEST, RADIUS = 50, 0.05, 0.07
"""Steps of an episode; largest move along an axis; distance that counts as reached."""
SIZE = 64
CLIP = 16
"""Frames of a clip."""
MARGIN = 0.05
"""Around the square in the picture, so that a point of the standard size is visible at the edges."""
WALL, DOOR = 0.04, 0.09
"""Half of the wall's thickness, and of the door's height."""
_COLUMNS, _ROWS = (0.3, 0.7), (0.15, 0.85)  # of walls and doors
_HOLD = 5  # steps of a random walk in about one direction, on average: independent moves stay where they began
_AT_ONCE = 64  # pictures: temporary arrays fit the cache


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colours, and the point's radius in the picture, of the square's side."""

    ground: tuple[int, int, int] = (20, 30, 60)
    wall: tuple[int, int, int] = (130, 150, 160)
    point: tuple[int, int, int] = (255, 220, 90)
    radius: float = 0.05


LOOKS = {
    "standard": Look(),
    "colours": Look(ground=(30, 60, 35), wall=(165, 120, 130), point=(240, 160, 220)),
    "sizes": Look(radius=0.07),
}


class Rooms(NamedTuple):
    """Column of the wall and row of the door in N squares, float32 `[N]` each."""

    wall: np.ndarray
    door: np.ndarray


class TwoRoom(gymnasium.Env):
    """`image` and `goal` uint8 `[S S 3]` show where the point is and where it is to be. `position` and `target` float32
    `[2]` (right, down) say it, `rooms` float32 `[2]` the column of the wall and the row of the door. The action is the
    move, at most 0.05 along each axis; the reward is minus the distance to the goal after it. An episode takes 50
    steps; `is_success` in `info`: the goal was reached in any of them."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}

    def __init__(self, size: int = SIZE, look: str = "standard", render_mode: str | None = "rgb_array") -> None:
        if look not in LOOKS:
            raise ValueError(f"look={look!r} is not one of {', '.join(LOOKS)}.")
        picture, place = spaces.Box(0, 255, (size, size, 3), np.uint8), spaces.Box(0, 1, (2,), np.float32)
        self.observation_space = spaces.Dict(
            {"image": picture, "goal": picture, "position": place, "target": place, "rooms": place}
        )
        self.action_space = spaces.Box(-LARGEST, LARGEST, (2,), np.float32)
        self.size, self.look, self.render_mode = size, LOOKS[look], render_mode
        self._rooms = Rooms(*np.zeros((2, 1), np.float32))
        self._position = self._target = np.zeros((1, 2), np.float32)
        self._reached, self._goal = False, picture.low

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], Any]:
        super().reset(seed=seed)
        self._rooms, self._position, self._target = problems(1, self.np_random)
        self._reached, self._goal = False, draw(self._rooms, self._target, self.size, self.look)[0]
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self._position = moved(self._rooms, self._position, np.asarray(action, np.float32)[None])
        distance = float(np.linalg.norm(self._position - self._target))
        self._reached |= distance <= RADIUS
        return self._observation(), -distance, False, False, {"is_success": self._reached}

    def render(self) -> np.ndarray:
        return draw(self._rooms, self._position, 4 * self.size, self.look)[0]

    def _observation(self) -> dict[str, np.ndarray]:
        image = draw(self._rooms, self._position, self.size, self.look)[0]
        return {
            "image": image, "goal": self._goal.copy(), "position": self._position[0].copy(),
            "target": self._target[0].copy(), "rooms": np.stack(self._rooms, -1)[0],
        }  # fmt: skip


def problems(n: int, rng: np.random.Generator) -> tuple[Rooms, np.ndarray, np.ndarray]:
    """Rooms, and starts and goals float32 `[N 2]`, uniform in rooms of which the one is left, the other right."""
    rooms = random_rooms(n, rng)
    left, right = (_in_room(rooms, side, rng) for side in (False, True))
    swapped = (rng.random(n) < 0.5)[:, None]
    return rooms, np.where(swapped, right, left), np.where(swapped, left, right)


def random_rooms(n: int, rng: np.random.Generator) -> Rooms:
    """Walls and doors of N squares."""
    return Rooms(*(rng.uniform(*span, n).astype(np.float32) for span in (_COLUMNS, _ROWS)))


def _in_room(rooms: Rooms, right: bool, rng: np.random.Generator) -> np.ndarray:
    """Uniform places `[N 2]` of the left or the right room."""
    x, y = rng.random((2, len(rooms.wall)), np.float32)
    x = rooms.wall + WALL + x * (1 - rooms.wall - WALL) if right else x * (rooms.wall - WALL)
    return np.stack([x, y], -1).astype(np.float32)


def moved(rooms: Rooms, positions: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Positions float32 `[N 2]` after actions `[N 2]`, kept in the square; a move into the wall is not made."""
    x, y = following = np.clip(positions + np.clip(actions, -LARGEST, LARGEST), 0, 1).astype(np.float32).T
    into = (np.abs(x - rooms.wall) < WALL) & (np.abs(y - rooms.door) > DOOR)
    return np.where(into[:, None], positions, following.T)


def towards_door(rooms: Rooms, positions: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Where to go next `[N 2]`: through the middle of the door, then to the goal."""
    side = np.where(goals[:, 0] > rooms.wall, 1, -1)
    ahead = side * (positions[:, 0] - rooms.wall)  # of the wall's middle, towards the goal
    through = (np.abs(positions[:, 1] - rooms.door) < DOOR / 2) | (np.abs(ahead) < WALL)
    column = rooms.wall + np.where(through, side, -side) * (WALL + 0.01)
    return np.where((ahead >= WALL)[:, None], goals, np.stack([column, rooms.door], -1)).astype(np.float32)


def draw(rooms: Rooms, positions: np.ndarray, size: int = SIZE, look: Look = LOOKS["standard"]) -> np.ndarray:
    """Pictures uint8 `[N S S 3]` of points at positions `[N 2]` (right, down), with soft edges: the place is finer than
    a pixel."""
    out = np.empty((len(positions), size, size, 3), np.uint8)
    ground, wall, point = (np.array(colour, np.float32) for colour in (look.ground, look.wall, look.point))
    center = (np.arange(size, dtype=np.float32) + 0.5) / size
    for at in range(0, len(out), _AT_ONCE):
        part = slice(at, at + _AT_ONCE)
        column, row, place = (MARGIN + values[part] * (1 - 2 * MARGIN) for values in (*rooms, positions))
        across = _share(WALL - np.abs(center - column[:, None]), size)  # [n S]
        shut = 1 - _share(DOOR - np.abs(center - row[:, None]), size)
        share = (shut[:, :, None] * across[:, None, :])[..., None]
        picture = ground + share * (wall - ground)
        x, y = ((center - place[:, axis, None]) ** 2 for axis in (0, 1))
        share = _share(look.radius - np.sqrt(x[:, None, :] + y[:, :, None]), size)[..., None]
        out[part] = np.round(picture + share * (point - picture))
    return out


def _share(depth: np.ndarray, size: int) -> np.ndarray:
    """How much of a pixel is inside, by how deep its centre is."""
    return np.clip(depth * size + 0.5, 0, 1)


def random_clips(
    n: int, frames: int, seed: int | Sequence[int], size: int = SIZE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips of random walks, which keep their direction for some steps, from uniform starts, half of them near the
    door: frames uint8 `[N T S S 3]`, actions float32 `[N T-1 2]` in units of the largest move, positions float32
    `[N T 2]`."""
    rng = np.random.default_rng(seed)
    rooms = random_rooms(n, rng)
    right = rng.random(n) < 0.5
    starts = np.where(right[:, None], _in_room(rooms, True, rng), _in_room(rooms, False, rng))
    near = np.stack([rooms.wall + rng.uniform(-0.2, 0.2, n), rooms.door + rng.uniform(-DOOR, DOOR, n)], -1)
    starts = np.where((rng.random(n) < 0.5)[:, None], near, starts).astype(np.float32)
    positions, actions = [starts], np.empty((n, frames - 1, 2), np.float32)
    main = rng.uniform(-1, 1, (n, 2))
    for t in range(frames - 1):
        turned = rng.random(n) < 1 / _HOLD
        main = np.where(turned[:, None], rng.uniform(-1, 1, (n, 2)), main)
        actions[:, t] = np.clip(main + 0.2 * rng.standard_normal((n, 2)), -1, 1)
        positions.append(moved(rooms, positions[-1], LARGEST * actions[:, t]))
    states = np.stack(positions, 1)
    repeated = Rooms(*(part.repeat(frames) for part in rooms))
    return draw(repeated, states.reshape(-1, 2), size).reshape(n, frames, size, size, 3), actions, states


gymnasium.register("TwoRoom-v0", "actors.envs.two_room:TwoRoom", max_episode_steps=STEPS)
gymnasium.register(
    "TwoRoomPicture-v0", "actors.envs.two_room:TwoRoom", max_episode_steps=STEPS,
    additional_wrappers=(gymnasium.wrappers.FilterObservation.wrapper_spec(filter_keys=["image"]),),
)  # fmt: skip
for _look in ("colours", "sizes"):
    gymnasium.register(
        f"TwoRoom{_look.title()}-v0", "actors.envs.two_room:TwoRoom", max_episode_steps=STEPS, kwargs={"look": _look}
    )
