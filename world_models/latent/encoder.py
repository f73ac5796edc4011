"""One latent of each frame. Legend: N frames, P patches, W width, D width of the latent."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from world_models.latent.config import EncoderConfig
from world_models.vit import INIT_STD, NORM_EPS, Block, PatchEmbed, initialize, run_blocks, sincos_2d


class FrameEncoder(nn.Module):
    """Vision transformer with fixed positions, whose class token is projected to the latent.

    The projection has batch normalisation inside, as in LeWorldModel: the last norm of a transformer keeps the length
    of its outputs, which a Gaussian must be free of.
    """

    positions: Tensor

    def __init__(self, config: EncoderConfig, latent: int):
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config.channels, config.width, config.patch)
        self.register_buffer("positions", sincos_2d(config.width, config.grid, config.grid)[None], persistent=False)
        self.class_token = nn.Parameter(torch.empty(1, 1, config.width))
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        initialize(self, self.blocks)
        nn.init.trunc_normal_(self.class_token, std=INIT_STD)
        self.projection = nn.Sequential(
            nn.Linear(config.width, config.hidden), nn.BatchNorm1d(config.hidden), nn.GELU(),
            nn.Linear(config.hidden, latent),
        )  # fmt: skip

    def forward(self, frames: Float[Tensor, "N channels size size"]) -> Float[Tensor, "N D"]:
        """ValueError: the frames have another size."""
        if self.patch_embed.grid(frames) != (self.config.grid, self.config.grid):
            height, width = frames.shape[-2:]
            size = self.config.size
            raise ValueError(f"Frames are {height}x{width}, this latent world model takes {size}x{size}; resize them.")
        patches = self.patch_embed(frames) + self.positions
        tokens = torch.cat([self.class_token.expand(len(frames), -1, -1), patches], 1)
        return self.projection(self.norm(run_blocks(self.blocks, tokens)[:, 0])).float()
