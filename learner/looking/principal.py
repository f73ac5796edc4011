"""Features as colours. Legend: N tokens, D features."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

ENDS = 0.01, 0.99
"""Quantiles of a component that become 0 and 1: a few outliers leave the others their colours."""


class Colours(NamedTuple):
    """Tokens as red, green and blue from 0 to 1."""

    values: Float[Tensor, "N 3"]
    shares: tuple[float, float, float]
    """Of the variance of the tokens, that of each component."""


@torch.no_grad()
def principal_colours(tokens: Float[Tensor, "N D"]) -> Colours:
    """The first three principal components of tokens, fitted to all of them together (as in DINOv2, Oquab et al. 2023,
    arXiv 2304.07193, figure 1, here without its threshold for the background). Each spans its own range of `ENDS`; its
    sign is such that the largest of its loadings is positive. A component that does not vary is 0.5 everywhere."""
    x = tokens.double().cpu()
    x = x - x.mean(0)
    variances, basis = torch.linalg.eigh(x.T @ x / max(1, len(x) - 1))  # ascending
    count = min(3, x.shape[1])
    first = basis.flip(1)[:, :count]
    largest = first.gather(0, first.abs().argmax(0, keepdim=True))
    found = x @ (first * largest.sign())
    total = float(variances.clamp_min(0).sum())
    shares = variances.clamp_min(0).flip(0)[:count] / max(total, 1e-300)
    low, high = (_quantile(found, share) for share in ENDS)
    varies = high - low > 1e-9 * max(1.0, float(x.abs().max()))
    scaled = torch.where(varies, (found - low) / (high - low).clamp_min(1e-300), torch.full_like(found, 0.5))
    missing = 3 - count
    colours = torch.nn.functional.pad(scaled.clamp(0, 1), (0, missing), value=0.5)
    held = [float(share) for share in shares] + [0.0] * missing
    return Colours(colours.float(), (held[0], held[1], held[2]))


def _quantile(x: Float[Tensor, "N K"], share: float) -> Float[Tensor, " K"]:
    """By sorting: torch.quantile refuses large inputs."""
    place = share * (len(x) - 1)
    ordered, low = x.sort(0).values, int(place)
    high = min(low + 1, len(x) - 1)
    return torch.lerp(ordered[low], ordered[high], place - low)
