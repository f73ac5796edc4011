"""V-JEPA 2: predict the representations of masked parts of a clip from the rest (Assran et al. 2025, arXiv 2506.09985).

Legend: B batch, V views, T time, K context tokens, N target or all tokens, D width.
"""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from world_models.jepa.agreement import AGREEMENT, VIEWS, agreement
from world_models.jepa.block_masks import MaskIds
from world_models.jepa.config import VJEPA2Config
from world_models.jepa.encoder import VideoEncoder, frozen_copy, move_towards
from world_models.jepa.losses import l1, normalized, spread
from world_models.jepa.predictor import VideoPredictor
from world_models.jepa.tube_masks import TubeMasks
from world_models.vit import take_tokens


class VJEPA2(nn.Module):
    """Context encoder, predictor, and target encoder, the exponential moving average of the context encoder."""

    def __init__(self, config: VJEPA2Config):
        super().__init__()
        self.config = config
        self.encoder = VideoEncoder(config.encoder)
        self.predictor = VideoPredictor(config.encoder, config.predictor)
        self.target_encoder = cast(VideoEncoder, frozen_copy(self.encoder))

    def masks(self, frames: int = 0) -> list[TubeMasks]:
        """The samplers of short-range and long-range masks for clips of `frames` frames, by default as configured."""
        c, grid = self.config, self.config.encoder.grid
        times = max(1, (frames or c.frames) // c.encoder.tubelet)
        return [TubeMasks(kind, times, grid, grid, c.official_slips) for kind in (c.short_masks, c.long_masks)]

    @torch.no_grad()
    def targets(self, clips: Float[Tensor, "B channels T height width"]) -> Float[Tensor, "B N D"]:
        """Normalised tokens of the target encoder, run on the whole clips."""
        return normalized(self.target_encoder(clips))

    def predict(
        self, clips: Float[Tensor, "B channels T height width"], masks: Sequence[MaskIds], mask_token: int
    ) -> list[Float[Tensor, "B N D"]]:
        """Predicted tokens for each pair of masks. `mask_token`: number of the clips' length group."""
        return self._predict(clips, self._contexts(clips, masks), masks, mask_token)

    def _contexts(self, clips: Tensor, masks: Sequence[MaskIds]) -> list[Tensor]:
        """Context tokens for each pair of masks."""
        grid, tokens = self.encoder.patch_embed.grid(clips), self.encoder.embed(clips)
        return [self.encoder.transform(tokens, grid, mask.context) for mask in masks]

    def _predict(
        self, clips: Tensor, contexts: Sequence[Tensor], masks: Sequence[MaskIds], mask_token: int
    ) -> list[Tensor]:
        grid = self.encoder.patch_embed.grid(clips)
        return [
            self.predictor(context, mask.context, mask.target, mask_token, grid)
            for context, mask in zip(contexts, masks, strict=True)
        ]

    def group_losses(
        self, clips: Float[Tensor, "VB channels T height width"], masks: Sequence[MaskIds], mask_token: int = 0
    ) -> dict[str, Float[Tensor, " B"]]:
        """Of one length group, `prediction`: the absolute error of each clip, the mean over pairs of masks; with
        `config.spread` also `variance` and `covariance` of the context tokens.

        With `config.agreement` there are two views of each clip, the first seen with the first pair of masks, the
        second with the second, and `agreement` of their contexts; without, one, seen with all pairs. With
        `config.agreement.reversed` the second views are followed by themselves, played backwards, with masks of their
        own in the second pair."""
        if self.config.agreement.weight:
            return self._agreeing_losses(clips, masks, mask_token)
        targets, contexts = self.targets(clips), self._contexts(clips, masks)
        error = self._errors(clips, contexts, [targets] * len(masks), masks, mask_token)
        return {"prediction": error} | spread(contexts, self.config.spread, len(clips))

    def _agreeing_losses(self, clips: Tensor, masks: Sequence[MaskIds], mask_token: int) -> dict[str, Tensor]:
        parts = clips.split([len(pair.context) for pair in masks])
        seen = [self._contexts(part, [pair])[0] for part, pair in zip(parts, masks, strict=True)]
        rows = len(parts[0])
        contexts, backwards = [context[:rows] for context in seen], seen[1][rows:]
        targets = self.targets(torch.cat([part[:rows] for part in parts])).chunk(VIEWS)
        own = [MaskIds(*(ids[:rows] for ids in pair)) for pair in masks]
        means = torch.stack([context.float().mean(1) for context in contexts])
        c = self.config.agreement
        return {
            "prediction": self._errors(clips, contexts, targets, own, mask_token),
            AGREEMENT: c.weight * agreement(means, c.temperature, backwards.float().mean(1)),
        } | spread(contexts, self.config.spread, rows)

    def _errors(
        self, clips: Tensor, contexts: Sequence[Tensor], targets: Sequence[Tensor], masks: Sequence[MaskIds],
        mask_token: int,
    ) -> Float[Tensor, " B"]:  # fmt: skip
        pairs = zip(self._predict(clips, contexts, masks, mask_token), targets, masks, strict=True)
        return torch.stack([l1(p, take_tokens(target, mask.target)) for p, target, mask in pairs]).mean(0)

    def losses(self, clips: Sequence[Tensor], masks: Sequence[Sequence[MaskIds]]) -> dict[str, Tensor]:
        """`prediction`, and what `config.spread` adds, of each clip, all groups together.

        `clips` has a batch `[B C T height width]` for each clip length, `masks` the pairs of masks for each of them.
        """
        groups = zip(clips, masks, strict=True)
        found = [self.group_losses(x, ids, i) for i, (x, ids) in enumerate(groups)]
        return {name: torch.cat([one[name] for one in found]) for name in found[0]}

    forward = losses
    """What data-parallel wrappers call."""

    def update_target(self, momentum: float) -> None:
        """Move the target encoder towards the context encoder; call it after each update."""
        move_towards(self.target_encoder, self.encoder, momentum)

    def encode(self, clips: Float[Tensor, "B channels T height width"]) -> Float[Tensor, "B N D"]:
        """Tokens of the target encoder, which represents clips best. A single frame is an image."""
        return self.target_encoder(clips)
