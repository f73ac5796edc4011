"""Crops lie inside the frame and are distributed as asked; all frames of a clip are seen alike."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from learner.datasets.view import View

CROPPED = View(size=16, scale=(0.3, 1.0), aspect=(0.75, 4 / 3), flip=True)


@given(width=st.integers(1, 400), height=st.integers(1, 400), seed=st.integers(0, 1000))
def test_a_crop_lies_inside_and_has_the_area_and_aspect_asked_for(width: int, height: int, seed: int) -> None:
    box, _ = CROPPED.draw(width, height, np.random.default_rng(seed))
    assert box.left >= 0 and box.top >= 0 and box.left + box.width <= width and box.top + box.height <= height
    if min(width, height) >= 100 and 0.75 <= width / height <= 4 / 3:
        assert 0.29 <= box.width * box.height / (width * height) <= 1
        assert 0.73 <= box.width / box.height <= 1.37


def test_area_and_aspect_are_uniform() -> None:
    """Over a large square nothing is refused but crops that stick out: the middle of the area, half of the flips."""
    rng = np.random.default_rng(0)
    drawn = [CROPPED.draw(1000, 1000, rng) for _ in range(3000)]
    area = np.array([box.width * box.height for box, _ in drawn]) / 1e6
    aspect = np.log([box.width / box.height for box, _ in drawn])
    inside = area < 0.7  # no crop of this area is refused
    assert np.quantile(area[inside], [0.25, 0.5, 0.75]) == pytest.approx([0.4, 0.5, 0.6], abs=0.02)
    assert np.quantile(aspect[inside], [0.25, 0.5, 0.75]) == pytest.approx([-0.144, 0, 0.144], abs=0.02)
    left = np.array([box.left / (1000 - box.width) for box, _ in drawn if box.width < 1000])
    assert np.quantile(left, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.04)
    assert np.mean([flipped for _, flipped in drawn]) == pytest.approx(0.5, abs=0.03)


def test_frames_of_a_clip_are_seen_alike() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    clip = np.stack([frame, 255 - frame, frame])
    for seed in range(10):
        seen = CROPPED(clip, np.random.default_rng(seed))
        assert seen.shape == (3, 16, 16, 3) and seen.dtype == np.uint8
        np.testing.assert_array_equal(seen[0], seen[2])
        assert np.abs(seen[0].astype(int) + seen[1] - 255).max() <= 1
        np.testing.assert_array_equal(seen, CROPPED(iter(clip), np.random.default_rng(seed)))


def test_without_random_crops_the_centre_is_seen() -> None:
    frame = np.zeros((1, 20, 40, 3), np.uint8)
    frame[:, :, 10:30] = 200
    seen = View(size=20)(frame, np.random.default_rng(0))
    np.testing.assert_array_equal(seen, 200)
    as_it_is = View()(frame, np.random.default_rng(0))
    np.testing.assert_array_equal(as_it_is, frame)
    wide = View(size=10, aspect=(0.5, 2.0))(frame, np.random.default_rng(0))
    assert wide[0, 5, 0, 0] == 0 and wide[0, 5, 5, 0] == 200


def test_mirroring_swaps_left_and_right() -> None:
    frame = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(1, 4, 6, 3)
    seen = {View(flip=True)(frame, np.random.default_rng(seed)).tobytes() for seed in range(20)}
    assert seen == {frame.tobytes(), frame[:, :, ::-1].tobytes()}


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_resizing_is_bilinear_and_does_not_alias(channels: int) -> None:
    checkers = np.indices((32, 32)).sum(0) % 2 * 255
    frames = np.repeat(checkers[None, ..., None], channels, -1).astype(np.uint8)
    small = View(size=8)(frames, np.random.default_rng(0))
    assert small.shape == (1, 8, 8, channels)
    assert np.abs(small.astype(int) - 127).max() < 20
    ramp = np.repeat(np.arange(0, 160, 10, dtype=np.uint8)[None, None, :, None], 16, 1)
    large = View(size=32)(ramp, np.random.default_rng(0))[0, 0, 2:-2, 0]
    np.testing.assert_allclose(np.diff(large.astype(int)), 5, atol=1)


def test_a_jpeg_is_seen_as_its_pixels_are() -> None:
    y, x = np.indices((256, 384))
    picture = np.stack([x // 2, y, (x + y) // 3], -1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=95)
    for seed in range(5):
        with Image.open(io.BytesIO(file.getvalue())) as image:
            seen = CROPPED.image(image, np.random.default_rng(seed))
        plain = CROPPED(picture[None], np.random.default_rng(seed))
        assert np.abs(seen.astype(int) - plain).max() <= 8


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"size": -1}, "size must be 0"),
        ({"size": 8, "scale": (0, 1)}, "0 < low <= high <= 1, got"),
        ({"size": 8, "scale": (0.3, 1.2)}, "0 < low <= high <= 1, got"),
        ({"size": 8, "aspect": (2.0, 1.0)}, "aspect must be two ratios"),
        ({"scale": (0.3, 1.0)}, "give the view a size"),
    ],
)
def test_wrong_views_are_refused(fields: dict, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        View(**fields)
