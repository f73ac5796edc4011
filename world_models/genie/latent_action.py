"""Latent action model: which of a few actions leads from one frame to the next (arXiv 2402.15391, section 2.1).

A decoder predicts the next frame from earlier ones and one of K actions; an encoder infers the action from both. The
decoder is used in training only. In the paper the action is the code of a VQ-VAE with K codes. So few can be tried one
by one, which learns from a hundredth of the data and does not collapse: the posterior of an action is

    p(k | x, x') ~ exp(-|x' - decoder(x, k)|^2 / (temperature * mean error)) / usage(k)^balance            (1)

the decoder learns to predict x' with an action drawn from it, and the encoder learns to tell the posterior.

Legend: B batch, T frames, S pixels a side, C channels, N patches of a frame, K actions, D width.
"""

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from world_models.genie.config import LatentActionConfig
from world_models.genie.pixels import as_unit, centred, patches, require_frames
from world_models.genie.st_transformer import STTransformer, initialize
from world_models.vit import INIT_STD

USAGE_KEPT = 0.95
"""Share of the average of an action's usage that an update keeps."""
RAREST = 1e-3
"""Actions that are used less are favoured no more than with this usage."""


class LatentActionModel(nn.Module):
    """ST-transformer encoder of each two frames and an action token, ST-transformer decoder with an action token.

    Neither knows absolute positions: an action is what happens, not where.
    """

    usage: Tensor

    def __init__(self, config: LatentActionConfig):
        super().__init__()
        self.config = config
        pixels, encoder, decoder = config.patch**2 * config.channels, config.encoder, config.decoder
        self.embed = nn.Linear(2 * pixels, encoder.width)
        self.action_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(encoder.width), std=INIT_STD))
        self.encoder = STTransformer(encoder, config.grid, extra=1)
        self.logits = nn.Linear(encoder.width, config.actions)
        self.decoder_embed = nn.Linear(pixels, decoder.width)
        self.actions = nn.Embedding(config.actions, decoder.width)
        self.decoder = STTransformer(decoder, config.grid, extra=1)
        self.to_pixels = nn.Linear(decoder.width, pixels)
        self.register_buffer("usage", torch.full((config.actions,), 1 / config.actions))
        initialize(self)
        nn.init.zeros_(self.to_pixels.weight)

    def losses(self, frames: UInt8[Tensor, "B T S S C"], noise: Float[Tensor, "B T-1"]) -> dict[str, Tensor]:
        """`prediction`: squared error of the following frames' pixels, 0 to 1, with actions that `noise` (uniform, 0 to
        1) draws from their posterior; `inference`: cross-entropy of the encoder. Each `[B]`."""
        pixels = self._patches(frames)
        posterior = self._posterior(pixels)
        actions = (posterior.cumsum(-1) < noise[..., None]).sum(-1).clamp_max(self.config.actions - 1)
        error = self._predict(pixels[:, :-1], actions) - pixels[:, 1:]
        inference = -(posterior * self._logits(pixels).float().log_softmax(-1)).sum(-1)
        return {"prediction": error.square().mean((1, 2, 3)), "inference": inference.mean(1)}

    forward = losses
    """What data-parallel wrappers call."""

    @torch.no_grad()
    def infer(self, frames: UInt8[Tensor, "B T S S C"]) -> Int[Tensor, "B T-1"]:
        """The likeliest latent action between each two frames."""
        return self._logits(self._patches(frames)).argmax(-1)

    @torch.no_grad()
    def predict(self, frames: UInt8[Tensor, "B T S S C"], actions: Int[Tensor, "B T"]) -> Float[Tensor, "B T N ppC"]:
        """Patches of the frames that follow, 0 to 1."""
        return self._predict(self._patches(frames), actions)

    def _patches(self, frames: UInt8[Tensor, "B T S S C"]) -> Float[Tensor, "B T N ppC"]:
        require_frames(frames, self.config.size, self.config.channels)
        return patches(as_unit(frames), self.config.patch)

    def _logits(self, pixels: Float[Tensor, "B T N ppC"]) -> Float[Tensor, "B T-1 K"]:
        pairs = torch.cat([4 * pixels.diff(dim=1), centred(pixels[:, :-1])], -1)
        return self.logits(self.encoder(_beside(self.action_token, self.embed(pairs)))[:, :, 0])

    def _predict(self, pixels: Float[Tensor, "B T N ppC"], actions: Int[Tensor, "B T"]) -> Float[Tensor, "B T N ppC"]:
        x = _beside(self.actions(actions)[:, :, None], self.decoder_embed(centred(pixels)))
        # The paper predicts frames; their change is learnt in a fraction of the updates.
        return pixels + self.to_pixels(self.decoder(x)[:, :, 1:]).float()

    @torch.no_grad()
    def _posterior(self, pixels: Float[Tensor, "B T N ppC"]) -> Float[Tensor, "B T-1 K"]:
        """Equation 1."""
        c = self.config
        errors = []
        for action in range(c.actions):
            actions = torch.full(pixels[:, :-1].shape[:2], action, device=pixels.device)
            errors.append((self._predict(pixels[:, :-1], actions) - pixels[:, 1:]).square().mean((2, 3)))
        error = torch.stack(errors, -1)
        scale = c.temperature * error.mean().clamp_min(torch.finfo(error.dtype).tiny)
        favoured = c.balance * self.usage.clamp_min(RAREST).log()
        posterior = (-error / scale - favoured).softmax(-1)
        if self.training:
            usage = posterior.mean((0, 1))
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(usage)
                usage /= dist.get_world_size()
            self.usage.lerp_(usage, 1 - USAGE_KEPT)
        return posterior


def _beside(token: Tensor, x: Float[Tensor, "B T N D"]) -> Float[Tensor, "B T N+1 D"]:
    """`x` with another token in each frame, before the others."""
    return torch.cat([token.expand(*x.shape[:2], 1, -1).to(x.dtype), x], 2)
