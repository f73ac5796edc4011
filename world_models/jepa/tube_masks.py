"""Tube masks of V-JEPA 2 (V-JEPA, section 3.2): targets are a union of blocks over time, the context is the rest.

`official_slips` samples as the original program does: masks are cut to equal lengths from their start, so that the last
frames are used less. Legend: B batch, K context tokens, N target tokens.
"""

import math

import torch
from torch import Tensor

from world_models.jepa.block_masks import MaskIds, between, draw, token_ids
from world_models.jepa.config import TubeMaskConfig


class TubeMasks:
    """Samples masks of one kind for clips of `times` x `rows` x `columns` tokens; the size of the blocks is drawn once
    a batch, their places for each clip."""

    def __init__(self, config: TubeMaskConfig, times: int, rows: int, columns: int, official_slips: bool = False):
        self.config, self.grid, self.official_slips = config, (times, rows, columns), official_slips

    def size(self, generator: torch.Generator) -> tuple[int, int, int]:
        """Duration, height and width of the blocks."""
        c, (times, rows, columns) = self.config, self.grid
        duration = max(1, int(times * between(c.duration, draw(generator))))
        area = int(rows * columns * between(c.scale, draw(generator)))
        ratio = between(c.aspect, draw(generator))
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        return duration, min(max(height, 1), rows), min(max(width, 1), columns)

    def __call__(self, batch_size: int, generator: torch.Generator) -> MaskIds:
        """Context `[B K]` and target `[B N]`; all masks of a kind are as long as the shortest of the batch.

        ValueError if the blocks leave no context.
        """
        size = self.size(generator)
        target = self._targets(size, batch_size, generator)
        for _ in range(100):
            if not (full := target.all(-1)).any():
                break
            target[full] = self._targets(size, int(full.sum()), generator)
        else:
            raise ValueError(
                f"{self.config.blocks} blocks of {size} in a clip of {self.grid} tokens leave no context; lower the "
                "masks' scale or blocks."
            )
        context = ~target
        shortest = [int(masks.sum(-1).min()) for masks in (context, target)]
        slips = self.official_slips
        return MaskIds(
            token_ids(context, shortest[0], generator, slips), token_ids(target, shortest[1], generator, slips)
        )

    def _targets(self, size: tuple[int, int, int], rows: int, generator: torch.Generator) -> Tensor:
        """`[rows tokens]`: the union of the blocks."""
        inside = []
        for length, extent in zip(size, self.grid, strict=True):
            start = torch.randint(0, extent - length + 1, (rows, self.config.blocks, 1), generator=generator)
            place = torch.arange(extent)
            inside.append((place >= start) & (place < start + length))
        blocks = inside[0][..., :, None, None] & inside[1][..., None, :, None] & inside[2][..., None, None, :]
        return blocks.any(1).flatten(1)
