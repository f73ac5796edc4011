"""Measures of a video tokenizer. Legend: B clips of a batch, T frames, N tokens of a frame."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from learner.video_quality.image_quality import psnr, squared_error
from learner.video_quality.information import counts, perplexity
from world_models.genie.tokenizer import VideoTokenizer


@torch.no_grad()
def tokenizer_measures(model: VideoTokenizer, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:
    """`tokenizer_psnr`: frames through tokens and back; `codebook_perplexity`, and `codebook_used`, the number of codes
    that occur at all."""
    tokens, errors = zip(*(_coded(model, batch["frames"]) for batch in batches), strict=True)
    return coding(torch.cat(tokens), torch.cat(errors), model.config.quantizer.size)


def coding(tokens: Int[Tensor, "B T N"], errors: Float[Tensor, "B T"], size: int) -> dict[str, float]:
    """The measures, from tokens out of `size` and from the errors of the frames that they stand for."""
    used = counts(tokens, size)
    return {
        "tokenizer_psnr": psnr(errors),
        "codebook_perplexity": perplexity(used),
        "codebook_used": float((used > 0).sum()),
    }


def _coded(model: VideoTokenizer, frames: UInt8[Tensor, "B T S S C"]) -> tuple[Tensor, Tensor]:
    tokens = model.encode(frames)
    return tokens, squared_error(model.decode(tokens), frames)
