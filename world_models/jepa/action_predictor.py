"""Predictor of V-JEPA 2-AC: the next frame's tokens from frames, actions and states so far (section 3.1).

Legend: B batch, T frames, N patches of a frame, A condition tokens of a frame, D width of the encoder, P predictor's.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from world_models.jepa.config import VJEPA2ACConfig
from world_models.rope import Rotation, grid_positions, rotation_3d
from world_models.vit import NORM_EPS, Block, KeyValues, initialize

Past = tuple[KeyValues, ...]
"""Keys and values of earlier frames, for each block."""


class ActionPredictor(nn.Module):
    """Each frame is a group of tokens: action, state, (extrinsics), patches. Attention is causal over frames, free
    within them; condition tokens are rotated by time alone."""

    def __init__(self, config: VJEPA2ACConfig):
        super().__init__()
        self.config = config
        c, width = config.predictor, config.encoder.width
        self.predictor_embed = nn.Linear(width, c.width)
        self.action_encoder = nn.Linear(config.action, c.width)
        if config.state:
            self.state_encoder = nn.Linear(config.state, c.width)
        if config.extrinsics:
            self.extrinsics_encoder = nn.Linear(config.extrinsics, c.width)
        self.predictor_blocks = nn.ModuleList(Block(c.width, c.heads, c.mlp_ratio) for _ in range(c.depth))
        self.predictor_norm = nn.LayerNorm(c.width, eps=NORM_EPS)
        self.predictor_proj = nn.Linear(c.width, width)
        initialize(self, self.predictor_blocks)
        if config.extrinsics and not config.use_extrinsics:
            self.extrinsics_encoder.requires_grad_(False)  # kept for the published weights' sake

    @property
    def frame_tokens(self) -> int:
        """Tokens of a frame: conditions and patches."""
        return self.config.conditions + self.config.encoder.grid**2

    def rotation(self, start: int, frames: int, device: torch.device) -> Rotation:
        """For frames `start, start + 1, ...`: condition tokens stand in row and column 0."""
        conditions, grid = self.config.conditions, self.config.encoder.grid
        places = grid_positions(torch.arange(grid * grid, device=device), grid, grid)
        places = torch.cat([places.new_zeros(conditions, 3), places]).repeat(frames, 1, 1)  # [T A+N 3]
        places[..., 0] = torch.arange(start, start + frames, device=device)[:, None]
        return rotation_3d(places.flatten(0, 1), self.config.predictor.width // self.config.predictor.heads)

    def tokens(
        self,
        latents: Float[Tensor, "B T N D"],
        actions: Float[Tensor, "B T action"],
        states: Float[Tensor, "B T state"] | None,
        extrinsics: Float[Tensor, "B T extrinsics"] | None,
    ) -> Float[Tensor, "B S P"]:
        """Embedded tokens of all frames. ValueError if the model uses a state or extrinsics that are not given."""
        parts = [self.action_encoder(actions)[:, :, None]]
        if self.config.state:
            parts.append(self.state_encoder(_given("states", states, self.config.state))[:, :, None])
        if self.config.use_extrinsics:
            parts.append(self.extrinsics_encoder(_given("extrinsics", extrinsics, self.config.extrinsics))[:, :, None])
        return torch.cat([*parts, self.predictor_embed(latents)], 2).flatten(1, 2)

    def forward(
        self,
        latents: Float[Tensor, "B T N D"],
        actions: Float[Tensor, "B T action"],
        states: Float[Tensor, "B T state"] | None = None,
        extrinsics: Float[Tensor, "B T extrinsics"] | None = None,
        past: Past = (),
    ) -> tuple[Float[Tensor, "B T N D"], Past]:
        """Predicted tokens of each frame's successor, before normalisation, and the keys and values of all frames.

        `past`: those of the frames before the given ones, which attend to them.
        """
        frames = latents.shape[1]
        x = self.tokens(latents, actions, states, extrinsics)
        start = past[0].keys.shape[2] // self.frame_tokens if past else 0
        rotation = self.rotation(start, frames, x.device)
        seen = []
        for i, block in enumerate(self.predictor_blocks):
            x, layer = block(x, rotation, frames, past[i] if past else None)
            seen.append(layer)
        patches = rearrange(x, "b (t s) p -> b t s p", t=frames)[:, :, self.config.conditions :]
        return self.predictor_proj(self.predictor_norm(patches)), tuple(seen)


def _given(name: str, value: Tensor | None, width: int) -> Tensor:
    if value is None or value.shape[-1] != width:
        got = "none" if value is None else str(value.shape[-1])
        raise ValueError(f"This V-JEPA 2-AC takes {name} of {width} numbers, got {got}; pass {name} of that width.")
    return value
