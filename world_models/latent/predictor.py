"""The next latent from those so far and the actions taken. Legend: B batch, T frames, D latent, A action, W width."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from world_models.latent.config import LatentWorldConfig
from world_models.vit import INIT_STD, NORM_EPS, Block, initialize

CHANGE = 0.1
"""About what a step changes of a number of the latent, whose deviation is 1. With outputs of this size the predictor
learns what depends on fine differences, a wall that stops a move for example, in a fraction of the updates."""


class LatentPredictor(nn.Module):
    """Causal transformer with a token for each frame, to which its action is added. It predicts the change of the
    latent, in units of `CHANGE`."""

    def __init__(self, config: LatentWorldConfig):
        super().__init__()
        c = config.predictor
        self.latent_embed = nn.Linear(config.latent, c.width)
        self.action_embed = nn.Sequential(nn.Linear(config.action, c.width), nn.GELU(), nn.Linear(c.width, c.width))
        self.positions = nn.Parameter(torch.empty(config.history, c.width))
        self.blocks = nn.ModuleList(Block(c.width, c.heads, c.mlp_ratio) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.width, eps=NORM_EPS)
        self.project = nn.Linear(c.width, config.latent)
        initialize(self.blocks, self.blocks)
        nn.init.trunc_normal_(self.positions, std=INIT_STD)
        initialize(self.project)

    def forward(self, latents: Float[Tensor, "B T D"], actions: Float[Tensor, "B T A"]) -> Float[Tensor, "B T D"]:
        """The latent that follows each of at most `history` frames and its action."""
        frames = latents.shape[1]
        x = self.latent_embed(latents) + self.action_embed(actions) + self.positions[:frames]
        for block in self.blocks:
            x, _ = block(x, groups=frames)
        return latents + CHANGE * self.project(self.norm(x)).float()
