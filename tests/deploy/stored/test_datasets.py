"""Datasets by the names that users give: one run's steps in every form, files of every kind, what cannot be read."""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.cli import main
from deploy.stored.datasets import open_dataset
from learner.datasets.batches import Batches
from learner.datasets.dataset import Clip, Dataset
from learner.datasets.keys import Keys
from learner.datasets.replay_clips import ReplayClips
from learner.datasets.view import View
from replay.disk.disk_store import DiskStore
from tests.integration.runs import command, run
from tests.learner.datasets.films import film
from tests.replay.cartpole import LENGTH, play, schema, spaces
from tests.replay.redis.redis_servers import RedisServer

BLOCKS = "gym:tests.contracts.test_environment:NexusBlocks-v0"  # pictures, nested vectors, a class and two numbers
CARTPOLE = "gym:CartPole-v1"
REACH = "gym:actors.envs.point_reach:PointReach-v0"
CLIP, VIEW = Clip(frames=3, stride=2), View(size=16)


def nexus(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["replay", *map(str, arguments)])
    assert ended.value.code == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder; its replay is in its last checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    small = ("--environment.image-size", "48", "48", "--replay.capacity", "5000")
    options = ("--mode", "inline", "--frames", "300", "--learner.train-ratio", "0.2", *small)
    done = run(folder, command(REACH, Path("run"), *options))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def forms(trained: Path) -> Iterator[dict[str, str]]:
    """The same steps as a run, files, a Minari dataset, a disk replay, and on two Redis servers."""
    folder = trained.parent
    nexus("export", trained, "--out", folder / "episodes")
    nexus("export", trained, "--out", folder / "reach-v0", "--format", "minari")
    nexus("import", folder / "episodes", "--into", folder / "disk", "--like", trained)
    with RedisServer() as one, RedisServer() as two:
        servers = f"{one.url_unix},{two.url_unix}"
        nexus("import", folder / "episodes", "--into", servers, "--like", trained)
        yield {
            "run": str(trained), "checkpoint": str(max((trained / "checkpoints").glob("[0-9]*"))),
            "episodes": str(folder / "episodes"), "minari": str(folder / "reach-v0"), "disk": str(folder / "disk"),
            "servers": servers,
        }  # fmt: skip


def moves(data: Dataset) -> None:
    """The clips obey the dynamics of point reach: actions of two steps lead from one state to the next."""
    assert not data.live or len(data) > 150  # steps at which a clip may start
    batches = Batches(data, size=8, seed=0, threads=2)
    for number, batch in enumerate(islice(batches.after(), 3)):
        assert {key: value.shape[1:] for key, value in batch.items()} == {
            "frames": (3, 16, 16, 3), "actions": (2, 4), "states": (3, 2), "rewards": (2,),
        }  # fmt: skip
        steps = batch["actions"].reshape(8, 2, 2, 2)
        steps = steps if np.abs(steps).max() <= 0.1 + 1e-6 else 0.1 * steps.clip(-1, 1)  # Minari has the environment's
        reached = batch["states"][:, :-1]
        for step in (0, 1):
            reached = np.clip(reached + steps[:, :, step], 0, 1)
        np.testing.assert_allclose(reached, batch["states"][:, 1:], atol=1e-5)
        again = batches.batch(number)
        assert all(np.array_equal(batch[key], again[key]) for key in batch)


@pytest.mark.parametrize("form", ["run", "checkpoint", "episodes", "minari", "disk", "servers"])
def test_one_runs_steps_in_every_form(forms: dict[str, str], form: str) -> None:
    with closing(open_dataset(forms[form], CLIP, VIEW)) as data:
        moves(data)
        assert "frames from 'image'" in data.describe() and (form != "servers" or data.describe().count("unix://") == 2)
    with closing(open_dataset(forms[form], CLIP, VIEW, Keys(conditions=False))) as data:
        assert data.example(0, np.random.default_rng(0)).keys() == {"frames", "rewards"}  # for models of video alone
    with closing(open_dataset(forms[form], Clip(), VIEW, Keys(frames="goal"))) as data:
        assert data.example(0, np.random.default_rng(0))["frames"].shape == (1, 16, 16, 3)
    if form not in ("episodes", "minari"):
        with pytest.raises(ValueError, match=r"No clip of 10 frames.*cross the end of an episode"):
            open_dataset(forms[form], Clip(frames=10), VIEW)


