"""Latent action model: which of a few actions leads from one frame to the next (arXiv 2402.15391, section 2.1).

A decoder predicts the next frame from earlier ones and one of K actions; an encoder infers the action from both. The
decoder is used in training only. In the paper the action is the code of a VQ-VAE with K codes. So few can be tried one
by one, which finds the actions where that one finds scenes: the posterior of an action is

    p(k | x, x') ~ exp(-|x' - decoder(x, k)|^2 / (temperature * mean error of the best actions))            (1)

the decoder learns to predict x' with an action drawn from it, and the encoder learns to tell the posterior. An action
that is hardly used becomes a variant of the one with the largest share of the error (as Linde, Buzo and Gray 1980 split
the codes of a vector quantiser).

Legend: B batch, T frames, S pixels a side, C channels, N patches of a frame, K actions, D width.
"""

import torch
import torch.distributed as dist
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from world_models.genie.config import LatentActionConfig
from world_models.genie.pixels import as_unit, centred, patches, require_frames
from world_models.genie.st_transformer import STTransformer, initialize

KEPT = 0.95
"""Share of the averages of actions' usage and error that an update keeps."""
UNUSED = 0.1
"""An action with less than this share of the mean usage is replaced."""
SPREAD = 0.5
"""Deviation of a variant's embedding from that of the action it is split from; fresh embeddings have 1."""


class LatentActionModel(nn.Module):
    """ST-transformer encoder of each two frames, ST-transformer decoder of frames and actions.

    Neither knows absolute positions: an action is what happens, not where.
    """

    usage: Tensor
    share: Tensor
    calls: Tensor

    def __init__(self, config: LatentActionConfig):
        super().__init__()
        self.config = config
        pixels, encoder, decoder = config.patch**2 * config.channels, config.encoder, config.decoder
        self.embed = nn.Linear(2 * pixels, encoder.width)
        self.neighbours = nn.Conv2d(encoder.width, encoder.width, 3, padding=1)
        self.encoder = STTransformer(encoder, config.grid)
        self.logits = nn.Linear(encoder.width, config.actions)
        self.decoder_embed = nn.Linear(pixels, decoder.width)
        self.actions = nn.Embedding(config.actions, decoder.width)
        self.decoder = STTransformer(decoder, config.grid)
        self.to_pixels = nn.Linear(decoder.width, pixels)
        self.register_buffer("usage", torch.full((config.actions,), 1 / config.actions))
        self.register_buffer("share", torch.zeros(config.actions))  # of the error
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        initialize(self)
        nn.init.zeros_(self.to_pixels.weight)

    def losses(self, frames: UInt8[Tensor, "B T S S C"], noise: Float[Tensor, "B T-1"]) -> dict[str, Tensor]:
        """`prediction`: squared error of the following frames' pixels, 0 to 1, with actions that `noise` (uniform, 0 to
        1) draws from their posterior; `inference`: cross-entropy of the encoder. Each `[B]`."""
        pixels = self._patches(frames)
        embedded, changes = self.decoder_embed(centred(pixels[:, :-1])), pixels.diff(dim=1)
        posterior = self._posterior(embedded, changes)
        actions = (posterior.cumsum(-1) < noise[..., None]).sum(-1).clamp_max(self.config.actions - 1)
        error = self._changes(embedded, actions) - changes
        inference = -(posterior * self._logits(pixels).float().log_softmax(-1)).sum(-1)
        return {"prediction": error.square().mean((1, 2, 3)), "inference": inference.mean(1)}

    forward = losses
    """What data-parallel wrappers call."""

    @torch.no_grad()
    def infer(self, frames: UInt8[Tensor, "B T S S C"]) -> Int[Tensor, "B T-1"]:
        """The likeliest latent action between each two frames; in longer clips than those of training, from as many
        frames as those have."""
        pixels, length = self._patches(frames), self.config.frames
        if pixels.shape[1] <= length:
            return self._logits(pixels).argmax(-1)
        windows = pixels.unfold(1, length, 1).movedim(-1, 2)  # [B W length N ppC]
        actions = self._logits(windows.flatten(0, 1)).argmax(-1).unflatten(0, windows.shape[:2])
        return torch.cat([actions[:, 0], actions[:, 1:, -1]], 1)

    @torch.no_grad()
    def predict(self, frames: UInt8[Tensor, "B T S S C"], actions: Int[Tensor, "B T"]) -> Float[Tensor, "B T N ppC"]:
        """Patches of the frames that follow, 0 to 1."""
        pixels = self._patches(frames)
        # The paper predicts frames; their change is learnt in a fraction of the updates.
        return pixels + self._changes(self.decoder_embed(centred(pixels)), actions)

    def _patches(self, frames: UInt8[Tensor, "B T S S C"]) -> Float[Tensor, "B T N ppC"]:
        require_frames(frames, self.config.size, self.config.channels)
        return patches(as_unit(frames), self.config.patch)

    def _logits(self, pixels: Float[Tensor, "B T N ppC"]) -> Float[Tensor, "B T-1 K"]:
        """Each patch also gets its neighbours: what moves from one to the next is seen without attention."""
        x = self.embed(torch.cat([4 * pixels.diff(dim=1), centred(pixels[:, :-1])], -1))  # [B T N D]
        grid = rearrange(x, "b t (h w) d -> (b t) d h w", h=self.config.grid)
        near = rearrange(self.neighbours(grid), "(b t) d h w -> b t (h w) d", b=len(pixels))
        return self.logits(self.encoder(x + near)).mean(2)

    def _changes(self, embedded: Float[Tensor, "B T N D"], actions: Int[Tensor, "B T"]) -> Float[Tensor, "B T N ppC"]:
        """What actions add to embedded frames."""
        return self.to_pixels(self.decoder(embedded + self.actions(actions)[:, :, None])).float()

    @torch.no_grad()
    def _posterior(
        self, embedded: Float[Tensor, "B T N D"], changes: Float[Tensor, "B T N ppC"]
    ) -> Float[Tensor, "B T K"]:
        """Equation 1."""
        errors = []
        for action in range(self.config.actions):
            actions = torch.full(changes.shape[:2], action, device=changes.device)
            errors.append((self._changes(embedded, actions) - changes).square().mean((2, 3)))
        error = torch.stack(errors, -1)
        scale = self.config.temperature * error.amin(-1).mean().clamp_min(torch.finfo(error.dtype).tiny)
        posterior = (-error / scale).softmax(-1)
        if self.training:
            self._replace_unused(posterior.mean((0, 1)), (posterior * error).mean((0, 1)))
        return posterior

    def _replace_unused(self, usage: Float[Tensor, " K"], share: Float[Tensor, " K"]) -> None:
        """Follow the usage of actions and their shares of the error; split one if another is unused."""
        for average, now in ((self.usage, usage), (self.share, share)):
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(now)
                now /= dist.get_world_size()
            average.lerp_(now, 1 - KEPT)
        self.calls += 1
        unused, worst = int(self.usage.argmin()), int(self.share.argmax())
        if float(self.usage[unused]) < UNUSED / self.config.actions:
            generator = torch.Generator().manual_seed(int(self.calls))  # the same in all processes
            weight = self.actions.weight
            variant = SPREAD * torch.randn(weight.shape[1], generator=generator)
            weight[unused] = weight[worst] + variant.to(weight.device)
            for average in (self.usage, self.share):
                average[[unused, worst]] = average[worst] / 2
