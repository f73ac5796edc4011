"""Frames as patches and back.

Legend: B batch, T frames, S pixels a side, C channels, N patches of a frame, p pixels of a patch's side.
"""

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor


def as_unit(frames: UInt8[Tensor, "B T S S C"]) -> Float[Tensor, "B T S S C"]:
    """Bytes as floats from 0 to 1."""
    return frames.float() / 255


def as_bytes(frames: Float[Tensor, "B T S S C"]) -> UInt8[Tensor, "B T S S C"]:
    """The nearest bytes."""
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8)


def patches(frames: Float[Tensor, "B T S S C"], p: int) -> Float[Tensor, "B T N ppC"]:
    """Patches, row by row."""
    return rearrange(frames, "b t (h p) (w q) c -> b t (h w) (p q c)", p=p, q=p)


def unpatched(x: Float[Tensor, "B T N ppC"], p: int, grid: int) -> Float[Tensor, "B T S S C"]:
    """The inverse of `patches`."""
    return rearrange(x, "b t (h w) (p q c) -> b t (h p) (w q) c", h=grid, p=p, q=p)


def centred(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Pixels from 0 to 1 as networks take them, of mean about 0 and deviation about 1."""
    return (x - 0.5) * 4


def require_frames(frames: Tensor, size: int, channels: int) -> None:
    """ValueError: these are no clips of bytes of this size."""
    if frames.ndim != 5 or frames.shape[2:] != (size, size, channels) or frames.dtype != torch.uint8:
        raise ValueError(
            f"Frames are {frames.dtype} {list(frames.shape)}; this model takes uint8 [B T {size} {size} {channels}]. "
            "Resize them, or train a model for frames of this size."
        )
