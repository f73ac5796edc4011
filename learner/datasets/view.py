"""What a model sees of a frame: a crop, resized, perhaps mirrored; the same for all frames of a clip.

Random resized crop as in Szegedy et al., "Going deeper with convolutions" (2015): area uniform in `scale` times that of
the frame, aspect ratio log-uniform.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import NamedTuple

import numpy as np
from PIL import Image

_ATTEMPTS = 10


class Box(NamedTuple):
    """A crop, in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class View:
    """Crop to a share of the area in `scale` with an aspect ratio (width : height) in `aspect`, resize to `size` square
    pixels (0: keep the frame as it is), mirror half of the clips if `flip`. With the scale (1, 1) nothing is drawn:
    the largest centred crop of the nearest allowed aspect is taken."""

    size: int = 0
    scale: tuple[float, float] = (1.0, 1.0)
    aspect: tuple[float, float] = (1.0, 1.0)
    flip: bool = False

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"A view's size must be 0 (as recorded) or more pixels, got {self.size}.")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"A view's scale must be two shares of the area, 0 < low <= high <= 1, got {self.scale}.")
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise ValueError(f"A view's aspect must be two ratios, 0 < low <= high, got {self.aspect}.")
        if self.scale != (1, 1) and not self.size:
            raise ValueError(f"Random crops (scale {self.scale}) differ in size; give the view a size to resize to.")

    def draw(self, width: int, height: int, rng: np.random.Generator) -> tuple[Box, bool]:
        """A crop of a frame of this size, and whether to mirror it."""
        if not self.size:
            return Box(0, 0, width, height), self.flip and bool(rng.random() < 0.5)
        box = self._random(width, height, rng) if self.scale != (1, 1) else None
        flipped = self.flip and bool(rng.random() < 0.5)
        return box or self._centred(width, height), flipped

    def __call__(self, frames: np.ndarray | Iterable[np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """At least one frame uint8 `[H W C]`, all cropped and resized alike, `[T S S C]`."""
        if isinstance(frames, np.ndarray):
            box, flipped = self.draw(frames.shape[2], frames.shape[1], rng)
            return self._seen(frames, box, flipped)
        drawn: tuple[Box, bool] | None = None
        out: list[np.ndarray] = []
        for frame in frames:  # one at a time: those of a video may be large
            drawn = drawn or self.draw(frame.shape[1], frame.shape[0], rng)
            out.append(self._seen(frame[None], *drawn))
        return np.concatenate(out)

    def image(self, image: Image.Image, rng: np.random.Generator) -> np.ndarray:
        """One picture as uint8 `[1 S S 3]`; a JPEG is decoded no larger than twice or four times that."""
        width, height = image.size
        box, flipped = self.draw(width, height, rng)
        if image.format == "JPEG" and self.size:  # at 1/2, 1/4 or 1/8 of its size it takes a fraction of the time
            shrink = max(1, min(box.width, box.height) // (2 * self.size))
            image.draft("RGB", (-(-width // shrink), -(-height // shrink)))
        x, y = image.width / width, image.height / height
        box = Box(round(box.left * x), round(box.top * y), max(1, int(box.width * x)), max(1, int(box.height * y)))
        return self._seen(np.asarray(_of_bytes(image).convert("RGB"))[None], box, flipped)

    def _seen(self, frames: np.ndarray, box: Box, flipped: bool) -> np.ndarray:
        """Frames `[T H W C]` cropped, resized (bilinear, with antialiasing) and mirrored."""
        part = frames[:, box.top : box.top + box.height, box.left : box.left + box.width]
        part = part[:, :, ::-1] if flipped else part
        if not self.size or part.shape[1:3] == (self.size, self.size):
            return np.ascontiguousarray(part)
        import torch  # its kernel for bytes is ten times as fast as Pillow's; settings need no torch

        from world_models.frames import resized

        return resized(torch.from_numpy(part.copy()), self.size).numpy()

    def _random(self, width: int, height: int, rng: np.random.Generator) -> Box | None:
        for _ in range(_ATTEMPTS):
            area = width * height * rng.uniform(*self.scale)
            aspect = exp(rng.uniform(log(self.aspect[0]), log(self.aspect[1])))
            w, h = round(sqrt(area * aspect)), round(sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                return Box(int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h)
        return None

    def _centred(self, width: int, height: int) -> Box:
        aspect = min(max(width / height, self.aspect[0]), self.aspect[1])
        w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
        return Box((width - w) // 2, (height - h) // 2, w, h)


def _of_bytes(image: Image.Image) -> Image.Image:
    """A picture whose channels have 8 bits. Pillow would cut values of 16 bits off at 255, not scale them."""
    if image.mode == "F":
        raise ValueError("its pixels are floats of unknown range; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))
