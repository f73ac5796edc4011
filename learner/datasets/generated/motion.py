"""Clips of a moving digit: which of eight directions it moves in cannot be seen in any single frame."""

import numpy as np

from learner.datasets.generated.digits import split_digits
from learner.datasets.generated.held import Held

DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
"""The classes, in pixels (down, right)."""
_CLIPS = {"train": 3000, "test": 1000}
_FRAMES, _CANVAS, _FASTEST = 8, 32, 3
_NOISE = 128  # one above the brightest


def motion(split: str = "train", seed: int = 0) -> Held:
    """Clips of 8 frames: a digit of 14x14 pixels on a 32x32 torus moves 1, 2 or 3 pixels a frame in one of eight
    directions, which is the label, over a static texture of noise, by maximum. Digits of train and test differ."""
    images, _ = split_digits(split, np.random.default_rng(seed))
    rng = np.random.default_rng([seed, split == "train"])
    n = _CLIPS[split]
    labels = rng.integers(len(DIRECTIONS), size=n)
    speeds = rng.integers(1, _FASTEST + 1, size=n)
    starts = rng.integers(_CANVAS, size=(n, 2))
    chosen = rng.integers(len(images), size=n)
    frames = np.empty((n, _FRAMES, _CANVAS, _CANVAS), np.uint8)
    for i in range(n):
        texture = rng.integers(_NOISE, size=(_CANVAS, _CANVAS), dtype=np.uint8)
        canvas = np.zeros((_CANVAS, _CANVAS), np.uint8)
        canvas[:14, :14] = images[chosen[i], ::2, ::2]
        step = speeds[i] * np.array(DIRECTIONS[labels[i]])
        for t in range(_FRAMES):
            frames[i, t] = np.maximum(np.roll(canvas, tuple(starts[i] + t * step), axis=(0, 1)), texture)
    return Held(name=f"generated:motion ({split}, seed {seed})", frames=frames[..., None], labels=labels)
