"""Encoder: dict observations to one token vector per step."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from world_models.chunks import in_chunks
from world_models.dreamer.config import EncoderConfig
from world_models.dreamer.observation_keys import image_size, split_keys
from world_models.layers import MLP, Conv2d, NormSilu, concat_dict, total_width
from world_models.space import Spaces

CHUNK = 64
"""Number of images convolved at a time on a CPU."""


class Stage(nn.Module):
    """Convolution, 2x2 max-pool, norm over channels, SiLU; channels-last throughout."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__()
        self.conv = Conv2d(inputs, outputs, kernel)
        self.norm = NormSilu(outputs)

    def forward(self, x: Float[Tensor, "N I H W"]) -> Float[Tensor, "N O H/2 W/2"]:
        x = nn.functional.max_pool2d(self.conv(x), 2)
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Encoder(nn.Module):
    """Vectors: flattened, symlog, MLP. Images: stride-1 convolutions with max-pooling, flattened in H, W, C order.
    Vector features come first (paper, Methods, and the official program)."""

    def __init__(self, spaces: Spaces, config: EncoderConfig):
        super().__init__()
        self.vectors, self.images = split_keys(spaces)
        self.symlog = config.symlog
        self.width = 0
        if self.vectors:
            self.mlp = MLP(total_width(self.vectors), config.units, config.layers)
            self.width += config.units
        if self.images:
            height, width = image_size(self.images, len(config.mults))
            depths = [sum(space.shape[2] for space in self.images.values()), *(config.depth * m for m in config.mults)]
            self.cnn = nn.Sequential(
                *(Stage(i, o, config.kernel) for i, o in zip(depths[:-1], depths[1:], strict=True))
            )
            self.width += (height * width >> 2 * len(config.mults)) * depths[-1]
        if not self.width:
            raise ValueError("The environment has no observation keys; it needs at least one.")

    def forward(self, obs: dict[str, Tensor]) -> Float[Tensor, "... E"]:
        """Observation keys `[... *shape]` to tokens `[... E]`."""
        parts = []
        if self.vectors:
            parts.append(self.mlp(concat_dict(self.vectors, obs, squash=self.symlog)))
        if self.images:
            pixels = torch.cat([obs[key] for key in self.images], -1)
            lead = pixels.shape[:-3]
            parts.append(in_chunks(self._convolve, CHUNK, pixels.flatten(0, -4)).unflatten(0, lead))
        return torch.cat(parts, -1)

    def _convolve(self, pixels: UInt8[Tensor, "N H W C"]) -> Float[Tensor, "N E"]:
        maps = self.cnn(pixels.permute(0, 3, 1, 2).float() / 255 - 0.5)
        return maps.permute(0, 2, 3, 1).flatten(1)
