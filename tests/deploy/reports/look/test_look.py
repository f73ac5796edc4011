"""`nexus look`: pictures and numbers of each family, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deploy.commands.pretraining.look import run
from deploy.reports.look.data import Examples, Place, is_other, learned_from, replay_of, windows
from deploy.reports.look.pictures import heat
from deploy.reports.look.sheet import Row, Scale, errors_over, sheet
from learner.looking.errors import ErrorMaps
from tests.actors.small_world import saved_genie
from tests.integration.pretraining import write_clips, write_pictures
from tests.integration.runs import command
from tests.integration.runs import run as run_command
from tests.learner.probes import small
from tests.world_models.jepa import small_vjepa2_ac
from tests.world_models.latent import small as small_latent
from world_models.checkpoint_files import newest_model
from world_models.dreamer.agent import Dreamer
from world_models.loading import load_world_model

FEW = ["--frames", "120", "--report-every", "0", "--evaluation.episodes", "1", "--learner.train-ratio", "2"]


def look(*arguments: object) -> int:
    return run([*map(str, arguments), "--device", "cpu"])


def found(folder: Path, *pictures: str) -> dict[str, Any]:
    """The numbers, after a check that these pictures are there, and no others, and show something."""
    assert {path.name for path in folder.iterdir()} == {"look.json", *(f"{name}.png" for name in pictures)}
    for name in pictures:
        with Image.open(folder / f"{name}.png") as picture:
            pixels = np.asarray(picture.convert("L"))
        assert min(pixels.shape) > 300 and pixels.std() > 10, name
    document: dict[str, Any] = json.loads((folder / "look.json").read_text())
    return document


def test_an_encoder_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data, out = small.saved(tmp_path / "run"), tmp_path / "pictures", tmp_path / "out"
    write_pictures(data, 24)
    assert look(model, "--data", data, "--out", out, "--count", 3) == 0
    numbers = found(out, "pca", "heat", "neighbours")
    assert (
        numbers["family"] == "ijepa" and numbers["held_out"] is True and "I-JEPA sees" in numbers["left_out"]["rollout"]
    )
    assert numbers["heat"]["examples"] == 24 and 0 < numbers["heat"]["error"] < 5
    assert len(numbers["pca"]["variance_shares"]["layer 1 of 1"]) == 3
    ours = numbers["neighbours"]["features"]
    assert [len(row) for row in ours["similarity"]] == [5, 5, 5] and all(
        row == sorted(row)[::-1] for row in ours["similarity"]
    )
    assert 0 <= ours["same_class"] <= 1 and max(map(max, numbers["neighbours"]["pixels"]["similarity"])) < 0.999
    printed = capsys.readouterr().out
    assert f"heat:       {out / 'heat.png'}  error" in printed and "rollout:    none; I-JEPA sees single" in printed


def test_an_encoder_of_clips_and_only_what_is_asked_for(tmp_path: Path) -> None:
    model, data = small.saved(tmp_path / "run", clips=True), tmp_path / "clips"
    write_clips(data, 8)
    checkpoint = model / "checkpoints" / "0000000003"
    assert look(checkpoint, "--data", data, "--only", "heat", "pca", "--count", 2) == 0
    numbers = found(checkpoint / "look", "pca", "pca_layers", "heat")
    assert "neighbours" not in numbers and "left_out" not in numbers
    assert look(checkpoint, "--data", data, "--only", "neighbours", "--count", 2) == 0
    numbers = found(checkpoint / "look", "pca", "pca_layers", "heat", "neighbours")
    assert {"pca", "heat", "neighbours"} <= numbers.keys(), "what was not asked for is kept"


def test_worlds_of_features_and_of_latents(tmp_path: Path) -> None:
    data = tmp_path / "clips"
    write_clips(data, 8)
    ac = small_vjepa2_ac.saved(tmp_path / "ac", frames=4)
    assert look(ac, "--data", data, "--count", 2) == 0
    numbers = found(ac / "look", "pca", "pca_layers", "heat", "neighbours", "rollout")
    assert len(numbers["rollout"]["errors"]) == 3 and numbers["rollout"]["looked_up_among"] > 0
    latent = small_latent.saved(tmp_path / "latent")
    assert look(latent, "--data", data, "--count", 2) == 0
    numbers = found(latent / "look", "pca", "pca_layers", "neighbours", "rollout")
    assert "one vector a frame" in numbers["left_out"]["heat"]
    assert len(numbers["rollout"]["copied"]) == len(numbers["rollout"]["errors"]) >= 3


def test_a_world_that_draws(tmp_path: Path) -> None:
    data = tmp_path / "clips"
    write_clips(data, 6)
    world = saved_genie(tmp_path / "world")
    assert look(world, "--data", data, "--count", 2) == 0
    numbers = found(world / "look", "pca", "pca_layers", "heat", "neighbours", "rollout")
    assert numbers["rollout"]["unit"] == "absolute error of pixels, 0 to 1" and len(numbers["rollout"]["errors"]) == 3


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of an agent that sees pictures and of one that sees vectors, with their replay."""
    folder = tmp_path_factory.mktemp("agents")
    tasks = {"blocks": "gym:actors.envs.block_world:BlockWorld-v0", "pole": "gym:CartPole-v1"}
    for name, task in tasks.items():
        done = run_command(folder, command(task, folder / name, "--mode", "inline", *FEW))
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_an_agent_that_sees_pictures(agents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert look(agents / "blocks", "--count", 2, "--out", tmp_path / "out") == 0
    numbers = found(tmp_path / "out", "pca", "pca_layers", "heat", "neighbours", "rollout")
    assert len(numbers["rollout"]["errors"]) == 15 and numbers["held_out"] is False
    assert "The model was trained on these: none are held out" in capsys.readouterr().out
    assert look(agents / "blocks", "--data", agents / "blocks", "--only", "rollout", "--out", tmp_path / "own") == 0
    assert found(tmp_path / "own", "rollout")["held_out"] is False, "named or not, it has learned from it"
    with pytest.raises(ValueError, match="The agent knows 'image' of shape .*; .*pole lacks it. Name the replay"):
        look(agents / "blocks", "--data", agents / "pole", "--out", tmp_path / "other")
    with pytest.raises(ValueError, match="holds no stored replay|There is no|no stored replay"):
        look(agents / "blocks", "--data", tmp_path / "nowhere", "--out", tmp_path / "other")


def test_an_agent_that_sees_vectors(agents: Path, tmp_path: Path) -> None:
    assert look(agents / "pole", "--out", tmp_path / "out") == 0
    numbers = found(tmp_path / "out", "rollout")
    assert set(numbers["left_out"]) == {"pca", "heat", "neighbours"}
    assert len(numbers["rollout"]["keys"]["vector"]["errors"]) == 15
    with pytest.raises(ValueError, match="There is no pca of .*: the agent sees no pictures, only vectors"):
        look(agents / "pole", "--only", "pca", "--out", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_steps_are_different_ones_and_apart_from_those_shown(agents: Path) -> None:
    agent = load_world_model(newest_model(agents / "pole")).model
    assert isinstance(agent, Dreamer)
    with replay_of(str(agents / "pole")) as readers:
        stored = [(shard, *one) for shard, reader in enumerate(readers) for one in reader.streams().items()]
        rows, places = windows(readers, agent, 2000, 1, 0, "pole")
        total = sum(len(steps) for _, _, steps in stored)
        assert len(set(places)) == len(places) == len(rows["reward"]) == total, "each once"
        shard, stream, steps = stored[0]
        _, far = windows(readers, agent, 2000, 1, 0, "pole", [Place(shard, stream, steps.stop + 489)])
        assert set(places) - set(far) == {Place(shard, stream, step) for step in steps[-10:]}
        beside = [Place(shard, stream, steps.start) for shard, stream, steps in stored]
        assert windows(readers, agent, 2000, 1, 0, "pole", beside)[1] == places, "no others are stored"


def test_a_run_s_own_data_stay_its_own_under_another_name(agents: Path, tmp_path: Path) -> None:
    run, link = agents / "blocks", tmp_path / "link"
    link.symlink_to(run)
    own = learned_from(run)
    assert not any(is_other(str(where), *own) for where in ("", run, link, run / "replay", f"{run}/../blocks"))
    assert is_other(str(agents / "pole"), *own) and is_other(str(tmp_path), "")
    assert is_other("redis://a:1", *own) and not is_other("redis://b:1,redis://a:1", "redis://a:1")


def test_what_is_shown_is_not_looked_up() -> None:
    clips = small.pictures(6)
    examples = Examples(clips, clips, apart=True, channels=3)
    cpu = torch.device("cpu")
    shown = examples.batch(6, 3, cpu)["frames"][:2]
    found = torch.cat([batch["frames"] for batch in examples.without_shown(2, 3).others(99, 3, cpu)])
    assert len(found) == 4 and not any(torch.equal(one, other) for one in shown for other in found)
    assert examples.without_shown(2, 3).reference is not clips
    with pytest.raises(ValueError, match="are all shown, none are left to look up; give a --count below 6"):
        examples.without_shown(8, 3)
    other = Examples(clips, small.pictures(6), apart=True, channels=3)
    assert other.without_shown(8, 3) is other


def test_without_others_to_look_up_the_rest_is_drawn(tmp_path: Path) -> None:
    model, data, out = small.saved(tmp_path / "run"), tmp_path / "pictures", tmp_path / "out"
    write_pictures(data, 3)
    assert look(model, "--data", data, "--out", out) == 0
    assert "are all shown, none are left" in found(out, "pca", "heat")["left_out"]["neighbours"]
    with pytest.raises(ValueError, match="are all shown, none are left to look up; give a --count below 3"):
        look(model, "--data", data, "--out", tmp_path / "more", "--only", "neighbours")


def test_where_nothing_was_predicted_there_are_no_numbers() -> None:
    nothing = np.full((2, 3, 4, 4), np.nan, np.float32)
    maps = ErrorMaps(error=nothing, trivial=nothing, unit="unit", baseline="the frame before", first=1)
    numbers, figures = heat(np.zeros((2, 4, 8, 8, 3), np.uint8), maps, "title", "what")
    assert numbers["error"] is numbers["trivial"] is numbers["ratio"] is None and list(figures) == ["heat.png"]


def test_what_does_not_fit_is_one_error(tmp_path: Path) -> None:
    model, data = small.saved(tmp_path / "run"), tmp_path / "clips"
    write_clips(data, 4)
    with pytest.raises(ValueError, match="There is no rollout of .*: I-JEPA sees single images"):
        look(model, "--data", data, "--only", "rollout")
    with pytest.raises(ValueError, match="is in no run whose data could be shown; name some with --data"):
        look(model)
    with pytest.raises(ValueError, match="There is no file or folder"):
        look(model, "--data", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="already exists; name a new folder with --out"):
        look(model, "--data", data, "--out", data)
    with pytest.raises(ValueError, match="is no directory; give a run directory"):
        look(tmp_path / "nothing")
    with pytest.raises(ValueError, match="--only.*not one of pca, heat, neighbours, rollout"):
        look(model, "--only", "magic")
    with pytest.raises(ValueError, match="--count 33 is more than 32, as many as a picture can hold"):
        look(model, "--data", data, "--count", 33)
    ac = small_vjepa2_ac.saved(tmp_path / "ac", action=5)
    with pytest.raises(ValueError, match="has actions of 2 numbers, the model takes 5; name data with --data"):
        look(ac, "--data", data)
    with pytest.raises(ValueError, match="Those are the run's own data; name others with --data"):
        look(ac)
    assert not (ac / "look").exists()


def test_a_sheet_has_a_place_for_each_picture() -> None:
    tiles = [np.full((4, 4, 3), value, np.float32) for value in (0.2, 0.9)]
    figure = sheet("title", "note", [Row("a", tiles), Row("b", [None, tiles[0]])], scale=Scale(2.0, "unit", {"m": 1.0}))
    texts = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {"title", "note", "a", "b", "0", "2", "unit", "m 1"} <= texts
    assert len(figure.axes[0].images) == 4, "three pictures and the scale"


def test_errors_lie_over_their_patches() -> None:
    errors = np.array([[0.0, 1.0], [np.nan, 0.5]])
    over = errors_over(np.full((4, 4, 3), 255, np.uint8), errors, top=1.0)
    assert over.shape == (4, 4, 3)
    brightness = over.mean(-1)
    assert brightness[0, 3] > brightness[3, 3] > brightness[0, 0], "the more, the brighter"
    assert np.ptp(over[3, 0]) < 0.05, "grey where nothing is known"
