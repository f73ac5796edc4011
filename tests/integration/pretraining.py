"""Starting `nexus pretrain` with networks and data small enough for tests."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.integration.runs import NEXUS

ENCODER = [
    "--model.encoder.size", "16", "--model.encoder.width", "16", "--model.encoder.depth", "1",
    "--model.encoder.heads", "2",
]  # fmt: skip
PREDICTOR = ["--model.predictor.width", "16", "--model.predictor.depth", "1", "--model.predictor.heads", "2"]
TRAINING = ["--training.batch-size", "4", "--training.device", "cpu", "--training.threads", "1", "--log-every", "2"]
PROBE = ["--probe.every", "6", "--probe.examples", "8", "--probe.batch-size", "4"]


def pretrain(model: str, data: Path | str, logdir: Path, *options: str) -> list[str]:
    """The command, for clips of 4 frames."""
    encoder = ENCODER if model != "vjepa2-ac" else []
    frames = [] if model == "ijepa" else ["--model.frames", "4"]
    return [
        *NEXUS, "pretrain", model, "--data", str(data), "--logdir", str(logdir), *encoder, *PREDICTOR, *TRAINING,
        *PROBE, *frames, *options,
    ]  # fmt: skip


def write_pictures(folder: Path, number: int = 40) -> None:
    """Pictures of two classes."""
    rng = np.random.default_rng(0)
    for i in range(number):
        where = folder / ("bright" if i % 2 else "dark")
        where.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(128 * (i % 2), 128 + 127 * (i % 2), (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(where / f"{i:03d}.png")


def write_clips(folder: Path, number: int = 24) -> None:
    """Recordings of a square that actions move, as .npz files."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(number):
        actions = rng.uniform(-1, 1, (8, 2)).astype(np.float32)
        places = np.clip(np.cumsum(actions, 0) + 4, 0, 12)
        frames = np.zeros((8, 16, 16, 3), np.uint8)
        for frame, (x, y) in zip(frames, places.astype(int), strict=True):
            frame[y : y + 4, x : x + 4] = 255
        np.savez(folder / f"{i:03d}.npz", image=frames, action=actions, position=places.astype(np.float32))
