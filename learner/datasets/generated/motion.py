"""Clips of a moving digit: which of eight directions it moves in cannot be seen in any single frame."""

from dataclasses import dataclass

import numpy as np

from learner.datasets.generated.digits import split_digits
from learner.datasets.generated.held import Held, undrawn

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
    frames = np.stack(
        [_clip(images[chosen[i]], speeds[i] * np.array(DIRECTIONS[labels[i]]), starts[i], rng) for i in range(n)]
    )
    return Held(name=f"generated:motion ({split}, seed {seed})", frames=frames[..., None], labels=labels)


@dataclass(frozen=True, kw_only=True)
class FreshMotion(Held):
    """`motion` with digits, directions, speeds, starts and textures that are drawn anew whenever an example is read."""

    images: np.ndarray
    """uint8 `[M 28 28]`, the digits of the split."""

    def recording(self, index: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        label = int(rng.integers(len(DIRECTIONS)))
        step = int(rng.integers(1, _FASTEST + 1)) * np.array(DIRECTIONS[label])
        image = self.images[rng.integers(len(self.images))]
        frames = _clip(image, step, rng.integers(_CANVAS, size=2), rng)[..., None]
        return {"frames": frames}, np.asarray(label, np.int64)


def fresh_motion(split: str = "train", seed: int = 0) -> FreshMotion:
    """Clips as those of `motion`, of the same digits, drawn anew whenever they are read."""
    images, _ = split_digits(split, np.random.default_rng(seed))
    shape = (_CLIPS[split], _FRAMES, _CANVAS, _CANVAS, 1)
    return FreshMotion(name=f"generated:fresh_motion ({split}, seed {seed})", frames=undrawn(shape), images=images)


def _clip(image: np.ndarray, step: np.ndarray, start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Frames `[T S S]` of a digit `[28 28]` that moves by `step` from `start`, over a texture."""
    texture = rng.integers(_NOISE, size=(_CANVAS, _CANVAS), dtype=np.uint8)
    canvas = np.zeros((_CANVAS, _CANVAS), np.uint8)
    canvas[:14, :14] = image[::2, ::2]
    moved = [np.roll(canvas, tuple(start + t * step), axis=(0, 1)) for t in range(_FRAMES)]
    return np.maximum(np.stack(moved), texture)
