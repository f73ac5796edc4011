"""A recording: its files are whole, the same facts continue it, and clips of it cross no end of an episode."""

import json
from pathlib import Path

import numpy as np
import pytest

from deploy.stored.datasets import open_dataset
from deploy.stored.episode_files import NpzEpisodes, files_of, read_index
from deploy.stored.recording import STEPS, Recording
from learner.datasets.dataset import Clip
from learner.datasets.keys import Keys
from replay.files.npz import read_npz
from replay.foreign_rows import Reading
from replay.step import Field, Rows, Schema
from tests.small_disk import fill, small_disk
from world_models.space import Space

SPACES = {
    "observation": {"image": Space(dtype=np.dtype(np.uint8), shape=(6, 6, 3)).to_json()},
    "action": {"action": Space(dtype=np.dtype(np.int32), shape=(), classes=5).to_json()},
}
FACTS = {"task": "t", "seed": 0, **SPACES}


def schema() -> Schema:
    image, action = Field(dtype=np.dtype(np.uint8), shape=(6, 6, 3)), Field(dtype=np.dtype(np.int32))
    whole = Schema.transitions({"image": image}, {"action": action})
    return Schema(fields={key: field for key, field in whole.fields.items() if key != "version"}, latents={})


def rows(step: int, lengths: tuple[int, ...], noise: np.random.Generator | None = None) -> Rows:
    """Row `step` of environments whose episodes all have their own length. A picture shows the environment, the
    episode and the step in it."""
    count = len(lengths)
    episode, place = np.divmod(step, lengths)
    image = np.zeros((count, 6, 6, 3), np.uint8) if noise is None else noise.integers(256, size=(count, 6, 6, 3))
    image = image.astype(np.uint8)
    image[:, 0, 0] = np.stack([np.arange(count), episode, place], 1)
    last = place == np.asarray(lengths) - 1
    return {
        "image": image, "action": np.where(last, 0, place % 5).astype(np.int32), "reward": np.ones(count, np.float32),
        "is_first": place == 0, "is_last": last, "is_terminal": last & (np.arange(count) == 0),
    }  # fmt: skip


def written(out: Path, steps: int, lengths: tuple[int, ...], facts: dict[str, object] | None = None) -> Recording:
    with Recording(out, schema(), facts or FACTS, len(lengths)) as recording:
        for step in range(steps):
            recording.add(rows(step, lengths), len(lengths))
    return recording


def test_everything_comes_back_in_whole_episodes(tmp_path: Path) -> None:
    written(tmp_path / "out", 310, (150, 40))
    index = read_index(tmp_path / "out")
    assert index and index["counts"] == {"episodes": 9, "steps": 620} and index["task"] == "t"
    lengths = [[one["length"] for one in files] for files in files_of(index)]
    assert max(map(max, lengths)) <= STEPS and sorted(map(sum, lengths)) == [10, 30, *[40] * 7, 150, 150]
    reading = Reading(schema=schema(), actions=frozenset({"action"}))
    found = NpzEpisodes([tmp_path / "out"], reading)
    episodes = list(found)
    assert sorted(len(one["reward"]) for one in episodes) == [*[40] * 7, 150, 150] and found.found.running == 2
    for one in episodes:
        place = one["image"][:, 0, 0, 2]
        np.testing.assert_array_equal(place, np.arange(len(place)))
        np.testing.assert_array_equal(one["action"], np.append(place[:-1] % 5, 0))
    assert [(one["return"], one["terminal"]) for one in index["episodes"] if one["length"] == 150] == [(150, True)] * 2


