"""Multi-block masks of I-JEPA (section 3 and appendix A.1): target blocks, and a context block without them.

`official_slips` samples as the original program does, which differs from the paper in three ways: a block's scale and
aspect come from one random number; blocks never reach the last row and column; contexts are cut to equal lengths from
their start, so that the lower rows are used less. Legend: B batch, M target masks, C context masks, N patches.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from world_models.jepa.config import BlockMaskConfig

PATIENCE = 20
"""Places tried for a context before it may overlap one target more."""


class MaskIds(NamedTuple):
    """Numbers of context and target tokens, ascending."""

    context: Tensor
    target: Tensor


def between(low_high: Sequence[float], share: float) -> float:
    """The number that lies at `share` of the way from low to high."""
    low, high = low_high
    return low + share * (high - low)


def draw(generator: torch.Generator) -> float:
    """A uniform number from [0, 1)."""
    return torch.rand(1, generator=generator).item()


def block_size(
    rows: int, columns: int, scale: Sequence[float], aspect: Sequence[float], generator: torch.Generator, slips: bool
) -> tuple[int, int]:
    """Height and width of a block of random area and aspect."""
    first = draw(generator)
    area = int(rows * columns * between(scale, first))
    ratio = between(aspect, first if slips else draw(generator))
    height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    return min(max(height, 1), rows - slips), min(max(width, 1), columns - slips)


def blocks_at(
    size: tuple[int, int], grid: tuple[int, int], shape: tuple[int, ...], generator: torch.Generator, slips: bool
) -> Bool[Tensor, "... N"]:
    """Masks of blocks at random places, `shape` of them."""
    inside = []
    for length, extent in zip(size, grid, strict=True):
        start = torch.randint(0, extent - length + (not slips), (*shape, 1), generator=generator)
        place = torch.arange(extent)
        inside.append((place >= start) & (place < start + length))
    return (inside[0][..., :, None] & inside[1][..., None, :]).flatten(-2)


def token_ids(
    masks: Bool[Tensor, "... N"], count: int, generator: torch.Generator, first: bool
) -> Int[Tensor, "... {count}"]:
    """`count` tokens of each mask, ascending: a random choice, or the first ones."""
    if first:
        return (~masks).to(torch.uint8).argsort(dim=-1, stable=True)[..., :count]
    order = torch.rand(masks.shape, generator=generator).masked_fill(~masks, math.inf)
    return order.argsort(-1)[..., :count].sort(-1).values


class BlockMasks:
    """Samples masks for batches of images of `rows` x `columns` patches; sizes are drawn once a batch, places for each
    image."""

    def __init__(self, config: BlockMaskConfig, rows: int, columns: int):
        self.config, self.grid = config, (rows, columns)
        if min(self.grid) < 2:
            raise ValueError(f"Masks need at least 2x2 patches, got {rows}x{columns}; use smaller patches.")

    def sizes(self, generator: torch.Generator) -> tuple[tuple[int, int], tuple[int, int]]:
        """Height and width of target blocks, then of context blocks."""
        c = self.config
        target = block_size(*self.grid, c.target_scale, c.target_aspect, generator, c.official_slips)
        return target, block_size(*self.grid, c.context_scale, (1.0, 1.0), generator, c.official_slips)

    def __call__(self, batch_size: int, generator: torch.Generator) -> MaskIds:
        """Context `[C B K]` and target `[M B N]`; all masks of a kind are as long as the shortest of the batch."""
        c, slips = self.config, self.config.official_slips
        target_size, context_size = self.sizes(generator)
        targets = blocks_at(target_size, self.grid, (c.targets, batch_size), generator, slips)
        contexts = torch.stack([self._context(context_size, targets, generator) for _ in range(c.contexts)])
        shortest = int(contexts.sum(-1).min())
        area = target_size[0] * target_size[1]
        return MaskIds(token_ids(contexts, shortest, generator, slips), token_ids(targets, area, generator, slips))

    def _context(
        self, size: tuple[int, int], targets: Bool[Tensor, "M B N"], generator: torch.Generator
    ) -> Bool[Tensor, "B N"]:
        """A block without the targets; where too little remains anywhere, without all but the last few of them."""
        slips, out = self.config.official_slips, torch.zeros_like(targets[0])
        todo = torch.ones(len(out), dtype=torch.bool)
        for avoided in range(len(targets), -1, -1):
            for _ in range(PATIENCE):
                block = blocks_at(size, self.grid, (int(todo.sum()),), generator, slips)
                out[todo] = block & ~targets[:avoided, todo].any(0)
                todo &= out.sum(-1) <= self.config.min_keep
                if not todo.any():
                    return out
        return out  # the whole block is smaller than min_keep
