"""One latent of each frame. Legend: N frames, P patches, W width, D width of the latent."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from world_models.latent.config import EncoderConfig
from world_models.vit import INIT_STD, NORM_EPS, Block, PatchEmbed, initialize, run_blocks, sincos_2d


class FrameEncoder(nn.Module):
    """The features of a frame, projected to the latent.

    The projection has batch normalisation inside, as in LeWorldModel: the last norm of a transformer keeps the length
    of its outputs, which a Gaussian must be free of.
    """

    def __init__(self, config: EncoderConfig, latent: int):
        super().__init__()
        self.config = config
        self.trunk = Transformer(config) if config.kind == "vit" else Convolutions(config)
        self.projection = nn.Sequential(
            nn.Linear(self.trunk.width, config.hidden), nn.BatchNorm1d(config.hidden), nn.GELU(),
            nn.Linear(config.hidden, latent),
        )  # fmt: skip

    def forward(self, frames: Float[Tensor, "N channels size size"]) -> Float[Tensor, "N D"]:
        """ValueError: the frames have another size."""
        size = self.config.size
        if frames.shape[-2:] != (size, size):
            height, width = frames.shape[-2:]
            raise ValueError(f"Frames are {height}x{width}, this latent world model takes {size}x{size}; resize them.")
        return self.projection(self.trunk(frames)).float()


class Transformer(nn.Module):
    """The class token of a vision transformer with fixed positions."""

    positions: Tensor

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.width = config.width
        self.patch_embed = PatchEmbed(config.channels, config.width, config.patch)
        self.register_buffer("positions", sincos_2d(config.width, config.grid, config.grid)[None], persistent=False)
        self.class_token = nn.Parameter(torch.empty(1, 1, config.width))
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        initialize(self, self.blocks)
        nn.init.trunc_normal_(self.class_token, std=INIT_STD)

    def forward(self, frames: Float[Tensor, "N channels size size"]) -> Float[Tensor, "N W"]:
        patches = self.patch_embed(frames) + self.positions
        tokens = torch.cat([self.class_token.expand(len(frames), -1, -1), patches], 1)
        return self.norm(run_blocks(self.blocks, tokens)[:, 0])


class Convolutions(nn.Sequential):
    """Convolutions of stride 2, the features of all places side by side: where a thing is shows at once."""

    def __init__(self, config: EncoderConfig):
        widths = [config.channels, *(config.width * min(2**k, 4) for k in range(config.depth))]
        layers: list[nn.Module] = []
        for k, (inputs, outputs) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            norm = [nn.GroupNorm(1, outputs)] if k else []
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), *norm, nn.GELU()]
        super().__init__(*layers, nn.Flatten())
        self.width = widths[-1] * (config.size >> config.depth) ** 2
