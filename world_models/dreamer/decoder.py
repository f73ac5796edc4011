"""Decoder: latent features to a distribution for every observation key.

Legend: D deter, Z flattened latents, N rows.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from world_models.chunks import in_chunks
from world_models.distributions import Categorical, SquaredError
from world_models.dreamer.config import DecoderConfig
from world_models.dreamer.encoder import CHUNK
from world_models.dreamer.observation_keys import image_size, require_blocks, split_keys
from world_models.layers import MLP, BlockLinear, Dense, Linear, NormSilu, UpsampleConv2d, module_key
from world_models.space import Spaces

Reconstruction = Categorical | SquaredError


class _Stage(nn.Module):
    """Upsampling by 2, convolution, norm over channels, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__()
        self.conv = UpsampleConv2d(inputs, outputs, kernel)
        self.norm = NormSilu(outputs)

    def forward(self, x: Float[Tensor, "N I H W"]) -> Float[Tensor, "N O H*2 W*2"]:
        return self.norm(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Decoder(nn.Module):
    """Vectors: MLP and a linear output per key, in symlog space. Images: recurrent state and latents each give a first
    feature map; their sum is normalised and upsampled by convolutions to a sigmoid."""

    def __init__(self, spaces: Spaces, deter: int, stoch: int, config: DecoderConfig):
        super().__init__()
        self.vectors, self.images = split_keys(spaces)
        self.symlog = config.symlog
        if self.vectors:
            self.mlp = MLP(stoch + deter, config.units, config.layers)
            self.vector_out = nn.ModuleDict(
                {module_key(k): Linear(config.units, space.width) for k, space in self.vectors.items()}
            )
        if self.images:
            stages = len(config.mults)
            self.minimum = tuple(n >> stages for n in image_size(self.images, stages))
            depths = [config.depth * m for m in config.mults]
            require_blocks(config)
            channels = sum(space.shape[2] for space in self.images.values())
            first = self.minimum[0] * self.minimum[1] * depths[-1]
            self.blocks = config.blocks
            self.from_deter = BlockLinear(deter, first, config.blocks)
            self.from_stoch = nn.Sequential(Dense(stoch, 2 * config.units), Linear(2 * config.units, first))
            self.first_norm = NormSilu(depths[-1])
            widths = depths[::-1]
            self.cnn = nn.Sequential(
                *(_Stage(i, o, config.kernel) for i, o in zip(widths[:-1], widths[1:], strict=True))
            )
            self.image_out = UpsampleConv2d(depths[0], channels, config.kernel)

    def forward(self, deter: Float[Tensor, "... D"], stoch: Float[Tensor, "... Z"]) -> dict[str, Reconstruction]:
        """One distribution per observation key; image means lie in [0, 1]."""
        out: dict[str, Reconstruction] = {}
        if self.vectors:
            hidden = self.mlp(torch.cat([stoch, deter], -1))  # stoch first, unlike in the heads
            for key, space in self.vectors.items():
                raw = self.vector_out[module_key(key)](hidden)
                if space.discrete:
                    out[key] = Categorical(raw.unflatten(-1, (*space.shape, space.classes)), event=len(space.shape))
                else:
                    shaped = raw.unflatten(-1, space.shape) if space.shape else raw.squeeze(-1)
                    out[key] = SquaredError(shaped, event=len(space.shape), symlog_target=self.symlog)
        if self.images:
            lead = deter.shape[:-1]
            mean = in_chunks(self._image, CHUNK, deter.flatten(0, -2), stoch.flatten(0, -2)).unflatten(0, lead)
            split = mean.split([space.shape[2] for space in self.images.values()], -1)
            for key, part in zip(self.images, split, strict=True):
                out[key] = SquaredError(part, event=3)
        return out

    def _image(self, deter: Float[Tensor, "N D"], stoch: Float[Tensor, "N Z"]) -> Float[Tensor, "N H W C"]:
        height, width = self.minimum
        x = self.from_deter(deter).unflatten(-1, (self.blocks, height, width, -1))
        x = x.permute(0, 2, 3, 1, 4).flatten(3)  # (g h w c) -> h w (g c)
        x = x + self.from_stoch(stoch).unflatten(-1, (height, width, -1))
        x = self.cnn(self.first_norm(x).permute(0, 3, 1, 2))
        return torch.sigmoid(self.image_out(x).float()).permute(0, 2, 3, 1)
