"""Videos as people have them: of any size and rate, cut off, without a length or frames, or as numbered pictures."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from learner.datasets.batches import Batches
from learner.datasets.dataset import Clip, UnreadableError
from learner.datasets.image_sequences import ImageSequences
from learner.datasets.videos import Videos
from learner.datasets.view import View
from tests.learner.datasets.films import SIZE, bars, film, numbers


def written(file: Path, frames: int, width: int, height: int, options: dict[str, str] | None = None) -> None:
    """A video of one bright colour."""
    with av.open(str(file), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(frames):
            picture = np.full((height, width, 3), 200, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def test_sizes_and_rates_may_differ_within_a_batch(tmp_path: Path) -> None:
    for name, (width, height) in {"a": (64, 48), "b": (48, 96), "c": (130, 70)}.items():
        written(tmp_path / f"{name}.mp4", 12, width, height)
    film(tmp_path / "d.mp4", frames=40, rate=30)
    data = Videos(tmp_path, Clip(frames=4, fps=10), View(size=24))
    batch = Batches(data, size=4, seed=0, threads=0).batch(0)
    assert batch["frames"].shape == (4, 4, 24, 24, 3)
    fast = numbers(data.example(3, np.random.default_rng(0))["frames"])
    assert fast == list(range(fast[0], fast[0] + 12, 3))
    slow = Videos(tmp_path / "d.mp4", Clip(frames=4, fps=120), View(size=24))  # no frames are made up
    assert np.ptp(numbers(slow.example(0, np.random.default_rng(0))["frames"])) == 3


def test_a_video_without_frames_is_named(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.avi", "c.mkv"):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            assert isinstance(stream, av.VideoStream)
            stream.width = stream.height = SIZE
            stream.pix_fmt = "yuv420p"
            container.start_encoding()
    data = Videos(tmp_path, Clip(), View(size=24))
    for index in range(3):
        with pytest.raises(UnreadableError, match=r"[abc]\.(mp4|avi|mkv): ."):
            data.example(index, np.random.default_rng(0))


def test_a_video_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    film(tmp_path / "whole.mkv", frames=60)
    raw = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "a.mkv").write_bytes(raw[: len(raw) // 2])
    data, found = Videos(tmp_path / "cut", Clip(frames=4), View(size=24)), set()
    for seed in range(30):
        try:
            clip = numbers(data.example(0, np.random.default_rng(seed))["frames"])
        except UnreadableError as error:
            assert "before frame" in str(error)
            found.add("refused")
        else:
            assert clip == list(range(clip[0], clip[0] + 4))
            found.add("read")
    assert found == {"read", "refused"}


def test_a_video_that_does_not_say_how_long_it_is(tmp_path: Path) -> None:
    """As browsers record them."""
    with av.open(str(tmp_path / "a.mkv"), "w", options={"live": "1"}) as container:
        stream = container.add_stream("mpeg4", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for i in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(bars(i), format="rgb24")))
        container.mux(stream.encode())
    data = Videos(tmp_path, Clip(frames=5), View(size=24))
    clips = [numbers(data.example(0, np.random.default_rng(seed))["frames"]) for seed in range(20)]
    assert all(clip == list(range(clip[0], clip[0] + 5)) for clip in clips)
    assert {clip[0] for clip in clips} <= set(range(16)) and len({clip[0] for clip in clips}) > 5


def test_numbered_pictures_are_a_video(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for number in range(12):
            Image.fromarray(bars(number)).save(tmp_path / folder / f"frame{number}.png")
    data = ImageSequences(tmp_path, Clip(frames=4, stride=3), View(size=24))
    assert len(data) == 2 and data.describe() == f"2 folders of pictures, each a video, in {tmp_path}"
    clips = [numbers(data.example(seed % 2, np.random.default_rng(seed))["frames"]) for seed in range(20)]
    assert all(clip == list(range(clip[0], clip[0] + 12, 3)) for clip in clips)
    assert {clip[0] for clip in clips} == {0, 1, 2}
    Image.fromarray(bars(0)[:20]).save(tmp_path / "one" / "frame5.png")
    (tmp_path / "two" / "frame5.png").write_bytes(b"nothing")
    whole = ImageSequences(tmp_path, Clip(frames=12), View(size=24))
    with pytest.raises(UnreadableError, match="one: its pictures differ in size: 48x20, 48x48"):
        whole.example(0, np.random.default_rng(0))
    with pytest.raises(UnreadableError, match=r"frame5\.png: cannot identify"):
        whole.example(1, np.random.default_rng(0))
    Image.fromarray(bars(0)).save(tmp_path / "two" / "frame12.png")
    with pytest.raises(UnreadableError, match="one: it has 12 pictures, fewer than the 13"):
        ImageSequences(tmp_path, Clip(frames=13), View(size=24)).example(0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="of which a clip spans 14, and no folder has more than 13. Name videos"):
        ImageSequences(tmp_path, Clip(frames=14), View(size=24))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no pictures; allowed are"):
        ImageSequences(tmp_path / "empty", Clip(frames=2), View())
