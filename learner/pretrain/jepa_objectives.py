"""How I-JEPA, V-JEPA 2 and V-JEPA 2-AC are pretrained.

Legend: B batch (all processes together), T frames, S pixels a side, C channels, N tokens, D width.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from learner.pretrain.objective import Batch
from world_models.frames import prepared
from world_models.jepa.agreement import AGREEMENT, VIEWS, draw_shifts, shifted
from world_models.jepa.block_masks import MaskIds
from world_models.jepa.config import IJEPAConfig, VJEPA2ACConfig, VJEPA2Config
from world_models.jepa.ijepa import IJEPA
from world_models.jepa.losses import SPREAD, l1, normalized, smooth_l1
from world_models.jepa.vjepa2 import VJEPA2
from world_models.jepa.vjepa2_ac import VJEPA2AC


class Views(NamedTuple):
    """Masks of each view of the images, which must not tell by their places whose they are, and its shifts."""

    context: Int[Tensor, "C VB K"]
    target: Int[Tensor, "M VB N"]
    shifts: Int[Tensor, "V B 2"]


class ClipViews(NamedTuple):
    """Pairs of masks, the first of the first views, the second of the second views and, after those, of what is played
    backwards; and the shifts of both views."""

    pairs: list[MaskIds]
    shifts: Int[Tensor, "V B 2"]


class IJEPAObjective:
    """Trivial: the mean token of the batch."""

    averages = True
    apart = (*SPREAD, AGREEMENT)

    def __init__(self, config: IJEPAConfig):
        self.model = IJEPA(config)
        self._masks = self.model.masks()

    def draw(self, batch_size: int, generator: torch.Generator) -> MaskIds | Views:
        agreement = self.model.config.agreement
        if not agreement.weight:
            return self._masks(batch_size, generator)
        masks = self._masks(VIEWS * batch_size, generator)
        return Views(*masks, draw_shifts(batch_size, agreement.shift, generator))

    def inputs(self, batch: Batch, drawn: MaskIds | Views, rows: slice) -> tuple[Tensor, ...]:
        frames = batch["frames"]
        if not isinstance(drawn, Views):
            return self._images(frames), *(ids[:, rows].to(frames.device) for ids in drawn)
        masks = (ids.unflatten(1, (VIEWS, -1))[:, :, rows].flatten(1, 2) for ids in (drawn.context, drawn.target))
        seen = shifted(frames, drawn.shifts[:, rows].to(frames.device))
        return self._images(seen), *(ids.to(frames.device) for ids in masks)

    def trivial_loss(self, batch: Batch) -> Tensor:
        targets = normalized(self.model.encode(self._images(batch["frames"])))
        return smooth_l1(targets.mean((0, 1)).expand_as(targets), targets)

    def represent(self, frames: Tensor) -> Tensor:
        return self.model.encode(self._images(frames)).mean(1)

    def measures(self, batches: Iterable[Batch]) -> dict[str, float]:
        return {}

    def _images(self, frames: Tensor) -> Tensor:
        return prepared(frames, self.model.config.encoder.channels)[:, :, 0]


class VJEPA2Objective:
    """Trivial: the mean token of the batch."""

    averages = True
    apart = (*SPREAD, AGREEMENT)

    def __init__(self, config: VJEPA2Config):
        self.model = VJEPA2(config)
        self._masks = self.model.masks()

    def draw(self, batch_size: int, generator: torch.Generator) -> list[MaskIds] | ClipViews:
        agreement = self.model.config.agreement
        if not agreement.weight:
            return [sample(batch_size, generator) for sample in self._masks]
        sizes = batch_size, (2 if agreement.reversed else 1) * batch_size
        pairs = [sample(size, generator) for sample, size in zip(self._masks, sizes, strict=True)]
        return ClipViews(pairs, draw_shifts(batch_size, agreement.shift, generator))

    def inputs(
        self, batch: Batch, drawn: list[MaskIds] | ClipViews, rows: slice
    ) -> tuple[list[Tensor], list[list[MaskIds]]]:
        frames = batch["frames"]
        if not isinstance(drawn, ClipViews):
            return [self._clips(frames)], [[MaskIds(*(ids[rows].to(frames.device) for ids in p)) for p in drawn]]
        size = drawn.shifts.shape[1]
        pairs = [
            MaskIds(*(ids.unflatten(0, (-1, size))[:, rows].flatten(0, 1).to(frames.device) for ids in pair))
            for pair in drawn.pairs
        ]
        views = shifted(frames, drawn.shifts[:, rows].to(frames.device))
        if self.model.config.agreement.reversed:
            views = torch.cat([views, views.chunk(VIEWS)[1].flip(1)])
        return [self._clips(views)], [pairs]

    def trivial_loss(self, batch: Batch) -> Tensor:
        targets = self.model.targets(self._clips(batch["frames"]))
        return l1(targets.mean((0, 1)).expand_as(targets), targets)

    def represent(self, frames: Tensor) -> Tensor:
        return self.model.encode(self._clips(frames)).mean(1)

    def measures(self, batches: Iterable[Batch]) -> dict[str, float]:
        return {}

    def _clips(self, frames: Tensor) -> Tensor:
        return prepared(frames, self.model.config.encoder.channels)


class VJEPA2ACObjective:
    """Trivial: the next frame equals the last one."""

    averages = False
    apart = ()

    def __init__(self, config: VJEPA2ACConfig):
        self.model = VJEPA2AC(config)

    def draw(self, batch_size: int, generator: torch.Generator) -> None:
        return None

    def inputs(self, batch: Batch, drawn: None, rows: slice) -> tuple[Tensor, ...]:
        clips = prepared(batch["frames"], self.model.config.encoder.channels)
        return clips, batch["actions"], *([batch["states"]] if self.model.config.state else [])

    def trivial_loss(self, batch: Batch) -> Tensor:
        latents = self.model.encode(prepared(batch["frames"], self.model.config.encoder.channels))
        rolled = latents[:, 1 : 1 + self.model.config.rollout]
        still = latents[:, :1].expand_as(rolled)
        copied = l1(latents[:, :-1].flatten(1, 2), latents[:, 1:].flatten(1, 2))
        return copied + l1(still.flatten(1, 2), rolled.flatten(1, 2))

    def represent(self, frames: Tensor) -> None:
        return None

    def measures(self, batches: Iterable[Batch]) -> dict[str, float]:
        return {}
