"""ST-transformer: attention within each frame, attention over time at each place, and an MLP (arXiv 2402.15391, 2.1).

Time is causal: a frame sees itself and earlier ones. Keys and values of past frames can be kept, so that another frame
costs one frame. Positions are rotary in space and in time, besides the learnt ones of the paper's models: what happens
between neighbours is then learnt in a fraction of the updates.

Legend: B batch, T frames, N tokens of a frame, D width, H heads, d features of a head, P frames of the past.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from world_models.genie.config import TransformerConfig
from world_models.rope import Rotation, axis_rotation, rotate
from world_models.vit import INIT_STD, MLP, NORM_EPS


class FrameKeyValues(NamedTuple):
    """Keys, after rotation, and values of one block's attention over time, `[B N H P d]`."""

    keys: Tensor
    values: Tensor


Past = tuple[FrameKeyValues, ...]
"""Those of every block."""


class HeadedAttention(nn.Module):
    """Projections of multi-head self-attention; queries and keys may be normalised."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.heads = config.heads
        features = config.width // config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.proj = nn.Linear(config.width, config.width)
        self.norms = nn.ModuleList(nn.LayerNorm(features, eps=NORM_EPS) for _ in range(2 * config.qk_norm))

    def projections(self, x: Float[Tensor, "R L D"], rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, after rotation, and values `[R H L d]`."""
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [3 R H L d]
        pair, value = parts.split((2, 1))
        if self.norms:
            pair = torch.stack([norm(part) for norm, part in zip(self.norms, pair, strict=True)])
        query, key = rotate(pair, rotation)
        return query, key, value[0]


class SpaceAttention(HeadedAttention):
    """Attention within each frame."""

    def forward(self, x: Float[Tensor, "B T N D"], rotation: Rotation) -> Float[Tensor, "B T N D"]:
        query, key, value = self.projections(x.flatten(0, 1), rotation)
        out = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        return self.proj(out.reshape(x.shape))


class TimeAttention(HeadedAttention):
    """Causal attention over the frames at each place."""

    def forward(
        self, x: Float[Tensor, "B T N D"], rotation: Rotation, past: FrameKeyValues | None = None, fill: bool = False
    ) -> tuple[Float[Tensor, "B T N D"], FrameKeyValues]:
        rows = x.transpose(1, 2)  # [B N T D]
        query, key, value = self.projections(rows.flatten(0, 1), rotation)
        mask = None
        if past is not None:
            join = _fill if fill else _append
            key, value = (join(old.flatten(0, 1), new) for old, new in zip(past, (key, value), strict=True))
            before, now = key.shape[2] - query.shape[2], query.shape[2]
            if now > 1:
                mask = torch.ones(now, before + now, dtype=torch.bool, device=x.device).tril(before)
        if key.shape[2] == 1:  # there is nothing else to attend to
            out = value.transpose(1, 2)
        else:
            out = F.scaled_dot_product_attention(query, key, value, mask, is_causal=past is None).transpose(1, 2)
        seen = FrameKeyValues(*(part.unflatten(0, rows.shape[:2]) for part in (key, value)))
        return self.proj(out.reshape(rows.shape)).transpose(1, 2), seen


def _append(old: Float[Tensor, "R H P d"], new: Float[Tensor, "R H T d"]) -> Float[Tensor, "R H P+T d"]:
    return torch.cat([old, new], 2)


def _fill(room: Float[Tensor, "R H P d"], new: Float[Tensor, "R H T d"]) -> Float[Tensor, "R H P d"]:
    if room.dtype != new.dtype:  # begun with another precision
        return _append(room[:, :, : -new.shape[2]], new)
    room[:, :, -new.shape[2] :] = new
    return room


class Rotations(NamedTuple):
    """Rotary positions of tokens in a frame and of frames."""

    space: Rotation
    time: Rotation