def test_clips_cross_files_but_no_end_of_an_episode(tmp_path: Path) -> None:
    written(tmp_path / "out", 300, (150, 40))
    data = open_dataset(str(tmp_path / "out"), Clip(frames=5, stride=8))
    assert len(data) == 2 * 4 + 7  # a clip spans 33 steps
    seen = set()
    for seed in range(400):
        clip = data.example(seed % len(data), np.random.default_rng(seed))
        environment, episode, place = clip["frames"][:, 0, 0].T.astype(int)
        assert len(set(environment)) == len(set(episode)) == 1
        np.testing.assert_array_equal(place, place[0] + 8 * np.arange(5))
        actions = clip["actions"].reshape(4, 8, 5)
        np.testing.assert_array_equal(actions.argmax(2).ravel(), (place[0] + np.arange(32)) % 5)
        np.testing.assert_array_equal(clip["rewards"], 8)
        seen.add((environment[0], place[0]))
    assert len([place for i, place in seen if i == 0]) > 90  # of 118
    assert {place for i, place in seen if i == 1} == set(range(8))
    video = open_dataset(str(tmp_path / "out"), Clip(frames=2), keys=Keys(conditions=False))
    assert video.example(0, np.random.default_rng(0)).keys() == {"frames", "rewards"}


def test_what_is_shorter_than_a_clip_is_left_out(tmp_path: Path) -> None:
    written(tmp_path / "out", 300, (150, 40))
    data = open_dataset(str(tmp_path / "out"), Clip(frames=50))
    assert data.describe().startswith("6 clips of 2 recordings in 4 .npz files in ")
    assert data.describe().endswith("8 shorter than a clip and left out")
    with pytest.raises(ValueError, match="spans 151 steps; the longest recording has 150. Ask for shorter clips"):
        open_dataset(str(tmp_path / "out"), Clip(frames=151))


def test_the_same_facts_continue_it(tmp_path: Path) -> None:
    written(tmp_path / "out", 30, (20, 20))
    before = {path: path.read_bytes() for path in (tmp_path / "out").glob("*.npz")}
    (tmp_path / "out" / "000099-3.npz").write_bytes(b"of a killed process")
    (tmp_path / "out" / ".000004-3.new.npz").write_bytes(b"half of a file")
    again = written(tmp_path / "out", 25, (20, 20, 20))
    assert again.continues and again.steps == 60 + 75 and len(again.whole) == 2 + 3
    assert all(path.read_bytes() == content for path, content in before.items())
    there = {str(one["file"]) for files in files_of(again.index()) for one in files}
    assert there == {path.name for path in (tmp_path / "out").iterdir()} - {"index.json", "lock"}
    with pytest.raises(ValueError, match=r"out is a recording with seed=0, not 1\. Ask for the same to continue it"):
        written(tmp_path / "out", 1, (20, 20), FACTS | {"seed": 1})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "text").touch()
    with pytest.raises(ValueError, match="mine already exists; name a new folder with --out"):
        written(tmp_path / "mine", 1, (20,))


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        Recording(tmp_path / "out", schema(), FACTS, 1),
        pytest.raises(ValueError, match="is in use by process"),
    ):
        Recording(tmp_path / "out", schema(), FACTS, 1)


def test_the_last_row_may_be_of_some_environments_only(tmp_path: Path) -> None:
    with Recording(tmp_path / "out", schema(), FACTS, 3) as recording:
        recording.add(rows(0, (9, 9, 9)), 3)
        recording.add(rows(1, (9, 9, 9)), 1)
    assert recording.steps == 4 and [one["length"] for one in recording.index()["episodes"]] == [1, 1, 2]
    for files in files_of(recording.index()):
        (file,) = files
        assert len(read_npz(tmp_path / "out" / file["file"])["reward"]) == file["length"]


def test_a_full_disk_leaves_a_whole_recording(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    with small_disk(tmp_path / "disk", 2):
        out = tmp_path / "disk" / "out"
        with pytest.raises(OSError, match="No space left") as full, Recording(out, schema(), FACTS, 4) as recording:
            for step in range(5 * STEPS):
                recording.add(rows(step, (200,) * 4, noise), 4)
                if step == 3 * STEPS:
                    fill(tmp_path / "disk")
        assert full.value.filename and str(out) in str(full.value.filename)
        (tmp_path / "disk" / "rest").unlink()
        with Recording(out, schema(), FACTS, 4) as recording:
            assert recording.continues
            kept = recording.index()
            for files in files_of(kept):
                assert sum(len(read_npz(out / one["file"])["reward"]) for one in files) == sum(
                    one["length"] for one in files
                )
            recording.add(rows(0, (200,) * 4, noise), 4)
        assert recording.steps == kept["counts"]["steps"] + 4
        json.loads((out / "index.json").read_text())
