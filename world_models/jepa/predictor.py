"""Predictors of I-JEPA and V-JEPA 2: narrow vision transformers that fill in target tokens from context tokens.

Legend: B batch, C context masks, M target masks, K context tokens, N target tokens, D width of the encoder.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from world_models.jepa.config import EncoderConfig, PredictorConfig
from world_models.rope import grid_positions, rotation_3d
from world_models.vit import INIT_STD, NORM_EPS, Block, initialize, run_blocks, sincos_2d, take_tokens


class _Predictor(nn.Module):
    """What both predictors have: linear layers from and to the encoder's width, blocks and a norm between them."""

    def __init__(self, encoder: EncoderConfig, config: PredictorConfig):
        super().__init__()
        self.config = config
        self.predictor_embed = nn.Linear(encoder.width, config.width)
        self.predictor_blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.predictor_norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.predictor_proj = nn.Linear(config.width, encoder.width)
        initialize(self, self.predictor_blocks)


class ImagePredictor(_Predictor):
    """Predicts each target block on its own from the context (I-JEPA, section 3, "Prediction")."""

    predictor_pos_embed: Tensor

    def __init__(self, encoder: EncoderConfig, config: PredictorConfig):
        super().__init__(encoder, config)
        self.grid = encoder.grid
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, config.width), std=INIT_STD))
        self.register_buffer("predictor_pos_embed", sincos_2d(config.width, self.grid, self.grid)[None])

    def forward(
        self,
        context: Float[Tensor, "CB K D"],
        context_ids: Int[Tensor, "C B K"],
        target_ids: Int[Tensor, "M B N"],
        grid: tuple[int, int] | None = None,
    ) -> Float[Tensor, "MCB N D"]:
        """Predictions, target mask by target mask, then context mask by context mask. `grid`: rows and columns, if
        other than the configuration's."""
        contexts, batch = context_ids.shape[:2]
        positions = self.predictor_pos_embed
        if grid not in (None, (self.grid, self.grid)):
            positions = sincos_2d(self.config.width, *grid)[None].to(positions.device)
        positions = positions.expand(batch, -1, -1)
        x = self.predictor_embed(context) + take_tokens(positions, context_ids)
        queries = self.mask_token + take_tokens(positions, target_ids)  # [M*B N D]
        queries = queries.unflatten(0, (-1, 1, batch)).expand(-1, contexts, -1, -1, -1).flatten(0, 2)
        x = torch.cat([x.repeat(len(target_ids), 1, 1), queries], 1)
        x = run_blocks(self.predictor_blocks, x, recompute=self.config.recompute)
        return self.predictor_proj(self.predictor_norm(x[:, -target_ids.shape[-1] :]))


class VideoPredictor(_Predictor):
    """Predicts all target tokens of a clip at once, with rotary positions (V-JEPA 2, section 2.1)."""

    def __init__(self, encoder: EncoderConfig, config: PredictorConfig):
        super().__init__(encoder, config)
        self.grid = encoder.grid
        self.mask_tokens = nn.ParameterList(torch.zeros(1, 1, config.width) for _ in range(config.mask_tokens))

    def forward(
        self,
        context: Float[Tensor, "B K D"],
        context_ids: Int[Tensor, "B K"],
        target_ids: Int[Tensor, "B N"],
        mask_token: int = 1,
        grid: tuple[int, int] | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Predictions of the target tokens. `mask_token` is the number of the clip's length group (modulo their
        number); `grid`: rows and columns, if other than the configuration's."""
        token = self.mask_tokens[mask_token % len(self.mask_tokens)]
        x = self.predictor_embed(context)
        x = torch.cat([x, token.to(x.dtype).expand(*target_ids.shape, -1)], 1)
        ids = torch.cat([context_ids, target_ids], 1)
        positions = grid_positions(ids, *(grid or (self.grid, self.grid)))
        rotation = rotation_3d(positions, self.config.width // self.config.heads)
        x = run_blocks(self.predictor_blocks, x, rotation, self.config.recompute)
        return self.predictor_proj(self.predictor_norm(x[:, -target_ids.shape[-1] :]))
