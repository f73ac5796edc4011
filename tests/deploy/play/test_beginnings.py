"""What worlds begin with, as users name it; what is wrong is said in one line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actors.video import write_video
from deploy.cli import main
from deploy.play.recordings import MOST, read_recordings
from tests.deploy.play.written_worlds import SMALLEST, fresh, write_world


def test_a_picture_of_another_size_is_cut_to_its_middle_and_resized(tmp_path: Path) -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 20:60] = (200, 100, 50)  # the largest square in the middle
    Image.fromarray(pixels).save(tmp_path / "start.png")
    (recording,) = read_recordings(fresh(), tmp_path, str(tmp_path / "start.png"))
    assert recording.frames.shape == (1, 16, 16, 3) and recording.begins == 0
    assert np.abs(recording.frames.numpy().astype(int) - (200, 100, 50)).max() <= 1


def test_a_grey_picture_gets_colours(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16), 77, np.uint8)).save(tmp_path / "start.png")
    (recording,) = read_recordings(fresh(), tmp_path, str(tmp_path))
    assert recording.frames.unique().tolist() == [77]


def test_a_video_is_as_long_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs the extra video")
    frames = [np.full((32, 32, 3), 10 * n, np.uint8) for n in range(20)]
    write_video(tmp_path / "start.mp4", frames)
    recordings = read_recordings(fresh(), tmp_path, str(tmp_path / "start.mp4"))
    assert 1 <= len(recordings) <= 4 and {len(one.frames) for one in recordings} == {16}  # the most of 16, 32, ...
    means = recordings[0].frames.float().mean((1, 2, 3))
    assert (means.diff() > 7).all()


def test_a_world_of_continuous_actions_is_refused(tmp_path: Path) -> None:
    model = fresh(replace(SMALLEST, real_actions=2))
    actions = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)
    np.savez(tmp_path / "a.npz", image=np.zeros((4, 16, 16, 3), np.uint8), action=actions)
    with pytest.raises(ValueError, match="vectors of numbers, which no key stands for"):
        read_recordings(model, tmp_path, str(tmp_path))


def test_generated_clips_are_different_ones() -> None:
    recordings = read_recordings(fresh(), Path("nowhere"), "generated:block_world")
    assert len(recordings) == MOST == len({one.frames.numpy().tobytes() for one in recordings})


def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_world(tmp_path / "world", fresh())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"family": "simple", "format": 1}')
    (tmp_path / "other" / "model.safetensors").touch()
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / "broken.mp4").write_bytes(b"no video either")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for arguments, expected in [
        (["nowhere"], "nowhere is no directory"),
        (["other"], "family 'simple', which generates no world; nexus play takes genie"),
        (["world"], "belongs to no run of nexus pretrain, whose data could be used; name a picture"),
        (["world", "--start", "nothing.png"], "There is no file or folder nothing.png"),
        (["world", "--start", "notes.txt"], "nothing that can be read"),
        (["world", "--start", "broken.mp4"], "broken.mp4"),
        (["world", "--start", "broken.png"], "broken.png"),
        (["world", "--start", "generated:cats"], "There is no dataset 'generated:cats'"),
        (["world", "--start", "generated:block_world", "--temperature", "-1"], "temperature=-1"),
        (["world", "--start", "generated:block_world", "--host", "300.0.0.1"], "cannot be opened"),
    ]:  # fmt: skip
        with pytest.raises(SystemExit) as left:
            main(["play", *arguments])
        said = capsys.readouterr().err
        assert left.value.code == 2 and expected in said and said.count("\n") == 1, said
