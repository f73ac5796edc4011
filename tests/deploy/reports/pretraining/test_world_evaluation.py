"""`nexus eval` of a world: the table, the files, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deploy.cli import main
from deploy.reports.pretraining.world_pictures import panels
from deploy.wiring.config_file import save_config
from deploy.wiring.pretraining import DataConfig, GenieDynamicsRun
from learner.checkpoint import Checkpoints
from tests.learner.video_quality.small_world import FRAMES, batches, config, world
from world_models.model_document import ModelDocument
from world_models.parameters import as_arrays


def saved(run: Path) -> Path:
    """A run with one checkpoint of an untrained world."""
    data = DataConfig(where="generated:block_world", scale=(1.0, 1.0), aspect=(1.0, 1.0))
    save_config(GenieDynamicsRun(model=config(), data=data, logdir=str(run)), run)
    document = ModelDocument(config=config()).to_json()
    Checkpoints.of(run, 1).save(0, {"model": as_arrays(world())}, {"config": document})
    return run


def nexus(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def test_a_world_is_measured_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = saved(tmp_path / "world" / "dynamics")
    assert nexus("eval", tmp_path / "world", "--clips", "8", "--seed", "3") == 0
    said = capsys.readouterr().out
    assert "8 clips of generated:block_world (test, seed 0)" in said and "delta PSNR, dB" in said
    found = json.loads((run / "evaluation.json").read_text())
    assert found["clips"] == 8 and found["seed"] == 3 and found["held_out"] and found["encoder"] is None
    assert f"{found['psnr_4']:.2f}" in said and found["checkpoint"].endswith("checkpoints/0000000000")
    with Image.open(run / "evaluation.png") as picture:
        assert picture.width == 110 + FRAMES * 68
    assert (run / "evaluation.mp4").stat().st_size > 1000
    assert nexus("eval", run, "--clips", "35", "--data", "generated:block_world:1", "--out", tmp_path / "other") == 0
    other = json.loads((tmp_path / "other" / "evaluation.json").read_text())
    assert other["clips"] == 35 and "seed 1" in other["data"] and other["psnr_4"] != found["psnr_4"]


def test_options_of_policies_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "run")
    for words in (("--deterministic",), ("--episodes", "5")):
        assert nexus("eval", tmp_path / "run", *words) == 2
        assert "holds a world, not a policy" in capsys.readouterr().err


def test_panels_show_the_clips_and_what_follows_their_first_frames() -> None:
    shown = panels(world(), batches()[0], torch.Generator().manual_seed(0))
    assert list(shown) == ["true", "generated", "random actions", "first frame", "tokenizer"]
    frames = batches()[0]["frames"][:4].numpy().repeat(2, 2).repeat(2, 3)  # enlarged to 64 pixels
    np.testing.assert_array_equal(shown["true"], frames)
    for name in ("generated", "random actions", "first frame"):
        np.testing.assert_array_equal(shown[name][:, 0], frames[:, 0])
    assert (shown["first frame"] == frames[:, :1]).all()
