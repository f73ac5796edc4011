"""Pixels as models take them. Legend: B batch, T frames, N pictures, S pixels a side."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalise(frames: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> Tensor:
    """Frames uint8 `[B T H W C]` as float32 `[B C T H W]`, each channel (x / 255 - mean) / std, on the same device."""
    center, half = (torch.tensor(values, device=frames.device) for values in (mean, std))
    scale, shift = 1 / (255 * half), -center / half
    return (frames * scale + shift).movedim(-1, 1).contiguous()


def prepared(frames: UInt8[Tensor, "B T S S C"], channels: int) -> Float[Tensor, "B channels T S S"]:
    """Normalised frames with as many channels as a model takes."""
    return normalise(with_channels(frames, channels, "encoder.channels"))


def with_channels(frames: UInt8[Tensor, "B T S S C"], channels: int, option: str) -> UInt8[Tensor, "B T S S channels"]:
    """Frames as they are; grey ones for a model of colour get equal channels. ValueError names the `option` to set."""
    found = frames.shape[-1]
    if found == channels:
        return frames
    if found != 1:
        raise ValueError(f"Frames have {found} channels, the model takes {channels}; set {option} to {found}.")
    return frames.expand(*frames.shape[:-1], channels)


def resized(pictures: UInt8[Tensor, "N H W C"], size: int) -> UInt8[Tensor, "N size size C"]:
    """Bilinear, with antialiasing."""
    if pictures.shape[1:3] == (size, size):
        return pictures
    pixels = pictures.movedim(-1, 1)
    return F.interpolate(pixels, (size, size), mode="bilinear", antialias=True).movedim(1, -1).contiguous()


def centred_square(pictures: UInt8[Tensor, "N H W C"]) -> UInt8[Tensor, "N A A C"]:
    """The largest square in the middle."""
    height, width = pictures.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pictures[:, top : top + side, left : left + side]


def observed_picture(
    observation: Mapping[str, Any] | Any, key: str, size: int, device: torch.device
) -> UInt8[Tensor, "N S S C"]:
    """What a planner sees: the centred square of pictures uint8 `[N height width C]`, or of those in the key `key` of a
    dict. ValueError: there is no picture."""
    if isinstance(observation, Mapping):
        if key not in observation:
            raise ValueError(f"The observation has {', '.join(observation)}, but no picture in {key!r}.")
        observation = observation[key]
    return resized(centred_square(torch.as_tensor(observation, device=device)), size)
