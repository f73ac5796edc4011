"""The encoder: one token vector per observation.

Legend: N rows, E tokens; images `[N H W C]`.
"""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from world_models.chunks import in_chunks
from world_models.dreamer.encoder import Encoder, Stage
from world_models.dreamer.packed.dense import PackedMLP, norm_silu_
from world_models.dreamer.packed.vector import join

CHUNK = 16
"""Number of images convolved at a time: the first feature maps of more do not stay in a core's cache."""


class PackedStage:
    """A copy of a `Stage` that convolves in `dtype`; its input is multiplied by `scale` first."""

    def __init__(self, stage: Stage, dtype: torch.dtype, scale: float = 1.0):
        weight = (stage.conv.weight * scale).to(dtype)
        self.weight, self.bias = weight.contiguous(memory_format=torch.channels_last), stage.conv.bias.to(dtype)
        self.gain, self.padding = stage.norm.weight, weight.shape[-1] // 2

    def __call__(self, x: Float[Tensor, "N I H W"]) -> Float[Tensor, "N O H/2 W/2"]:
        x = F.max_pool2d(F.conv2d(x.to(self.weight.dtype), self.weight, self.bias, padding=self.padding), 2)
        return norm_silu_(x.permute(0, 2, 3, 1).float(), self.gain).permute(0, 3, 1, 2)


class PackedEncoder:
    """A copy of an `Encoder`, with convolutions in `dtype`."""

    def __init__(self, encoder: Encoder, dtype: torch.dtype):
        self.vectors, self.images, self.symlog = encoder.vectors, encoder.images, encoder.symlog
        if self.vectors:
            self.mlp = PackedMLP(encoder.mlp)
        if self.images:
            stages = [cast(Stage, stage) for stage in encoder.cnn]
            self.stages = [PackedStage(stage, dtype, 1.0 if i else 1 / 255) for i, stage in enumerate(stages)]

    def __call__(self, obs: dict[str, Tensor]) -> Float[Tensor, "N E"]:
        parts = []
        if self.vectors:
            parts.append(self.mlp(join(self.vectors, obs, squash=self.symlog)))
        if self.images:
            pixels = [obs[key] for key in self.images]
            parts.append(in_chunks(self._convolve, CHUNK, pixels[0] if len(pixels) == 1 else torch.cat(pixels, -1)))
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def _convolve(self, pixels: UInt8[Tensor, "N H W C"]) -> Float[Tensor, "N E"]:
        x = (pixels - 127.5).permute(0, 3, 1, 2)  # exact in bfloat16 too
        for stage in self.stages:
            x = stage(x)
        return x.permute(0, 2, 3, 1).flatten(1)
