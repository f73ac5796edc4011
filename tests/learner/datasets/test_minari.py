"""Minari datasets: nested spaces, classes, whole and damaged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from learner.datasets.dataset import Clip, UnreadableError
from learner.datasets.keys import Keys
from learner.datasets.minari import Minari
from learner.datasets.view import View
from tests.learner.datasets.recordings import check, recording

h5py = pytest.importorskip("h5py")
pytest.importorskip("minari")
PICTURE = spaces.Box(0, 255, (4, 4, 3), np.uint8)
PLACE = spaces.Box(-np.inf, np.inf, (2,), np.float32)


def write(folder: Path, observation: spaces.Space, action: spaces.Space, episodes: list[dict[str, Any]]) -> Path:
    """A dataset as Minari's own recorder writes it."""
    import minari
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    folder.mkdir()
    storage = MinariStorage.new(folder / "data", observation, action, data_format="hdf5")
    for one in episodes:
        n = len(one["rewards"])
        flags = np.arange(n) == n - 1
        storage.update_episodes([EpisodeBuffer(**one, terminations=flags, truncations=~flags & False)])
    storage.update_metadata({"dataset_id": "test/set-v0", "minari_version": minari.__version__})
    return folder


def places(tmp_path: Path) -> Path:
    episodes = []
    for number, steps in enumerate((20, 8, 12)):
        rows = recording(number, steps)
        observations = {"image": rows["image"], "place": rows["place"]}
        episodes.append({"observations": observations, "actions": rows["action"], "rewards": rows["reward"]})
    return write(tmp_path / "set", spaces.Dict(image=PICTURE, place=PLACE), PLACE, episodes)


def test_clips_have_their_frames_actions_states_and_rewards(tmp_path: Path) -> None:
    folder = places(tmp_path)
    data = Minari(folder, Clip(frames=3, stride=2), View())
    assert len(data) == 3 and data.keys == Keys(frames="image", actions=("action",), states=("place",))
    assert data.describe() == f"3 episodes of the Minari dataset {folder}, frames from 'image'"
    for index, starts in enumerate((16, 4, 8)):
        firsts = {check(data.example(index, np.random.default_rng(seed)), 3, 2, index) for seed in range(100)}
        assert firsts == set(range(starts))
    with pytest.raises(UnreadableError, match="episode 1: it has 8 steps, a clip spans 9"):
        Minari(folder, Clip(frames=9), View()).example(1, np.random.default_rng(0))


def test_nested_spaces_and_classes(tmp_path: Path) -> None:
    observation = spaces.Dict(
        hand=spaces.Dict(eye=PICTURE, joints=spaces.Tuple([PLACE, spaces.Discrete(4, start=2)])), text=spaces.Text(5)
    )
    action = spaces.Dict(arm=PLACE, grip=spaces.Discrete(3), keys=spaces.MultiDiscrete([2, 3]))
    rows, n = recording(1, 9), 9
    episode = {
        "observations": {
            "hand": {"eye": rows["image"], "joints": (rows["place"], np.arange(n) % 4 + 2)}, "text": ["word"] * n,
        },
        "actions": {"arm": rows["action"], "grip": np.arange(n - 1) % 3, "keys": np.ones((n - 1, 2), int)},
        "rewards": rows["reward"],
    }  # fmt: skip
    folder = write(tmp_path / "set", observation, action, [episode])
    data = Minari(folder, Clip(frames=3), View(size=2))
    assert data.keys.frames == "hand/eye" and data.keys.states == ("hand/joints/0",)
    assert data.keys.actions == ("action/arm", "action/grip", "action/keys/0", "action/keys/1")
    example = data.example(0, np.random.default_rng(0))
    first = int(example["states"][0, 1])
    assert example["actions"].shape == (2, 2 + 3 + 2 + 3)
    np.testing.assert_array_equal(example["actions"][:, 2:5], np.eye(3)[(first + np.arange(2)) % 3])
    np.testing.assert_array_equal(example["actions"][:, 5:], [[0, 1, 0, 1, 0]] * 2)
    named = Minari(folder, Clip(frames=3), View(), Keys(states=("hand/joints/1",)))
    states = named.example(0, np.random.default_rng(0))["states"]
    assert states.shape == (3, 4) and (states.sum(1) == 1).all()


def test_plain_observations(tmp_path: Path) -> None:
    rows = recording(2, 6)
    episode = {"actions": np.arange(5) % 2, "rewards": rows["reward"]}
    pixels = write(tmp_path / "a", PICTURE, spaces.Discrete(2), [episode | {"observations": rows["image"]}])
    example = Minari(pixels, Clip(frames=2), View()).example(0, np.random.default_rng(0))
    assert example.keys() == {"frames", "actions", "rewards"} and example["actions"].shape == (1, 2)
    vectors = write(tmp_path / "b", PLACE, spaces.Discrete(2), [episode | {"observations": rows["place"]}])
    assert Minari(vectors, Clip(frames=2), View()).keys == Keys(actions=("action",), states=("vector",))


def test_damage_is_named(tmp_path: Path) -> None:
    folder = places(tmp_path)
    with h5py.File(folder / "data" / "main_data.hdf5", "r+") as file:
        del file["episode_0"]["actions"]
        del file["episode_2"]["rewards"]
        file["episode_2"]["rewards"] = np.zeros(3)
    data = Minari(folder, Clip(frames=2), View())
    check(data.example(1, np.random.default_rng(0)), 2, 1, 1)
    with pytest.raises(UnreadableError, match="set, episode 0: ."):
        data.example(0, np.random.default_rng(0))
    with pytest.raises(UnreadableError, match="set, episode 2: its arrays do not have the same steps"):
        data.example(2, np.random.default_rng(0))
    metadata = folder / "data" / "metadata.json"
    text = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(text | {"minari_version": "9.9"}))
    with pytest.raises(ValueError, match=r"set cannot be read as a Minari dataset: .*9\.9"):
        Minari(folder, Clip(), View())
    metadata.write_text("{")
    with pytest.raises(ValueError, match="set cannot be read as a Minari dataset"):
        Minari(folder, Clip(), View())
