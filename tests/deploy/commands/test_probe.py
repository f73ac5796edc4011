"""`nexus probe` on folders of pictures: scores, files, saved heads, and what it refuses."""

import json
from pathlib import Path

import pytest

from deploy.commands.pretraining.probe import run
from deploy.reports.pretraining.probe_picture import draw_scores
from tests.actors.small_world import saved_genie
from tests.integration.pretraining import write_pictures
from tests.learner.probes import small
from tests.world_models.latent import small as small_latent


def test_an_encoder_is_probed_on_a_folder_and_its_head_on_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data, out = small.saved(tmp_path / "run"), tmp_path / "pictures", tmp_path / "out"
    write_pictures(data, 60)
    assert run([str(model), "--data", str(data), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    found = json.loads((out / "probe.json").read_text())
    scores = {one["probe"]: one for one in found["scores"]}
    assert list(scores) == ["linear", "knn"] and scores["linear"]["accuracy"] == 1
    assert scores["linear"]["examples"] == 12 and scores["linear"]["interval95"] == pytest.approx([0.757, 1], abs=1e-3)
    assert "linear      encoder             1.000  [0.75" in printed
    assert (out / "probe.png").stat().st_size > 5000
    assert "Read: learned from 48 examples, scored on 12 examples." in printed
    assert scores["knn"]["training_examples"] == 48 and scores["knn"]["unreadable"] == 0

    write_pictures(tmp_path / "others", 20)
    arguments = [str(model / "checkpoints" / "0000000003"), "--data", str(tmp_path / "others"), "--json"]
    assert run([*arguments, "--head", str(out / "linear")]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["scores"][0]["examples"] == 20 and again["scores"][0]["accuracy"] == 1
    assert again["head"].endswith("linear")

    before = (out / "probe.json").read_bytes()
    assert run([*arguments, "--head", str(out / "linear"), "--out", str(out)]) == 0
    assert (out / "probe.json").read_bytes() == before
    assert json.loads((out / "scores.json").read_text())["scores"][0]["training_examples"] is None
    (tmp_path / "others" / "dark").rename(tmp_path / "others" / "light")
    with pytest.raises(ValueError, match="has the classes bright, light; the head was trained on bright, dark. Give"):
        run([*arguments, "--head", str(out / "linear")])


def test_latent_worlds_are_probed_on_a_test_set_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, number in (("train", 24), ("test", 8)):
        for i in range(number):  # each class has videos, which are folders of frames
            write_pictures(tmp_path / "all", 40)
            where = tmp_path / split / ("bright" if i % 2 else "dark") / f"{i:02d}"
            where.mkdir(parents=True)
            for frame, file in enumerate(sorted((tmp_path / "all" / where.parent.name).iterdir())[:4]):
                (where / f"{frame}.png").write_bytes(file.read_bytes())
    model = small_latent.saved(tmp_path / "run")
    data, test = (str(tmp_path / split) for split in ("train", "test"))
    assert run([str(model), "--data", data, "--test", test, "--kind", "linear", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert [(one["probe"], one["examples"]) for one in scores] == [("linear", 8)]
    assert run([str(model), "--data", data, "--test", test, "--kind", "knn", "--baselines"]) == 0
    printed = capsys.readouterr().out
    assert "The supervised row is left out: a latent_world model cannot be trained on labels." in printed
    with pytest.raises(ValueError, match="can be trained on labels: leave --finetune out"):
        run([str(model), "--data", "nowhere", "--finetune"])


def test_what_does_not_fit_is_one_error(tmp_path: Path) -> None:
    model, data = small.saved(tmp_path / "run"), tmp_path / "pictures"
    with pytest.raises(ValueError, match="--head scores a saved head; --baselines and --finetune train new ones"):
        run([str(model), "--data", "x", "--head", "y", "--baselines"])
    with pytest.raises(ValueError, match="There is no file or folder"):
        run([str(model), "--data", str(data)])
    with pytest.raises(ValueError, match="holds no head of a probe"):
        run([str(model), "--data", str(data), "--head", str(tmp_path)])
    with pytest.raises(ValueError, match="Probes are of the kinds|not one of linear, attentive, knn"):
        run([str(model), "--data", str(data), "--kind", "magic"])
    write_pictures(data, 4)
    (tmp_path / "flat").mkdir()
    for file in data.rglob("*.png"):
        (tmp_path / "flat" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match="has no labels. Sort pictures or videos into a subfolder for each class"):
        run([str(model), "--data", str(tmp_path / "flat")])
    write_pictures(tmp_path / "other", 4)
    (tmp_path / "other" / "dark").rename(tmp_path / "other" / "light")
    with pytest.raises(ValueError, match="has the classes bright, dark, .* has bright, light; give both a subfolder"):
        run([str(model), "--data", str(data), "--finetune", "--tuning-data", str(tmp_path / "other")])
    for words in (["--penalties", "nan"], ["--memory", "-1"]):
        with pytest.raises(ValueError, match="finite"):
            run([str(model), "--data", str(data), *words])
    with pytest.raises(ValueError, match="has the classes bright, dark, .* has bright, light; give both a subfolder"):
        run([str(model), "--data", str(data), "--test", str(tmp_path / "other")])


def test_models_without_an_encoder_are_named(tmp_path: Path) -> None:
    model = saved_genie(tmp_path / "genie")
    with pytest.raises(ValueError, match="is a genie model, which has no encoder to probe; give a run or checkpoint"):
        run([str(model), "--data", "generated:digits"])


def test_scores_at_either_end_are_drawn(tmp_path: Path) -> None:
    ends = ((0.0, (1e-17, 0.2)), (1.0, (0.8, 1 - 2e-16)))  # as rounding may leave them
    scores = [
        {"probe": "linear", "features": "frozen", "accuracy": rate, "interval95": interval} for rate, interval in ends
    ]
    assert draw_scores(scores, tmp_path / "probe.png").stat().st_size > 1000