class STBlock(nn.Module):
    """`x + space(norm(x))`, then `x + time(norm(x))`, then `x + mlp(norm(x))`."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(config.width, eps=NORM_EPS) for _ in range(3))
        self.space = SpaceAttention(config)
        self.time = TimeAttention(config)
        self.mlp = MLP(config.width, round(config.width * config.mlp_ratio))

    def forward(
        self, x: Float[Tensor, "B T N D"], rotations: Rotations, past: FrameKeyValues | None = None, fill: bool = False
    ) -> tuple[Float[Tensor, "B T N D"], FrameKeyValues]:
        x = x + self.space(self.norm1(x), rotations.space)
        attended, seen = self.time(self.norm2(x), rotations.time, past, fill)
        x = x + attended
        return x + self.mlp(self.norm3(x)), seen


class STTransformer(nn.Module):
    """A stack of blocks and a final norm, for frames of `grid` times `grid` tokens and `extra` tokens before them."""

    space_cos: Tensor
    space_sin: Tensor

    def __init__(self, config: TransformerConfig, grid: int, extra: int = 0):
        super().__init__()
        self.config = config
        rotation = _grid_rotation(grid, extra, config.width // config.heads)
        for name, table in zip(("space_cos", "space_sin"), rotation, strict=True):
            self.register_buffer(name, table, persistent=False)
        self.blocks = nn.ModuleList(STBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPS)

    def forward(self, x: Float[Tensor, "B T N D"]) -> Float[Tensor, "B T N D"]:
        """Tokens of whole clips."""
        rotations = self._rotations(0, x.shape[1])
        for block in self.blocks:
            if self.config.recompute and torch.is_grad_enabled():
                x, _ = checkpoint(block, x, rotations, use_reentrant=False)
            else:
                x, _ = block(x, rotations)
        return self.norm(x)

    def extend(
        self, x: Float[Tensor, "B T N D"], past: Past | None, time: int, fill: bool = False
    ) -> tuple[Float[Tensor, "B T N D"], Past]:
        """Tokens of frames from number `time` on, given those before them; returns the keys and values of all. With
        `fill`, the past has room for these frames (`with_room`), and is written to."""
        rotations = self._rotations(time, x.shape[1])
        seen = []
        for number, block in enumerate(self.blocks):
            x, known = block(x, rotations, past[number] if past else None, fill)
            seen.append(known)
        return self.norm(x), tuple(seen)

    def _rotations(self, time: int, frames: int) -> Rotations:
        numbers = torch.arange(time, time + frames, device=self.space_cos.device)
        features = self.config.width // self.config.heads
        return Rotations(Rotation(self.space_cos, self.space_sin), axis_rotation(numbers, features))


def _grid_rotation(grid: int, extra: int, features: int) -> Rotation:
    """Of a grid's tokens, row by row: half of the pairs of features turn with the row, half with the column. `extra`
    tokens before them do not turn."""
    row, column = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    pairs = (features // 2 - features // 4, features // 4)
    cos, sin = (
        torch.cat([part[:, :count] for part, count in zip(parts, pairs, strict=True)], -1)
        for parts in zip(
            *(axis_rotation(x.flatten(), 2 * n) for x, n in zip((row, column), pairs, strict=True)), strict=True
        )
    )
    still = torch.zeros(extra, features)
    return Rotation(torch.cat([still + 1, cos.repeat(1, 2)]), torch.cat([still, sin.repeat(1, 2)]))


def newest(past: Past, frames: int) -> Past:
    """The last `frames` of the past."""
    return tuple(FrameKeyValues(*(part[..., -frames:, :] for part in block)) for block in past)


def with_room(past: Past) -> Past:
    """A copy of the past with room for one more frame, so that what is tried for that frame copies no past."""
    return tuple(FrameKeyValues(*(F.pad(part, (0, 0, 0, 1)) for part in block)) for block in past)


def positions(tokens: int, width: int) -> nn.Parameter:
    """A learnt position for each token of a frame, `[N D]`."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(tokens, width), std=INIT_STD))


def initialize(module: nn.Module) -> None:
    """Xavier's uniform weights, zero biases; each block's output layers divided by the square root of their number."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for stack in (part for part in module.modules() if isinstance(part, STTransformer)):
        scale = (3 * len(stack.blocks)) ** -0.5
        with torch.no_grad():
            for block in stack.blocks:
                assert isinstance(block, STBlock)
                for layer in (block.space.proj, block.time.proj, block.mlp.fc2):
                    layer.weight *= scale
