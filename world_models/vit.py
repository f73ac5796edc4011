"""Parts of vision transformers: patches, pre-norm blocks, fixed positions, initialisation.

Parameters are named as in Meta's programs. Legend: B batch, N tokens, D width, H heads, P tokens of the past.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from world_models.rope import Rotation, apart, rotate

NORM_EPS = 1e-6
INIT_STD = 0.02


def sincos_2d(width: int, rows: int, columns: int) -> Float[Tensor, "N {width}"]:
    """Fixed positions of a grid of patches: the first half of the features from the column, the rest from the row.

    Each half is `[sin, cos]` with frequency `10000^(-i / (width / 4))`. ValueError if `width` is no multiple of 4.
    """
    if width % 4:
        raise ValueError(f"width={width} must be a multiple of 4 for two-dimensional positions.")
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [axis.flatten()[:, None] * frequencies for axis in (column, row)]
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], -1).float()


class PatchEmbed(nn.Module):
    """Linear embedding of patches, `[B C H W]` or of tubelets, `[B C T H W]`, to tokens.

    Token number: `(t * rows + row) * columns + column`. The weights are those of a convolution (`proj`) whose stride is
    its kernel, which is computed as one matrix product.
    """

    def __init__(self, channels: int, width: int, patch: int, tubelet: int = 0):
        super().__init__()
        self.patch, self.tubelet = patch, tubelet
        kind = nn.Conv3d if tubelet else nn.Conv2d
        kernel = (tubelet, patch, patch) if tubelet else (patch, patch)
        self.proj = kind(channels, width, kernel, stride=kernel)  # type: ignore[arg-type]

    def grid(self, x: Float[Tensor, "B channels ... height width"]) -> tuple[int, int]:
        """Rows and columns of patches. ValueError: `x` is no such batch, or the patches do not fill its images."""
        axes = ("B", channels := self.proj.in_channels, *(["T"] if self.tubelet else []), "height", "width")
        if x.ndim != len(axes) or x.shape[1] != channels:
            raise ValueError(
                f"The encoder takes {'clips' if self.tubelet else 'images'} [{' '.join(map(str, axes))}], got "
                f"{list(x.shape)}; bring the axes into this order, and train another encoder for other channels."
            )
        if not x.is_floating_point():
            raise ValueError(f"The encoder takes normalised pixels, got {x.dtype}; see world_models.frames.normalise.")
        height, width = x.shape[-2:]
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"Images of {height}x{width} pixels do not divide into patches of {self.patch}; crop or resize them."
            )
        return height // self.patch, width // self.patch

    def forward(self, x: Float[Tensor, "B channels ... height width"]) -> Float[Tensor, "B N D"]:
        self.grid(x)
        weight, p = self.proj.weight, self.patch
        if x.ndim == 4:
            patches = rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=p, q=p)
        elif x.shape[2] == 1:  # one frame stands for a tubelet of equal ones
            weight = weight.sum(2)
            patches = rearrange(x, "b c 1 (h p) (w q) -> b (h w) (c p q)", p=p, q=p)
        else:
            if x.shape[2] % self.tubelet:
                raise ValueError(
                    f"Clips of {x.shape[2]} frames do not divide into tubelets of {self.tubelet}; take a multiple."
                )
            patches = rearrange(x, "b c (t s) (h p) (w q) -> b (t h w) (c s p q)", s=self.tubelet, p=p, q=p)
        return F.linear(patches, weight.flatten(1), self.proj.bias)


class KeyValues(NamedTuple):
    """Keys and values of one attention layer, `[B H P D/H]`, after rotation."""

    keys: Tensor
    values: Tensor

    def first(self, tokens: int) -> "KeyValues":
        """Those of the first `tokens` tokens."""
        return KeyValues(self.keys[:, :, :tokens], self.values[:, :, :tokens])


def causal_attention(
    query: Float[Tensor, "B H N d"], key: Float[Tensor, "B H M d"], value: Float[Tensor, "B H M V"], groups: int = 1
) -> Float[Tensor, "B N H V"]:
    """Attention that is causal over `groups` equal groups of the N last tokens and free within them.

    One product for each group costs about half as much as one of all tokens under a mask.
    """
    if groups == 1:
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    past, size = key.shape[2] - query.shape[2], query.shape[2] // groups
    # Joined pieces rather than slices: the gradient of a slice is as long as all of it.
    pieces = [past + size, *[size] * (groups - 1)]
    keys, values, parts = key.split(pieces, 2), value.split(pieces, 2), []
    for i, part in enumerate(query.split(size, 2), 1):
        seen = torch.cat(keys[:i], 2), torch.cat(values[:i], 2)
        parts.append(F.scaled_dot_product_attention(part, *seen).transpose(1, 2))
    return torch.cat(parts, 1)


class Attention(nn.Module):
    """Multi-head self-attention with fused query, key and value projections."""

    order: Tensor

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        if width // heads % 2 == 0:
            # Rotation wants pairs of features apart. Queries and keys in the same other order have the same products.
            rows = torch.arange(3 * width).view(3, heads, -1)
            order = torch.cat([apart(rows[:2]), rows[2:]]).flatten()
            self.register_buffer("order", order, persistent=False)

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        rotation: Rotation | None = None,
        groups: int = 1,
        past: KeyValues | None = None,
    ) -> tuple[Float[Tensor, "B N D"], KeyValues]:
        """Attend to `past` and to `x`, causally over `groups` groups of tokens; returns the keys and values of both
        too."""
        weight: Tensor = self.qkv.weight
        bias: Tensor = self.qkv.bias
        if rotation is not None:
            weight, bias = weight[self.order], bias[self.order]
        parts = F.linear(x, weight, bias).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)  # [B H N d]
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if past is not None:
            key, value = torch.cat([past.keys, key], 2), torch.cat([past.values, value], 2)
        return self.proj(causal_attention(query, key, value, groups).flatten(2)), KeyValues(key, value)


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block: `x + attention(norm(x))`, then `x + mlp(norm(x))`."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, eps: float = NORM_EPS):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, round(width * mlp_ratio))

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        rotation: Rotation | None = None,
        groups: int = 1,
        past: KeyValues | None = None,
    ) -> tuple[Float[Tensor, "B N D"], KeyValues]:
        attended, seen = self.attn(self.norm1(x), rotation, groups, past)
        x = x + attended
        return x + self.mlp(self.norm2(x)), seen


def run_blocks(
    blocks: Iterable[nn.Module], x: Float[Tensor, "B N D"], rotation: Rotation | None = None, recompute: bool = False
) -> Float[Tensor, "B N D"]:
    """Tokens after all `blocks`. `recompute`: keep no activations inside blocks, compute them again for gradients."""
    for block in blocks:
        if recompute and torch.is_grad_enabled():
            x, _ = checkpoint(block, x, rotation, use_reentrant=False)
        else:
            x, _ = block(x, rotation)
    return x


def take_tokens(x: Float[Tensor, "B N D"], ids: Int[Tensor, "... B K"]) -> Float[Tensor, "MB K D"]:
    """Tokens `ids` of each image; several masks `[M B K]` give `M * B` rows, mask by mask."""
    if ids.ndim == 3:
        x, ids = x.repeat(len(ids), 1, 1), ids.flatten(0, 1)
    return x.gather(1, ids[..., None].expand(-1, -1, x.shape[-1]))


def initialize(module: nn.Module, blocks: Iterable[nn.Module] = (), std: float = INIT_STD) -> None:
    """Truncated normal weights, zero biases, unit gains; output layers of block i divided by `sqrt(2 i)`, i from 1."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d, nn.Conv3d)):
            nn.init.trunc_normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
    with torch.no_grad():
        for i, block in enumerate(blocks, 1):
            assert isinstance(block, Block), type(block)
            for layer in (block.attn.proj, block.mlp.fc2):
                layer.weight /= math.sqrt(2 * i)
