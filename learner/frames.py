"""Pixels as models take them."""

from collections.abc import Sequence

import torch
from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalise(frames: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> Tensor:
    """Frames uint8 `[B T H W C]` as float32 `[B C T H W]`, each channel (x / 255 - mean) / std, on the same device."""
    center, half = (torch.tensor(values, device=frames.device) for values in (mean, std))
    scale, shift = 1 / (255 * half), -center / half
    return (frames * scale + shift).movedim(-1, 1).contiguous()
