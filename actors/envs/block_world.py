"""Block world: an agent among walls on a grid of 8x8 cells, with a goal cell to reach, or none.

A Gymnasium environment, the tasks `gym:actors.envs.block_world:BlockWorld-v0`, `...:BlockWorldLevels-v0` (eight maps)
and `...:BlockWorldWalk-v0` (no goal, no reward), and clips to learn it from. Legend: N worlds, T frames, S = 32 pixels
a side.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
"""Actions: none, up, down, left, right, in cells (down, right)."""
CELLS, PIXELS = 8, 4
SIZE = CELLS * PIXELS
STEPS, WALK_STEPS = 32, 15
"""Steps of an episode with a goal, and of one without."""
WALLS = 0.2
"""Share of the cells."""
LIGHT, DARK = (120, 200), (30, 110)
"""Ranges of each channel of a wall and of the floor."""
AGENT, GOAL = (240, 240, 30), (230, 20, 220)
FAR = CELLS**2
"""More steps than any way has."""
_STEPS = np.array(MOVES)


class Maps(NamedTuple):
    """What does not move in N worlds."""

    walls: np.ndarray
    """bool `[N 8 8]`."""
    light: np.ndarray
    """`[N 3]`, the colour of the walls."""
    dark: np.ndarray
    """`[N 3]`, that of the floor."""
    goals: np.ndarray | None = None
    """Row and column of the goal `[N 2]`, if there is one."""


class BlockWorld(gymnasium.Env):
    """`image` uint8 `[32 32 3]` in a new map, with new colours, every episode; the five actions are `MOVES`. With
    `levels`, maps, colours and goals are one of so many; only where the agent begins is new.

    With a goal, a cell that the agent can get to, the reward is 1 when it does, which ends the episode; `is_success` in
    `info` says whether it has. An episode takes 32 steps otherwise, and 15 without a goal.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}

    def __init__(self, goal: bool = True, levels: int = 0, render_mode: str | None = "rgb_array") -> None:
        self.observation_space = spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.action_space = spaces.Discrete(len(MOVES))
        self.goal, self.levels, self.render_mode = goal, levels, render_mode
        self.maps: Maps | None = None
        self.place = np.zeros((1, 2), int)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, Any]:
        super().reset(seed=seed)
        rng = self.np_random
        if self.levels:
            rng = np.random.default_rng(self.np_random.integers(self.levels))
        self.maps, self.place = goal_maps(1, rng) if self.goal else plain_maps(1, rng)
        if self.levels:  # where the goal, or the level's own place, can be reached from
            center = self.place if self.maps.goals is None else self.maps.goals
            self.place = _drawn(_reachable(self.maps.walls, center), self.np_random)
        return self._image(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.maps is not None, "an episode begins with reset"
        self.place = moved(self.maps.walls, self.place, np.array([action]))
        reached = self.maps.goals is not None and bool((self.place == self.maps.goals).all())
        info = {"is_success": reached} if self.goal else {}
        return self._image(), float(reached), reached, False, info

    def render(self) -> np.ndarray:
        return self._image().repeat(8, 0).repeat(8, 1)

    def _image(self) -> np.ndarray:
        assert self.maps is not None, "an episode begins with reset"
        return draw(self.maps, self.place)[0]


def plain_maps(n: int, rng: np.random.Generator) -> tuple[Maps, np.ndarray]:
    """Maps without goals, and the agents' places `[N 2]`."""
    walls, places = _walls(n, rng)
    return Maps(walls, *_colours(n, rng)), places


def goal_maps(n: int, rng: np.random.Generator) -> tuple[Maps, np.ndarray]:
    """Maps with goals, uniform among the cells that the agent can get to and is not on, and the agents' places
    `[N 2]`."""
    walls, places = _walls(n, rng)
    while (shut := (_reachable(walls, places).sum((1, 2)) == 0)).any():
        walls[shut], places[shut] = _walls(int(shut.sum()), rng)
    goals = _drawn(_reachable(walls, places), rng)
    return Maps(walls, *_colours(n, rng), goals), places


def _reachable(walls: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Cells other than those of `places` from which they can be reached, `[N 8 8]`."""
    away = distances(walls, places)
    return (away > 0) & (away < FAR)


def _walls(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Walls `[N 8 8]` and a random cell without one `[N 2]`; one is freed where there is none."""
    walls = rng.random((n, CELLS, CELLS)) < WALLS
    places = _drawn(~walls, rng)
    walls[np.arange(n), places[:, 0], places[:, 1]] = False
    return walls, places


def _drawn(cells: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of the cells `[N 8 8]` that are true, `[N 2]`; the first if none is."""
    order = np.where(cells, rng.random(cells.shape), 2.0).reshape(len(cells), -1).argmin(1)
    return np.stack(np.unravel_index(order, cells.shape[1:]), 1)


def _colours(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(*LIGHT, size=(n, 3)), rng.integers(*DARK, size=(n, 3))


def moved(walls: np.ndarray, places: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Places `[N 2]` after actions `[N]`: a cell on, unless there is a wall or the edge."""
    wanted = places + _STEPS[actions]
    inside = ((wanted >= 0) & (wanted < CELLS)).all(1)
    y, x = wanted.clip(0, CELLS - 1).T
    return np.where((inside & ~walls[np.arange(len(walls)), y, x])[:, None], wanted, places)


def draw(maps: Maps, places: np.ndarray) -> np.ndarray:
    """Pictures uint8 `[N S S 3]` with the agents at `places` `[N 2]`, over the goals."""
    light, dark = maps.light[:, None, None], maps.dark[:, None, None]
    cells = np.where(maps.walls[..., None], light, dark).astype(np.uint8)
    every = np.arange(len(cells))
    if maps.goals is not None:
        cells[every, maps.goals[:, 0], maps.goals[:, 1]] = GOAL
    cells[every, places[:, 0], places[:, 1]] = AGENT
    return cells.repeat(PIXELS, axis=1).repeat(PIXELS, axis=2)


def distances(walls: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Steps from every cell `[N 8 8]` to `places` `[N 2]`; `FAR` where there is no way, or a wall."""
    away = np.full(walls.shape, FAR)
    away[np.arange(len(walls)), places[:, 0], places[:, 1]] = 0
    for _ in range(FAR):
        padded = np.pad(away, ((0, 0), (1, 1), (1, 1)), constant_values=FAR)
        near = np.minimum.reduce([padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]])
        nearer = np.where(walls, FAR, np.minimum(away, near + 1))
        if (nearer == away).all():
            break
        away = nearer
    return away.clip(max=FAR)


def shortest(away: np.ndarray, places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Moves `[N]` of an expert at `places` `[N 2]`: along a way that is shortest by the `distances` `[N 8 8]` to its
    goal, one of them at random."""
    y, x = np.moveaxis(places[:, None] + _STEPS[1:], -1, 0) + 1  # [N 4], of the padded array
    padded = np.pad(away, ((0, 0), (1, 1), (1, 1)), constant_values=FAR)
    after = padded[np.arange(len(away))[:, None], y, x]
    return 1 + np.where(after == after.min(1, keepdims=True), rng.random(after.shape), -1).argmax(1)


def random_clips(
    n: int, frames: int, seed: int | Sequence[int], goals: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips of uniform random actions, each in a map of its own, with a goal to walk over if `goals`: frames uint8
    `[N T S S 3]`, actions `[N T-1]`, places `[N T 2]`."""
    rng = np.random.default_rng(seed)
    walls, place = _walls(n, rng)
    actions = rng.integers(len(MOVES), size=(n, frames - 1))
    maps = Maps(walls, *_colours(n, rng), _drawn(_reachable(walls, place), rng) if goals else None)
    places = [place]
    for action in actions.T:
        places.append(moved(walls, places[-1], action))
    pictures = np.empty((n, frames, SIZE, SIZE, 3), np.uint8)
    for t, place in enumerate(places):
        pictures[:, t] = draw(maps, place)
    return pictures, actions, np.stack(places, 1)


for _name, _limit, _kwargs in (
    ("BlockWorld-v0", STEPS, {}),
    ("BlockWorldLevels-v0", STEPS, {"levels": 8}),
    ("BlockWorldWalk-v0", WALK_STEPS, {"goal": False}),
):
    gymnasium.register(_name, "actors.envs.block_world:BlockWorld", max_episode_steps=_limit, kwargs=_kwargs)
