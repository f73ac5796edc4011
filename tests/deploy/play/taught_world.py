"""A world that is learned in seconds: a bright square on a grid, which actions move right or down, or leave."""

from dataclasses import replace

import numpy as np
import torch

from tests.deploy.play.written_worlds import SMALLEST
from world_models.genie.config import DynamicsConfig, QuantizerConfig, TransformerConfig
from world_models.genie.genie import Genie

MOVES = ((0, 0), (0, 1), (1, 0))  # cells down, right; round to the other side at the edge
_CELLS, _PIXELS = 4, 4
_BACK, _SQUARE = (30, 40, 60), (250, 220, 60)
_NETWORK = TransformerConfig(width=48, depth=2, heads=4)
CONFIG = replace(
    SMALLEST, real_actions=len(MOVES), dynamics=DynamicsConfig(transformer=_NETWORK, steps=4),
    tokenizer=replace(SMALLEST.tokenizer, quantizer=QuantizerConfig(kind="fsq", levels=(3, 3))),
)  # fmt: skip


def recordings(count: int, frames: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 `[N T 16 16 3]` and one-hot actions float32 `[N T-1 3]`."""
    actions = rng.integers(len(MOVES), size=(count, frames - 1))
    steps = np.concatenate([rng.integers(_CELLS, size=(count, 1, 2)), np.array(MOVES)[actions]], 1)
    places = steps.cumsum(1) % _CELLS  # [N T 2]
    cells = np.full((count, frames, _CELLS, _CELLS, 3), _BACK, np.uint8)
    row, column = np.ogrid[:count, :frames]
    cells[row, column, places[..., 0], places[..., 1]] = _SQUARE
    return cells.repeat(_PIXELS, 2).repeat(_PIXELS, 3), np.eye(len(MOVES), dtype=np.float32)[actions]


def taught(updates: tuple[int, int] = (100, 300), clips: int = 16) -> Genie:
    """Trained: the tokenizer first, then the dynamics."""
    torch.manual_seed(0)
    rng, model = np.random.default_rng(0), Genie(CONFIG)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        frames, actions = recordings(clips, CONFIG.frames, rng)
        return torch.from_numpy(frames), torch.from_numpy(actions)

    model.tokenizer.train().requires_grad_(True)
    optimizer = torch.optim.Adam(model.tokenizer.parameters(), 3e-3)
    for _ in range(updates[0]):
        losses = model.tokenizer.losses(batch()[0])
        optimizer.zero_grad()
        sum(loss.mean() for loss in losses.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    model.tokenizer.requires_grad_(False)
    model.train()
    optimizer = torch.optim.Adam(model.dynamics.parameters(), 3e-3)
    for _ in range(updates[1]):
        frames, actions = batch()
        masked = torch.rand(clips, CONFIG.frames, CONFIG.tokenizer.grid**2) < 0.5 + 0.5 * torch.rand(clips, 1, 1)
        masked[:, 0] = False
        optimizer.zero_grad()
        model.losses(frames, masked, actions)["cross_entropy"].mean().backward()
        optimizer.step()
    return model.eval()
