"""Clips of an agent that walks at random among walls, with the actions it took."""

import numpy as np

from learner.datasets.generated.held import Held

MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
"""Actions: none, up, down, left, right, in cells (down, right)."""
_CLIPS = {"train": 3000, "test": 1000}
_CELLS, _PIXELS, _FRAMES = 8, 4, 16
_WALLS = 0.2  # share of the cells
_LIGHT, _DARK = (120, 200), (30, 110)  # ranges of each channel of a wall and of the floor
_AGENT = (240, 240, 30)


def block_world(split: str = "train", seed: int = 0) -> Held:
    """Clips of 16 frames of 8x8 cells, 4 pixels each, in a new map with new colours. An action, one-hot, drawn
    uniformly, moves the agent by one cell, unless there is a wall or the edge. States are its row and column."""
    rng = np.random.default_rng([seed, split == "train"])
    n = _CLIPS[split]
    walls = rng.random((n, _CELLS, _CELLS)) < _WALLS
    agents = _free_cells(walls, rng)
    actions = rng.integers(len(MOVES), size=(n, _FRAMES - 1))
    every = np.arange(n)
    places = [agents]
    for action in actions.T:
        wanted = places[-1] + np.array(MOVES)[action]
        inside = ((wanted >= 0) & (wanted < _CELLS)).all(1)
        y, x = wanted.clip(0, _CELLS - 1).T
        free = inside & ~walls[every, y, x]
        places.append(np.where(free[:, None], wanted, places[-1]))
    light, dark = (rng.integers(*span, size=(n, 1, 1, 3)) for span in (_LIGHT, _DARK))
    cells = np.where(walls[..., None], light, dark).astype(np.uint8)
    frames = np.repeat(cells[:, None], _FRAMES, axis=1)
    for t, place in enumerate(places):
        frames[every, t, place[:, 0], place[:, 1]] = _AGENT
    return Held(
        name=f"generated:block_world ({split}, seed {seed})",
        frames=frames.repeat(_PIXELS, axis=2).repeat(_PIXELS, axis=3),
        actions=np.eye(len(MOVES), dtype=np.float32)[actions],
        states=np.stack(places, 1).astype(np.float32),
    )


def _free_cells(walls: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random cell without a wall in each map, `[N 2]`; one is freed where there is none."""
    order = np.where(walls, 2.0, rng.random(walls.shape)).reshape(len(walls), -1).argmin(1)
    places = np.stack(np.unravel_index(order, walls.shape[1:]), 1)
    walls[np.arange(len(walls)), places[:, 0], places[:, 1]] = False
    return places
