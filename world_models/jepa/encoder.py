"""Encoders of images (I-JEPA) and of clips (V-JEPA 2), and their exponential moving average.

Legend: B batch, M masks, K kept tokens, N tokens, D width, T time.
"""

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from world_models.jepa.config import EncoderConfig
from world_models.rope import grid_positions, rotation_3d
from world_models.vit import NORM_EPS, Block, PatchEmbed, initialize, run_blocks, sincos_2d, take_tokens


class ImageEncoder(nn.Module):
    """Vision transformer with fixed positions and no class token (I-JEPA, section 3)."""

    pos_embed: Tensor

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config.channels, config.width, config.patch)
        self.register_buffer("pos_embed", sincos_2d(config.width, config.grid, config.grid)[None])
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        initialize(self, self.blocks)

    def forward(
        self, images: Float[Tensor, "B channels height width"], kept: Int[Tensor, "*M B K"] | None = None
    ) -> Float[Tensor, "MB N D"]:
        """Tokens of the patches `kept`, or of all; several masks `[M B K]` give `M * B` rows, mask by mask."""
        grid = self.patch_embed.grid(images)
        square = grid == (self.config.grid, self.config.grid)
        positions = self.pos_embed if square else sincos_2d(self.config.width, *grid).to(self.pos_embed.device)
        x = self.patch_embed(images) + positions
        if kept is not None:
            x = take_tokens(x, kept)
        return self.norm(run_blocks(self.blocks, x, recompute=self.config.recompute))


class VideoEncoder(nn.Module):
    """Vision transformer over tubelets with rotary positions (V-JEPA 2, section 2.1)."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config.channels, config.width, config.patch, config.tubelet)
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        initialize(self, self.blocks)

    def embed(self, clips: Float[Tensor, "B channels T height width"]) -> Float[Tensor, "B N D"]:
        """Tubelets, linearly embedded; a single frame stands for a tubelet of equal ones."""
        return self.patch_embed(clips)

    def transform(
        self, tokens: Float[Tensor, "B N D"], grid: tuple[int, int], kept: Int[Tensor, "B K"] | None = None
    ) -> Float[Tensor, "B K D"]:
        """Embedded tokens of a clip with `grid` rows and columns, all or those `kept`, through the blocks."""
        if kept is not None:
            tokens = take_tokens(tokens, kept)
        ids = torch.arange(tokens.shape[1], device=tokens.device) if kept is None else kept
        rotation = rotation_3d(grid_positions(ids, *grid), self.config.width // self.config.heads)
        return self.norm(run_blocks(self.blocks, tokens, rotation, self.config.recompute))

    def forward(
        self, clips: Float[Tensor, "B channels T height width"], kept: Int[Tensor, "B K"] | None = None
    ) -> Float[Tensor, "B N D"]:
        """Tokens of the tubelets `kept`, or of all."""
        return self.transform(self.embed(clips), self.patch_embed.grid(clips), kept)


def frozen_copy(encoder: nn.Module) -> nn.Module:
    """A copy without gradients: the target encoder before the first update."""
    return copy.deepcopy(encoder).requires_grad_(False)


@torch.no_grad()
def move_towards(target: nn.Module, encoder: nn.Module, momentum: float) -> None:
    """Exponential moving average: `target = momentum * target + (1 - momentum) * encoder`."""
    slow: list[Tensor] = list(target.parameters())
    fast: list[Tensor] = list(encoder.parameters())
    torch._foreach_mul_(slow, momentum)
    torch._foreach_add_(slow, fast, alpha=1 - momentum)