def test_a_task_says_what_is_an_action(tmp_path: Path) -> None:
    for name, task in (("blocks", BLOCKS), ("cartpole", CARTPOLE)):
        with closing(DiskStore(tmp_path / name, schema(task), length=LENGTH, capacity=900, chunk_length=16)) as disk:
            play(disk, steps=60, task=task)
    with closing(open_dataset(str(tmp_path / "blocks"), CLIP, VIEW, task=BLOCKS)) as data:
        assert isinstance(data, ReplayClips)
        observation, action = spaces(BLOCKS)
        assert data.keys.actions == tuple(sorted(action)) and set(data.keys.states) < set(observation)
        width = sum(space.width for space in action.values())
        assert data.example(0, np.random.default_rng(0))["actions"].shape == (2, 2 * width)
    with pytest.raises(
        ValueError, match=r"'action' is discrete \(int32\), and how many classes it has is not recorded"
    ):
        open_dataset(str(tmp_path / "cartpole"), CLIP)
    with closing(open_dataset(str(tmp_path / "cartpole"), CLIP, task=CARTPOLE)) as data:
        actions = data.example(0, np.random.default_rng(0))["actions"]
        assert actions.shape == (2, 4) and (actions.reshape(2, 2, 2).sum(-1) == 1).all()


def test_every_kind_of_files_is_recognised(tmp_path: Path) -> None:
    for kind in ("pictures", "videos", "arrays"):
        (tmp_path / kind).mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "pictures" / "a.png")
    film(tmp_path / "videos" / "a.mp4", 5)
    np.savez(tmp_path / "arrays" / "a.npz", frames=np.zeros((5, 4, 4, 3), np.uint8))
    (tmp_path / "arrays" / "index.json").write_text("another program's")
    for kind, what in (("pictures", "1 picture in "), ("videos", "1 video in "), ("arrays", "1 .npz file in ")):
        data = open_dataset(str(tmp_path / kind), view=VIEW)
        assert data.describe().startswith(what + str(tmp_path / kind)) and not data.live
        assert data.example(0, np.random.default_rng(0))["frames"].shape == (1, 16, 16, 3)
    assert len(open_dataset(str(tmp_path / "videos" / "a.mp4"), Clip(frames=5))) == 1
    with pytest.raises(ValueError, match=r"holds 1 \.npz files and 1 pictures and 1 videos\. Name one kind"):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize(
    "name", ["digits", "motion", "block_world", "goal_world", "point_reach", "two_room", "fresh_two_room"]
)
def test_generated_datasets_are_named(name: str) -> None:
    data = open_dataset(f"generated:{name}:7", Clip(), VIEW, split="test")
    assert "test, seed 7" in data.describe()
    assert data.example(0, np.random.default_rng(0))["frames"].shape == (1, 16, 16, 3)
    bare = open_dataset(f"generated:{name}:7", Clip(), VIEW, Keys(conditions=False), split="test")
    assert bare.example(0, np.random.default_rng(0)).keys() <= {"frames", "label"}  # no actions, no states


def test_fresh_rooms_differ_by_draw_split_and_seed() -> None:
    def seen(name: str, split: str, draw: int) -> bytes:
        example = open_dataset(name, Clip(frames=4), VIEW, split=split).example(0, np.random.default_rng(draw))
        assert example["frames"].shape == (4, 16, 16, 3) and example["actions"].shape == (3, 2)
        return example["states"].tobytes()

    name = "generated:fresh_two_room"
    assert seen(name, "train", 0) == seen(name, "train", 0)
    others = [seen(name, "train", 1), seen(name, "test", 0), seen(f"{name}:1", "train", 0)]
    assert len({seen(name, "train", 0), *others}) == 4


@pytest.mark.parametrize(
    ("where", "how", "error"),
    [
        ("nowhere", {}, r"no file or folder nowhere\. Name a folder of pictures"),
        ("nowhere", {}, r"generated:digits, generated:fresh_digits, generated:motion, generated:fresh_motion, gen"),
        (".", {"split": "test"}, r"Only generated datasets have a split"),
        ("empty", {}, r"empty holds nothing that can be read\. Name a folder of pictures, of videos"),
        (
            "generated:cats",
            {},
            r"no dataset 'generated:cats'\. Generated are block_world, digits, fresh_digits, fresh_motion, "
            r"fresh_two_room, goal_world, motion, point_reach, two_room",
        ),
        ("generated:digits", {"split": "validation"}, r"splits train and test, got 'validation'"),
        ("generated:point_reach", {"clip": Clip(frames=10)}, r"recordings of 9 frames; clips of 10 frames"),
        ("redis://localhost:1", {}, r"localhost:1"),
        ("redis://localhost:port", {}, r"port"),
    ],
)
def test_what_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, how: dict, error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=error):
        open_dataset(where, **how)
