"""I-JEPA: predict the representations of parts of an image from another part (Assran et al. 2023, arXiv 2301.08243).

Legend: B batch, V views, M target masks, C context masks, K context tokens, N target or all tokens, D width.
"""

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from world_models.jepa.agreement import AGREEMENT, VIEWS, agreement
from world_models.jepa.block_masks import BlockMasks
from world_models.jepa.config import IJEPAConfig
from world_models.jepa.encoder import ImageEncoder, frozen_copy, move_towards
from world_models.jepa.losses import normalized, smooth_l1, spread
from world_models.jepa.predictor import ImagePredictor
from world_models.vit import take_tokens


class IJEPA(nn.Module):
    """Context encoder, predictor, and target encoder, the exponential moving average of the context encoder."""

    def __init__(self, config: IJEPAConfig):
        super().__init__()
        self.config = config
        self.encoder = ImageEncoder(config.encoder)
        self.predictor = ImagePredictor(config.encoder, config.predictor)
        self.target_encoder = cast(ImageEncoder, frozen_copy(self.encoder))

    def masks(self) -> BlockMasks:
        """The sampler of masks for images of the configuration's size."""
        return BlockMasks(self.config.masks, self.config.encoder.grid, self.config.encoder.grid)

    @torch.no_grad()
    def targets(
        self, images: Float[Tensor, "B channels height width"], target_ids: Int[Tensor, "M B N"], contexts: int = 1
    ) -> Float[Tensor, "MCB N D"]:
        """Normalised tokens of the target encoder, run on the whole images: what `predict` predicts for `contexts`
        context masks."""
        tokens = take_tokens(normalized(self.target_encoder(images)), target_ids)
        tokens = tokens.unflatten(0, (-1, 1, len(images)))
        return tokens.expand(-1, contexts, -1, -1, -1).flatten(0, 2)

    def predict(
        self,
        images: Float[Tensor, "B channels height width"],
        context_ids: Int[Tensor, "C B K"],
        target_ids: Int[Tensor, "M B N"],
    ) -> Float[Tensor, "MCB N D"]:
        """Predicted tokens, target mask by target mask, then context mask by context mask."""
        return self._predict(images, self.encoder(images, context_ids), context_ids, target_ids)

    def _predict(self, images: Tensor, context: Tensor, context_ids: Tensor, target_ids: Tensor) -> Tensor:
        return self.predictor(context, context_ids, target_ids, self.encoder.patch_embed.grid(images))

    def losses(
        self,
        images: Float[Tensor, "VB channels height width"],
        context_ids: Int[Tensor, "C VB K"],
        target_ids: Int[Tensor, "M VB N"],
    ) -> dict[str, Tensor]:
        """`prediction`: smooth L1 of each image `[B]`, the mean over its masks; with `config.spread` also `variance`
        and `covariance` of the batch's context tokens. With `config.agreement` there are two views of each image, view
        by view, each with masks of its own, and `agreement` of their contexts; without, one."""
        views = VIEWS if self.config.agreement.weight else 1
        targets = self.targets(images, target_ids, len(context_ids))
        context = self.encoder(images, context_ids)
        loss = smooth_l1(self._predict(images, context, context_ids, target_ids), targets)
        out = {"prediction": loss.unflatten(0, (-1, len(images) // views)).mean(0)}
        if self.config.agreement.weight:
            means = context.float().mean(1).unflatten(0, (len(context_ids), views, -1)).mean(0)
            out[AGREEMENT] = self.config.agreement.weight * agreement(means, self.config.agreement.temperature)
        return out | spread([context], self.config.spread, len(images) // views)

    forward = losses
    """What data-parallel wrappers call."""

    def update_target(self, momentum: float) -> None:
        """Move the target encoder towards the context encoder; call it after each update."""
        move_towards(self.target_encoder, self.encoder, momentum)

    def encode(self, images: Float[Tensor, "B channels height width"]) -> Float[Tensor, "B N D"]:
        """Tokens of the target encoder, which represents images best."""
        return self.target_encoder(images)
