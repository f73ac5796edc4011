"""What a model sees of a frame: a crop, resized, perhaps mirrored; the same for all frames of a clip.

Random resized crop as in Szegedy et al., "Going deeper with convolutions" (2015): area uniform in `scale` times that of
the frame, aspect ratio log-uniform.
"""

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
        box = self._random(width, height, rng) if self.scale != (1, 1) else None
        flipped = self.flip and bool(rng.random() < 0.5)
        return box or self._centred(width, height), flipped

    def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Frames uint8 `[T H W C]` cropped and resized alike, `[T S S C]`."""
        if not self.size:
            return frames[:, :, ::-1] if self.flip and rng.random() < 0.5 else frames
        height, width = frames.shape[1:3]
        box, flipped = self.draw(width, height, rng)
        if box == (0, 0, self.size, self.size) == (0, 0, width, height):
            out = frames
        else:
            out = np.stack([self._resized(frame, box) for frame in frames])
        return np.ascontiguousarray(out[:, :, ::-1]) if flipped else out

    def image(self, image: Image.Image, rng: np.random.Generator) -> np.ndarray:
        """One picture as uint8 `[1 S S 3]`; JPEGs are decoded no larger than needed."""
        if not self.size:
            return self(np.asarray(image.convert("RGB"))[None], rng)
        width, height = image.size
        box, flipped = self.draw(width, height, rng)
        if image.format == "JPEG":  # libjpeg decodes at 1/2, 1/4 or 1/8 of the size at a fraction of the cost
            shrink = min(box.width, box.height) // self.size
            image.draft("RGB", (-(-width // max(1, shrink)), -(-height // max(1, shrink))))
        x, y = image.width / width, image.height / height
        corners = (box.left * x, box.top * y, (box.left + box.width) * x, (box.top + box.height) * y)
        resized = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR, corners)
        out = np.asarray(resized)[None]
        return np.ascontiguousarray(out[:, :, ::-1]) if flipped else out

    def _resized(self, frame: np.ndarray, box: Box) -> np.ndarray:
        corners = (box.left, box.top, box.left + box.width, box.top + box.height)

        def one(channels: np.ndarray) -> np.ndarray:
            image = Image.fromarray(channels)
            return np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR, corners))

        if frame.shape[-1] == 3:
            return one(frame)
        return np.stack([one(np.ascontiguousarray(frame[..., i])) for i in range(frame.shape[-1])], axis=-1)

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
