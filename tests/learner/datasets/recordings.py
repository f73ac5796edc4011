"""Recordings whose arrays say where they are, and what a clip of them must look like."""

import numpy as np

from learner.datasets.dataset import Example
from replay.step import Rows


def recording(number: int, steps: int, dtype: type = np.float32) -> Rows:
    """Frames uint8 `[T 4 4 3]` and places `[T 2]`, (recording, step); actions (recording, step) and rewards of all
    steps but the last."""
    ids = np.arange(steps)
    place = np.stack([np.full(steps, number), ids], 1)
    frames = np.broadcast_to((10 * number + ids)[:, None, None, None], (steps, 4, 4, 3)).astype(np.uint8)
    return {
        "image": frames, "place": place.astype(dtype), "action": place[:-1].astype(dtype),
        "reward": ids[1:].astype(dtype),
    }  # fmt: skip


def check(example: Example, frames: int, stride: int, number: int | None = None) -> int:
    """The example is a clip of one recording; returns the step at which it begins."""
    recorded, first = map(int, example["states"][0])
    assert number is None or recorded == number
    steps = first + stride * np.arange(frames)
    np.testing.assert_array_equal(example["states"], np.stack([np.full(frames, recorded), steps], 1))
    assert example["states"].dtype == example["actions"].dtype == np.float32
    between = first + np.arange((frames - 1) * stride)
    expected = np.stack([np.full(len(between), recorded), between], 1).reshape(frames - 1, 2 * stride)
    np.testing.assert_array_equal(example["actions"], expected)
    if "frames" in example:
        np.testing.assert_array_equal(example["frames"][:, 0, 0, 0], (10 * recorded + steps) % 256)
    if "rewards" in example:
        np.testing.assert_array_equal(example["rewards"], (between + 1).reshape(frames - 1, stride).sum(1))
    return first
