"""Latent action model: which of a few actions leads from one frame to the next (arXiv 2402.15391, section 2.1).

The encoder sees both frames and may pass one of a few codes to the decoder, which predicts the second frame from the
first ones. The decoder is used in training only.

Legend: B batch, T frames, S pixels a side, C channels, N patches of a frame, A latent actions.
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from world_models.genie.config import LatentActionConfig
from world_models.genie.pixels import as_unit, centred, patches, require_frames
from world_models.genie.quantizers import Quantized, quantizer
from world_models.genie.st_transformer import STTransformer, initialize, positions
from world_models.vit import INIT_STD


class LatentActionModel(nn.Module):
    """ST-transformer encoder of each two frames and an action token, quantizer, ST-transformer decoder."""

    def __init__(self, config: LatentActionConfig):
        super().__init__()
        self.config = config
        tokens, pixels = config.grid**2, config.patch**2 * config.channels
        encoder, decoder = config.encoder, config.decoder
        self.quantizer = quantizer(config.quantizer)
        self.embed = nn.Linear(2 * pixels, encoder.width)
        self.encoder_positions = positions(tokens, encoder.width)
        self.action_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(encoder.width), std=INIT_STD))
        self.encoder = STTransformer(encoder, config.grid, extra=1)
        self.to_code = nn.Linear(encoder.width, self.quantizer.width)
        self.from_code = nn.Linear(self.quantizer.width, decoder.width)
        self.decoder_embed = nn.Linear(pixels, decoder.width)
        self.decoder_positions = positions(tokens, decoder.width)
        self.decoder = STTransformer(decoder, config.grid, extra=1)
        self.to_pixels = nn.Linear(decoder.width, pixels)
        initialize(self)
        nn.init.zeros_(self.to_pixels.weight)
        with torch.no_grad():
            # At first the encoder sees only what changes: codes would be those of scenes otherwise.
            self.embed.weight[:, pixels:] = 0

    def losses(self, frames: UInt8[Tensor, "B T S S C"]) -> dict[str, Tensor]:
        """`prediction`: squared error of the following frames' pixels; `commitment`: the quantizer's. Each `[B]`."""
        pixels = self._patches(frames)
        quantized = self._quantize(pixels)
        error = self._predict(pixels[:, :-1], quantized.values) - pixels[:, 1:]
        return {"prediction": error.square().mean((1, 2, 3)), "commitment": quantized.loss.mean(1)}

    forward = losses
    """What data-parallel wrappers call."""

    @torch.no_grad()
    def infer(self, frames: UInt8[Tensor, "B T S S C"]) -> Int[Tensor, "B T-1"]:
        """The latent action between each two frames."""
        return self._quantize(self._patches(frames)).ids

    @torch.no_grad()
    def predict(self, frames: UInt8[Tensor, "B T S S C"], actions: Int[Tensor, "B T"]) -> Float[Tensor, "B T N ppC"]:
        """Patches of the frames that follow, 0 to 1."""
        return self._predict(self._patches(frames), self.quantizer.lookup(actions))

    def _patches(self, frames: UInt8[Tensor, "B T S S C"]) -> Float[Tensor, "B T N ppC"]:
        require_frames(frames, self.config.size, self.config.channels)
        return patches(as_unit(frames), self.config.patch)

    def _quantize(self, pixels: Float[Tensor, "B T N ppC"]) -> Quantized:
        pairs = torch.cat([pixels.diff(dim=1), pixels[:, :-1] - 0.5], -1)
        x = self.embed(4 * pairs) + self.encoder_positions
        token = self.action_token.expand(*x.shape[:2], 1, -1).to(x.dtype)
        x = self.encoder(torch.cat([token, x], 2))
        return self.quantizer(self.to_code(x[:, :, 0]))

    def _predict(
        self, pixels: Float[Tensor, "B T N ppC"], values: Float[Tensor, "B T d"]
    ) -> Float[Tensor, "B T N ppC"]:
        x = self.decoder_embed(centred(pixels)) + self.decoder_positions
        action = self.from_code(values)[:, :, None].to(x.dtype)
        x = self.decoder(torch.cat([action, x], 2))[:, :, 1:]
        # The paper predicts frames; their change is learnt in a fraction of the updates.
        return pixels + self.to_pixels(x).float()
