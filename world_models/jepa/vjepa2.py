"""V-JEPA 2: predict the representations of masked parts of a clip from the rest (Assran et al. 2025, arXiv 2506.09985).

Legend: B batch, T time, K context tokens, N target or all tokens, D width.
"""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

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
        self, clips: Float[Tensor, "B channels T height width"], masks: Sequence[MaskIds], mask_token: int = 0
    ) -> dict[str, Float[Tensor, " B"]]:
        """Of one length group, `prediction`: the absolute error of each clip, the mean over pairs of masks; with
        `config.spread` also `variance` and `covariance` of the context tokens."""
        targets, contexts = self.targets(clips), self._contexts(clips, masks)
        pairs = zip(self._predict(clips, contexts, masks, mask_token), masks, strict=True)
        error = torch.stack([l1(p, take_tokens(targets, mask.target)) for p, mask in pairs]).mean(0)
        return {"prediction": error} | spread(contexts, self.config.spread, len(clips))

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
