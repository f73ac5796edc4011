"""Folders of pictures: every format, classes, damaged files."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from learner.datasets.batches import Batches
from learner.datasets.dataset import Clip, UnreadableError
from learner.datasets.images import Images
from learner.datasets.view import View

VIEW = View(size=8)


def paint(file: Path, shade: int, mode: str = "RGB") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (20, 12), (shade, shade, shade))
    (image.quantize() if mode == "P" else image.convert(mode)).save(file)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.jpg", "RGB"), ("a.PNG", "RGBA"), ("a.png", "L"), ("a.png", "P"), ("a.gif", "P"), ("a.webp", "RGB"),
     ("a.tiff", "RGB"), ("a.bmp", "RGB"), ("a.jpeg", "CMYK")],
)  # fmt: skip
def test_every_format_is_read_as_rgb(tmp_path: Path, name: str, mode: str) -> None:
    paint(tmp_path / name, 100, mode)
    frames = Images(tmp_path, Clip(), VIEW).example(0, np.random.default_rng(0))["frames"]
    assert frames.shape == (1, 8, 8, 3) and frames.dtype == np.uint8
    np.testing.assert_allclose(frames, 100, atol=4)


@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.pgm"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, name: str) -> None:
    Image.fromarray(np.full((12, 20), 100 << 8, np.uint16)).save(tmp_path / name)
    frames = Images(tmp_path, Clip(), VIEW).example(0, np.random.default_rng(0))["frames"]
    np.testing.assert_array_equal(frames, np.full((1, 8, 8, 3), 100, np.uint8))


def test_floats_of_unknown_range_are_unreadable(tmp_path: Path) -> None:
    Image.fromarray(np.full((12, 20), 0.5, np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(UnreadableError, match="floats of unknown range"):
        Images(tmp_path, Clip(), VIEW).example(0, np.random.default_rng(0))


def test_subfolders_are_classes(tmp_path: Path) -> None:
    for name, shade in (("dog", 200), ("cat", 50), ("cat", 60)):
        paint(tmp_path / name / "deep" / f"{shade}.png", shade)
    data = Images(tmp_path, Clip(), VIEW)
    assert data.classes == ["cat", "dog"]
    examples = [data.example(i, np.random.default_rng(0)) for i in range(3)]
    found = {(int(one["frames"][0, 0, 0, 0]), int(one["label"])) for one in examples}
    assert found == {(50, 0), (60, 0), (200, 1)}
    assert data.describe() == f"3 pictures of 2 classes in {tmp_path}"


def test_pictures_in_one_folder_have_no_label(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", 1)
    paint(tmp_path / ".hidden" / "b.png", 1)
    (tmp_path / "notes.txt").write_text("no picture")
    data = Images(tmp_path, Clip(), VIEW)
    assert len(data) == 1 and data.example(0, np.random.default_rng(0)).keys() == {"frames"}


def damage(file: Path, how: str) -> None:
    raw = file.read_bytes()
    if how == "empty":
        file.write_bytes(b"")
    elif how == "no picture":
        file.write_bytes(b"<html>404</html>")
    else:
        file.write_bytes(raw[: len(raw) // 2])


@pytest.mark.parametrize("how", ["empty", "no picture", "cut off"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".webp"])
def test_a_damaged_picture_is_named(tmp_path: Path, suffix: str, how: str) -> None:
    file = tmp_path / f"a{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(file)
    damage(file, how)
    data = Images(tmp_path, Clip(), VIEW)
    with pytest.raises(UnreadableError, match=f"a{suffix}: ."):
        data.example(0, np.random.default_rng(0))


def test_few_damaged_pictures_are_skipped_and_many_are_an_error(tmp_path: Path) -> None:
    for i in range(20):
        paint(tmp_path / f"{i:02d}.png", 10 * i)
    for i in (3, 7):
        damage(tmp_path / f"{i:02d}.png", "cut off")
    batches = Batches(Images(tmp_path, Clip(), VIEW), size=10, seed=0)
    shades = {int(shade) for batch in islice(batches.after(), 6) for shade in batch["frames"][:, 0, 0, 0, 0]}
    assert shades == {10 * i for i in range(20)} - {30, 70}
    assert {Path(name).name for name in batches.unreadable.reasons} == {"03.png", "07.png"}
    damage(tmp_path / "11.png", "empty")
    with pytest.raises(ValueError, match=r"^3 of 20 examples cannot be read.*03\.png.*Mend or delete them;"):
        list(islice(Batches(Images(tmp_path, Clip(), VIEW), size=10, seed=0).after(), 6))


def test_what_is_no_set_of_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no pictures; allowed are \.jpg"):
        Images(tmp_path, Clip(), VIEW)
    paint(tmp_path / "a.png", 1)
    with pytest.raises(ValueError, match="pictures, which are clips of 1 frame; 4 frames were asked for"):
        Images(tmp_path, Clip(frames=4), VIEW)
