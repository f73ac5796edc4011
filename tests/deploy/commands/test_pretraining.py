"""`nexus pretrain` in the wrong way: each mistake is named before a run begins."""

from pathlib import Path

import numpy as np
import pytest

from deploy.commands.pretrain import run
from learner.checkpoint import Checkpoints
from world_models.jepa import presets
from world_models.jepa.vjepa2 import VJEPA2
from world_models.model_document import ModelDocument
from world_models.parameters import as_arrays

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny V-JEPA 2."""
    model = VJEPA2(presets.vjepa2())
    document = ModelDocument(config=model.config).to_json()
    return Checkpoints(tmp_path_factory.mktemp("video")).save(
        "model", {"model": as_arrays(model)}, {"config": document}
    )


def recordings(folder: Path, **arrays: np.ndarray) -> Path:
    folder.mkdir()
    np.savez(folder / "0.npz", allow_pickle=False, **arrays)
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.encoder.patch", "8"], "--model.encoder.patch 8: the encoder of .* has 4, and is used as it is"),
        (["--model.action", "3"], "--model.action 3: those of --data .* have 2 numbers; leave it out"),
        (["--model.state", "1", "--model.state-update", "hold"], "--model.state 1: .* have 2 numbers"),
        (["--model.rollout", "8"], "rollout=8 must be less than frames=8"),
    ],
)
def test_options_that_do_not_fit_encoder_or_data(options: list[str], message: str, video: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures, moves = rng.integers(0, 255, (20, 32, 32, 3), np.uint8), rng.random((20, 2), np.float32)
    data = recordings(tmp_path / "data", image=pictures, action=moves, place=moves)
    logdir = tmp_path / "run"
    with pytest.raises(ValueError, match=message):
        run(["vjepa2-ac", "--data", str(data), "--encoder", str(video), "--logdir", str(logdir), *options])
    assert not logdir.exists()


def test_recordings_without_what_is_needed(video: Path, tmp_path: Path) -> None:
    pictures, vectors = np.zeros((20, 32, 32, 3), np.uint8), np.zeros((20, 3), np.float32)
    data = recordings(tmp_path / "pictures", image=pictures)
    with pytest.raises(ValueError, match=r"has no actions, only frames; .* name them with --data\.actions"):
        run(["vjepa2-ac", "--data", str(data), "--encoder", str(video)])
    data = recordings(tmp_path / "floats", image=pictures.astype(np.float32), place=vectors)
    for method in ("ijepa", "vjepa2"):
        with pytest.raises(ValueError, match=r"has no images \(uint8 .* of a step are image float32 \[32, 32, 3\], pl"):
            run([method, "--data", str(data), "--logdir", str(tmp_path / "run")])


def test_an_encoder_that_is_none(tmp_path: Path) -> None:
    words = ["vjepa2-ac", "--data", "generated:point_reach", "--encoder"]
    (tmp_path / "file").touch()
    (tmp_path / "model.safetensors").touch()
    for path, message in (
        (tmp_path / "absent", "absent is no directory; give a run directory"),
        (tmp_path / "file", "file is a file; give a run directory"),
        (tmp_path, "No config.json under .*; give a run directory"),
    ):
        with pytest.raises(ValueError, match=message):
            run([*words, str(path)])
