"""Recordings as .npz files: ours, DreamerV3's, anyone's; clips never cross an episode's end."""

from pathlib import Path

import numpy as np
import pytest

from learner.datasets.arrays import Arrays
from learner.datasets.dataset import Clip, UnreadableError
from learner.datasets.keys import Keys
from learner.datasets.view import View
from replay.step import Rows
from tests.learner.datasets.recordings import check, recording


def save(folder: Path, *recordings: Rows, start: int = 0) -> None:
    for number, arrays in enumerate(recordings, start):
        np.savez_compressed(folder / f"{number}.npz", allow_pickle=False, **arrays)


def as_steps(arrays: Rows, episode: int) -> Rows:
    """In the form of replay: a row per step, with flags; the action of a last row and the reward of a first are 0."""
    n = len(arrays["place"])
    ids = np.arange(n)
    return arrays | {
        "action": np.append(arrays["action"], arrays["action"][-1:] * 0, axis=0),
        "reward": np.append(0, arrays["reward"]),
        "is_first": ids % episode == 0,
        "is_last": ids % episode == episode - 1,
    }


@pytest.mark.parametrize("form", ["pairs", "steps", "float64"])
def test_clips_are_cut_from_each_file(tmp_path: Path, form: str) -> None:
    made = [recording(i, 20 + i, np.float64 if form == "float64" else np.float32) for i in range(3)]
    save(tmp_path, *([as_steps(one, 100) for one in made] if form == "steps" else made))
    data = Arrays(tmp_path, Clip(frames=4, stride=2), View())
    assert (data.keys.frames, data.keys.actions, data.keys.states) == ("image", ("action",), ("place",))
    for i in range(3):
        firsts = {check(data.example(i, np.random.default_rng(seed)), 4, 2, i) for seed in range(200)}
        assert firsts == set(range(14 + i))
    assert data.describe() == f"3 .npz files in {tmp_path}, frames from 'image'"


def test_no_clip_crosses_the_end_of_an_episode(tmp_path: Path) -> None:
    save(tmp_path, as_steps(recording(1, 30), 10))
    data = Arrays(tmp_path, Clip(frames=4, stride=2), View())
    firsts = {check(data.example(0, np.random.default_rng(seed)), 4, 2) for seed in range(300)}
    assert firsts == {e + i for e in (0, 10, 20) for i in range(4)}
    long = Arrays(tmp_path, Clip(frames=11), View())
    with pytest.raises(UnreadableError, match=r"0\.npz: no episode in it has the 11 steps that a clip spans"):
        long.example(0, np.random.default_rng(0))


def test_keys_may_be_named(tmp_path: Path) -> None:
    arrays = recording(1, 9)
    save(tmp_path, arrays | {"depth": arrays["image"][..., :1], "speed": np.ones((9, 3), np.float32)})
    assert Arrays(tmp_path, Clip(), View()).keys.frames == "image"
    with pytest.raises(ValueError, match=r"has no \['lidar'\]; its keys are action float32 \[2\], depth uint8"):
        Arrays(tmp_path, Clip(), View(), Keys(frames="lidar"))
    one = Arrays(tmp_path, Clip(frames=2), View(), Keys(frames="depth", states=("speed", "place")))
    example = one.example(0, np.random.default_rng(0))
    assert example["frames"].shape == (2, 4, 4, 1) and example["states"].shape == (2, 5)
    with pytest.raises(ValueError, match="'speed' is no image"):
        Arrays(tmp_path, Clip(), View(), Keys(frames="speed"))
    save(tmp_path, {"left": arrays["image"], "right": arrays["image"]})
    with pytest.raises(ValueError, match=r"several images, \['left', 'right'\]; name the one"):
        Arrays(tmp_path, Clip(), View())


def test_discrete_actions_become_one_hot(tmp_path: Path) -> None:
    arrays = recording(1, 9) | {"action": np.arange(8) % 3, "label": np.asarray(4)}
    save(tmp_path, arrays)
    with pytest.raises(ValueError, match=r"'action' is discrete \(int64\), and how many classes it has is not"):
        Arrays(tmp_path, Clip(), View())
    data = Arrays(tmp_path, Clip(frames=3, stride=2), View(), classes={"action": 3})
    example = data.example(0, np.random.default_rng(0))
    first = int(example["states"][0, 1])
    expected = np.eye(3)[(first + np.arange(4)) % 3].reshape(2, 6)
    np.testing.assert_array_equal(example["actions"], expected)
    assert example["label"] == 4


def test_grey_clips_without_anything_else(tmp_path: Path) -> None:
    save(tmp_path, {"video": np.zeros((9, 5, 6), np.uint8)})
    example = Arrays(tmp_path, Clip(frames=2), View(size=3)).example(0, np.random.default_rng(0))
    assert example.keys() == {"frames"} and example["frames"].shape == (2, 3, 3, 1)


def test_bad_files_are_named(tmp_path: Path) -> None:
    save(tmp_path, *(recording(i, 9) for i in range(4)))
    raw = (tmp_path / "1.npz").read_bytes()
    (tmp_path / "1.npz").write_bytes(raw[:-100])
    (tmp_path / "2.npz").write_text("nothing")
    changed = bytearray(raw)
    changed[120] ^= 255
    (tmp_path / "3.npz").write_bytes(changed)
    partial = {key: value for key, value in recording(4, 9).items() if key != "place"}
    wide = recording(5, 9) | {"image": np.zeros((9, 4, 5, 3), np.uint8)}
    save(tmp_path, partial, wide, start=4)
    np.savez(tmp_path / "6.npz", place=np.array([{}] * 9, object), image=wide["image"], action=wide["action"])
    data = Arrays(tmp_path, Clip(frames=2), View())
    check(data.example(0, np.random.default_rng(0)), 2, 1, 0)
    reasons = [
        "not an .npz archive", "not an .npz archive", "(Bad CRC|Error -3)", "'place' is missing, unlike in other files",
        r"'image' is uint8 \[4, 5, 3\], unlike in other files", "Object arrays cannot be loaded",
    ]  # fmt: skip
    for index, reason in enumerate(reasons, start=1):
        with pytest.raises(UnreadableError, match=rf"{index}\.npz: {reason}"):
            data.example(index, np.random.default_rng(0))


def test_folders_without_recordings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no \.npz files; name a folder of them"):
        Arrays(tmp_path, Clip(), View())
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"None of the first 1 files in .* can be read: .*a\.npz: not an \.npz"):
        Arrays(tmp_path, Clip(), View())
    save(tmp_path, {"ids": np.arange(5)})
    with pytest.raises(
        ValueError, match=r"no images \(uint8 .* at most 4\) and no vectors .* of a step are ids int64 \[\]"
    ):
        Arrays(tmp_path, Clip(), View())
    save(tmp_path, {"place": np.zeros((5, 2), np.float32)})
    with pytest.raises(ValueError, match=r"has no images \(uint8 .* at most 4\); the keys of a step are place float32"):
        Arrays(tmp_path, Clip(), View(), Keys(conditions=False))
