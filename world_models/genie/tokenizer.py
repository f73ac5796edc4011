"""Video tokenizer: frames to discrete tokens and back (arXiv 2402.15391, section 2.1), causal in time.

Legend: B batch, T frames, S pixels a side, C channels, N tokens of a frame, K codes.
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from world_models.genie.config import TokenizerConfig
from world_models.genie.pixels import as_bytes, as_unit, centred, patches, require_frames, unpatched
from world_models.genie.quantizers import Quantized, quantizer
from world_models.genie.st_transformer import Past, STTransformer, initialize, positions


class VideoTokenizer(nn.Module):
    """ST-transformer encoder, quantizer, ST-transformer decoder."""

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        self.config = config
        tokens, pixels = config.grid**2, config.patch**2 * config.channels
        encoder, decoder = config.encoder, config.decoder
        self.quantizer = quantizer(config.quantizer)
        self.embed = nn.Linear(pixels, encoder.width)
        self.encoder_positions = positions(tokens, encoder.width)
        self.encoder = STTransformer(encoder, config.grid)
        self.to_code = nn.Linear(encoder.width, self.quantizer.width)
        self.from_code = nn.Linear(self.quantizer.width, decoder.width)
        self.decoder_positions = positions(tokens, decoder.width)
        self.decoder = STTransformer(decoder, config.grid)
        self.to_pixels = nn.Linear(decoder.width, pixels)
        initialize(self)
        nn.init.zeros_(self.to_pixels.weight)

    def losses(self, frames: UInt8[Tensor, "B T S S C"]) -> dict[str, Tensor]:
        """`reconstruction`: squared error of pixels from 0 to 1; `commitment`: the quantizer's. Each `[B]`."""
        require_frames(frames, self.config.size, self.config.channels)
        pixels = as_unit(frames)
        quantized = self.quantize(pixels)
        error = self.decoded(quantized.values) - patches(pixels, self.config.patch)
        return {"reconstruction": error.square().mean((1, 2, 3)), "commitment": quantized.loss.mean((1, 2))}

    forward = losses
    """What data-parallel wrappers call."""

    def quantize(self, pixels: Float[Tensor, "B T S S C"]) -> Quantized:
        """Codes of every patch."""
        x = self.embed(centred(patches(pixels, self.config.patch))) + self.encoder_positions
        return self.quantizer(self.to_code(self.encoder(x)))

    def decoded(self, values: Float[Tensor, "B T N d"]) -> Float[Tensor, "B T N ppC"]:
        """Pixels of patches, 0 to 1, from the values of their codes."""
        x = self.from_code(values) + self.decoder_positions
        return self.to_pixels(self.decoder(x)).float() + 0.5

    @torch.no_grad()
    def encode(self, frames: UInt8[Tensor, "B T S S C"]) -> Int[Tensor, "B T N"]:
        """Tokens of clips. ValueError: they are not of the configured size."""
        require_frames(frames, self.config.size, self.config.channels)
        return self.quantize(as_unit(frames)).ids

    @torch.no_grad()
    def decode(self, tokens: Int[Tensor, "B T N"]) -> UInt8[Tensor, "B T S S C"]:
        """Frames of tokens."""
        return self._frames(self.decoded(self.quantizer.lookup(tokens)))

    @torch.no_grad()
    def extend(
        self, tokens: Int[Tensor, "B T N"], past: Past | None, time: int
    ) -> tuple[UInt8[Tensor, "B T S S C"], Past]:
        """Frames of tokens that follow `time` earlier frames, and the keys and values of all."""
        x = self.from_code(self.quantizer.lookup(tokens)) + self.decoder_positions
        x, seen = self.decoder.extend(x, past, time)
        return self._frames(self.to_pixels(x).float() + 0.5), seen

    def _frames(self, pixels: Float[Tensor, "B T N ppC"]) -> UInt8[Tensor, "B T S S C"]:
        return as_bytes(unpatched(pixels, self.config.patch, self.config.grid))
