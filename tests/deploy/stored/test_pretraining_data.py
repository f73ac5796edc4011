"""The parts of the examples of a pretraining run, and what the user is told of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.stored.pretraining_data import PretrainingData, first_example
from deploy.wiring.pretraining import DataConfig, IJEPARun, VJEPA2ACRun
from learner.pretrain.config import ProbeConfig


@pytest.mark.parametrize(("count", "share", "held"), [(4, 0.0, 0), (1, 0.1, 0), (4, 0.5, 2)])
def test_only_what_is_kept_from_training_is_called_held_out(
    tmp_path: Path, count: int, share: float, held: int
) -> None:
    for number in range(count):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    config = IJEPARun(data=DataConfig(where=str(tmp_path)), probe=ProbeConfig(held_out=share))
    with PretrainingData(config) as data:
        assert data.unreadable.size == count and len(data.train) == count - held
        assert data.describe().endswith(f"held out: {held}" if held else ", none held out")


def test_what_is_measured_on_may_be_elsewhere(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(tmp_path / name / "0.png")
    config = IJEPARun(data=DataConfig(where=str(tmp_path / "a"), held_out=str(tmp_path / "b")))
    with PretrainingData(config) as data:
        seen = [one.example(0, np.random.default_rng(0))["frames"].max() for one in (data.train, data.held_out)]
        assert seen == [0, 1] and data.reference.example(0, np.random.default_rng(0))["frames"].max() == 0
        assert data.describe() == f"1 picture in {tmp_path / 'a'}; measured on 1 picture in {tmp_path / 'b'}"
    with pytest.raises(ValueError, match="There is no file or folder"):
        PretrainingData(IJEPARun(data=DataConfig(where=str(tmp_path / "a"), held_out="nowhere")))


def test_recordings_without_images_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", vector=np.zeros((20, 3), np.float32), action=np.zeros((20, 2), np.float32))
    data = DataConfig(where=str(tmp_path))
    for use, config in ((PretrainingData, IJEPARun(data=data)), (first_example, VJEPA2ACRun(data=data))):
        with pytest.raises(ValueError, match="has (no|neither) images"):
            use(config)
