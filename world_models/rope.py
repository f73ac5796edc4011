"""Rotary positions over time, row and column, as in V-JEPA 2.

Legend: B batch, H heads, N tokens, D features of a head.
"""

from typing import NamedTuple

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

    The angles are tiled, `[a, a]`, while `rotate` turns interleaved pairs, so that the two features of a pair turn by
    different angles. The official program does so, and trained weights need it.
    """
    powers = torch.arange(features // 2, dtype=torch.float32, device=positions.device) / (features / 2)
    angles = positions.to(torch.float32)[..., None] * 10000.0**-powers
    return Rotation(*(x.repeat(*[1] * (x.ndim - 1), 2) for x in (angles.cos(), angles.sin())))


def grid_positions(ids: Int[Tensor, "... N"], rows: int, columns: int) -> Int[Tensor, "... N 3"]:
    """Time, row and column of tokens numbered `(t * rows + h) * columns + w`."""
    return torch.stack([ids // (rows * columns), ids // columns % rows, ids % columns], -1)


def rotation_3d(positions: Shaped[Tensor, "... N 3"], features: int) -> Rotation:
    """Rotation of a head's `features` features by time, row and column `[B N 3]`, or `[N 3]` for all of a batch.

    Each axis turns `2 * (features // 3 // 2)` of them, in this order; the rest stays as it is.
    """
    share = 2 * (features // 3 // 2)
    axes = [axis_rotation(x, share) for x in positions.unbind(-1)]
    cos = F.pad(torch.cat([axis.cos for axis in axes], -1), (0, features - 3 * share), value=1.0)
    sin = F.pad(torch.cat([axis.sin for axis in axes], -1), (0, features - 3 * share))
    return Rotation(cos.unsqueeze(-3), sin.unsqueeze(-3))  # one for all heads


def rotate(x: Float[Tensor, "... N D"], rotation: Rotation) -> Float[Tensor, "... N D"]:
    """`x cos + y sin`, where y holds `(-x1, x0)` for every pair `(x0, x1)` of neighbouring features."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-odd, even], -1).flatten(-2)
    return x * rotation.cos.to(x.dtype) + turned * rotation.sin.to(x.dtype)
