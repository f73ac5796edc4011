"""Small encoders and labelled data whose answers are known."""

from pathlib import Path

import numpy as np
import torch

from learner.checkpoint import Checkpoints
from learner.datasets.dataset import Clip
from learner.datasets.generated.held import Held
from learner.probes.encoders import Encoder
from world_models.jepa.config import EncoderConfig, IJEPAConfig, PredictorConfig, VJEPA2Config
from world_models.jepa.ijepa import IJEPA
from world_models.jepa.vjepa2 import VJEPA2
from world_models.model_document import ModelDocument
from world_models.parameters import as_arrays

SIZE = 8


def model(clips: bool = False) -> IJEPA | VJEPA2:
    """Of pictures or of clips of 4 frames, 8x8 pixels, tokens of 16 features."""
    encoder = EncoderConfig(size=SIZE, patch=4, tubelet=2 * clips, width=16, depth=1, heads=2)
    predictor = PredictorConfig(width=16, depth=1, heads=2, mask_tokens=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if clips:
            return VJEPA2(VJEPA2Config(encoder=encoder, predictor=predictor, frames=4)).eval()
        return IJEPA(IJEPAConfig(encoder=encoder, predictor=predictor)).eval()


def encoder(clips: bool = False) -> Encoder:
    made = model(clips)
    return Encoder(made.config, made, "small").frozen()


def saved(folder: Path, clips: bool = False) -> Path:
    """A run's checkpoint."""
    made = model(clips)
    document = ModelDocument(config=made.config).to_json()
    Checkpoints.of(folder).save(3, {"model": as_arrays(made)}, {"config": document})
    return folder


def pictures(count: int = 60, seed: int = 0, frames: int = 1, labelled: bool = True) -> Held:
    """Noise; pictures of class 1 are brighter."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    shown = rng.integers(60, size=(count, frames, SIZE, SIZE, 1), dtype=np.uint8)
    for picture, label in zip(shown, labels, strict=True):
        picture += np.uint8(120 * label)
    return Held(name="noise", frames=shown, labels=labels if labelled else None)


def clips(count: int = 64, seed: int = 0, labelled: bool = True) -> Held:
    """A bright column moves to the right or to the left around the clip, which no single frame shows."""
    rng = np.random.default_rng(seed)
    labels, starts = np.arange(count) % 2, rng.integers(SIZE, size=count)
    shown = np.zeros((count, 4, SIZE, SIZE, 1), np.uint8)
    for clip, label, start in zip(shown, labels, starts, strict=True):
        for t in range(4):
            clip[t, :, (start + (2 * label - 1) * t) % SIZE] = 250
    return Held(name="columns", frames=shown, labels=labels if labelled else None, clip=Clip(frames=4))
