"""Folders of videos: the frames asked for, at any rate, from any container; damaged files."""

import sys
from pathlib import Path

import numpy as np
import pytest

from learner.datasets.dataset import Clip, UnreadableError
from learner.datasets.videos import Video, Videos
from learner.datasets.view import View
from tests.learner.datasets.films import film, numbers


def drawn(data: Videos, seeds: int = 30) -> list[list[int]]:
    return [numbers(data.example(0, np.random.default_rng(seed))["frames"]) for seed in range(seeds)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.MOV"])
def test_clips_have_the_frames_asked_for(tmp_path: Path, name: str) -> None:
    film(tmp_path / name, frames=40)
    data = Videos(tmp_path, Clip(frames=4, stride=3), View(size=24))
    clips = drawn(data)
    assert all(clip == list(range(clip[0], clip[0] + 12, 3)) for clip in clips)
    assert {clip[0] for clip in clips} <= set(range(31)) and len({clip[0] for clip in clips}) > 10


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9", "libsvtav1"])
def test_codecs_with_reordered_frames_too(tmp_path: Path, codec: str) -> None:
    film(tmp_path / "a.mp4", frames=30, codec=codec)
    data = Videos(tmp_path, Clip(frames=3, stride=2), View())
    assert all(clip == [clip[0], clip[0] + 2, clip[0] + 4] for clip in drawn(data, 8))


def test_the_stride_follows_the_rate(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", frames=60, rate=20)
    for fps, stride in ((20, 1), (5, 4), (6, 3), (50, 1)):
        clips = drawn(Videos(tmp_path, Clip(frames=3, fps=fps), View(size=24)), 5)
        assert all(clip == [clip[0], clip[0] + stride, clip[0] + 2 * stride] for clip in clips)


def test_the_last_clip_is_the_whole_video(tmp_path: Path) -> None:
    film(tmp_path / "one.mp4", frames=12)
    assert drawn(Videos(tmp_path / "one.mp4", Clip(frames=12), View(size=24)), 2) == [list(range(12))] * 2


def test_subfolders_are_classes(tmp_path: Path) -> None:
    film(tmp_path / "wave" / "a.mp4", 5)
    film(tmp_path / "nod" / "b.mp4", 5)
    data = Videos(tmp_path, Clip(frames=2), View(size=24))
    assert [int(data.example(i, np.random.default_rng(0))["label"]) for i in range(2)] == [0, 1]
    assert data.describe() == f"2 videos of 2 classes in {tmp_path}"


def test_short_and_damaged_videos_are_named(tmp_path: Path) -> None:
    film(tmp_path / "a_short.mp4", frames=5)
    film(tmp_path / "b_whole.avi", frames=40)
    raw = (tmp_path / "b_whole.avi").read_bytes()
    (tmp_path / "c_empty.mp4").write_bytes(b"")
    (tmp_path / "d_text.mp4").write_text("no video")
    (tmp_path / "e_cut.mp4").write_bytes(raw[:2000])
    (tmp_path / "f_noise.avi").write_bytes(raw[:2000] + np.random.default_rng(0).bytes(len(raw)))
    data = Videos(tmp_path, Clip(frames=8), View(size=24))
    assert numbers(data.example(1, np.random.default_rng(0))["frames"])
    with pytest.raises(UnreadableError, match=r"a_short\.mp4: it has 5 frames, fewer than the 8 that a clip spans"):
        data.example(0, np.random.default_rng(0))
    for index, name in ((2, "c_empty"), (3, "d_text"), (4, "e_cut"), (5, "f_noise")):
        with pytest.raises(UnreadableError, match=f"{name}[.]...: ."):
            data.example(index, np.random.default_rng(1))


def test_a_video_that_ends_early_says_where(tmp_path: Path) -> None:
    film(tmp_path / "a.avi", frames=10)
    with (
        Video(tmp_path / "a.avi") as video,
        pytest.raises(UnreadableError, match=r"ends at frame 9, before frame 12 of 10"),
    ):
        list(video.read([8, 12]))


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"holds no videos; allowed are \.mp4"):
        Videos(tmp_path, Clip(), View())
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"pip install av, or pip install 'nexus-worlds\[video\]'"):
        Videos(tmp_path, Clip(), View())
