"""Rotary positions over time, row and column, as in V-JEPA 2.

Legend: B batch, H heads, N tokens, D features of a head.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor


class Rotation(NamedTuple):
    """Cosines and sines that `rotate` applies, broadcastable to `[B H N D]`."""

    cos: Tensor
    sin: Tensor


def axis_rotation(positions: Shaped[Tensor, "..."], features: int) -> Rotation:
    """Rotation of `features` features along one axis: angle `position * 10000^(-2i / features)`.

    The angles are tiled, `[a, a]`, while neighbouring features form the pairs, so that the two of a pair turn by
    different angles. The official program does so, and trained weights need it.
    """
    powers = torch.arange(features // 2, dtype=torch.float32, device=positions.device) / (features / 2)
    angles = positions.to(torch.float32)[..., None] * 10000.0**-powers
    return Rotation(*(x.repeat(*[1] * (x.ndim - 1), 2) for x in (angles.cos(), angles.sin())))


def grid_positions(ids: Int[Tensor, "... N"], rows: int, columns: int) -> Int[Tensor, "... N 3"]:
    """Time, row and column of tokens numbered `(t * rows + h) * columns + w`."""
    return torch.stack([ids // (rows * columns), ids // columns % rows, ids % columns], -1)


def apart(x: Shaped[Tensor, "... D"]) -> Shaped[Tensor, "... D"]:
    """Neighbouring pairs of features taken apart: all first members, then all second ones."""
    return x.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)


def together(x: Shaped[Tensor, "... D"]) -> Shaped[Tensor, "... D"]:
    """The inverse of `apart`."""
    return x.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)


def rotation_3d(positions: Shaped[Tensor, "... N 3"], features: int) -> Rotation:
    """Rotation of a head's `features` features by time, row and column `[B N 3]`, or `[N 3]` for all of a batch; for
    pairs that are taken apart.

    Each axis turns `2 * (features // 3 // 2)` of them, in this order; the rest stays as it is.
    """
    share = 2 * (features // 3 // 2)
    axes = [axis_rotation(x, share) for x in positions.unbind(-1)]
    cos = F.pad(torch.cat([axis.cos for axis in axes], -1), (0, features - 3 * share), value=1.0)
    sin = F.pad(torch.cat([axis.sin for axis in axes], -1), (0, features - 3 * share))
    return Rotation(apart(cos).unsqueeze(-3), apart(sin).unsqueeze(-3))  # one for all heads


class _Rotate(torch.autograd.Function):
    """Two passes over the features, and nothing but the tables saved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin.chunk(2, -1))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        first, second = sin.chunk(2, -1)
        return _turn(grad, cos, (-second, -first)), None, None


def _turn(x: Tensor, cos: Tensor, sin: tuple[Tensor, ...]) -> Tensor:
    out = x * cos
    (x0, x1), (out0, out1) = x.chunk(2, -1), out.chunk(2, -1)
    out0.addcmul_(x1, sin[0], value=-1)
    out1.addcmul_(x0, sin[1])
    return out


def rotate(x: Float[Tensor, "... N D"], rotation: Rotation) -> Float[Tensor, "... N D"]:
    """Every pair `(x0, x1)` becomes `(x0 cos0 - x1 sin0, x1 cos1 + x0 sin1)`. The pairs are taken apart: the first half
    of the features has all x0."""
    return _Rotate.apply(x, rotation.cos.to(x.dtype), rotation.sin.to(x.dtype))
