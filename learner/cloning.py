"""Behaviour cloning from pixels: which action an expert takes at a frame, by cross-entropy.

Legend: N frames, S pixels a side, C channels, A actions.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from learner.adamw import AdamW
from learner.schedules import Schedule


class CloningNetwork(nn.Module):
    """Patches, residual convolutions over them, and a readout where attention finds the agent."""

    def __init__(self, actions: int, channels: int = 3, patch: int = 4, width: int = 32, depth: int = 8):
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.attention = nn.Conv2d(width, 1, 1)
        self.logits = nn.Linear(width, actions)

    def forward(self, frames: UInt8[Tensor, "N S S C"]) -> Float[Tensor, "N A"]:
        """Logits of the expert's actions."""
        first = self.patches((frames.float() / 255 - 0.5).permute(0, 3, 1, 2) * 4)
        x = first
        for block in self.blocks:
            x = x + block(F.silu(x))
        x = F.silu(x).flatten(2)
        weights = self.attention(F.silu(first)).flatten(2).softmax(-1)
        return self.logits((x * weights).sum(-1))


def clone(
    frames: np.ndarray, actions: np.ndarray, count: int, *, updates: int, batch_size: int = 64, seed: int = 0
) -> CloningNetwork:
    """A network that imitates `actions` int `[N]`, of `count` kinds, at `frames` uint8 `[N S S C]`."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = CloningNetwork(count, channels=frames.shape[-1])
    optimizer = AdamW(network.named_parameters(), betas=(0.9, 0.99))
    schedule = Schedule(kind="cosine", start=1e-4, top=3e-3, end=1e-5, warmup=updates // 20)
    for update in range(1, updates + 1):
        rows = rng.integers(len(frames), size=batch_size)
        loss = F.cross_entropy(network(torch.as_tensor(frames[rows])), torch.as_tensor(actions[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(schedule.at(update, updates), 1e-3)
    return network.eval()
