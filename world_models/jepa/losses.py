"""Targets and losses in latent space, a number for each image or clip.

Legend: B batch, M target masks, C context masks, R rows, N tokens, D width.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from world_models.jepa.config import SpreadConfig

SPREAD = ("variance", "covariance")
"""Names of the terms of `spread`."""


def normalized(x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
    """Layer norm over features, without gain and shift: what is predicted."""
    return F.layer_norm(x.float(), x.shape[-1:])


def smooth_l1(prediction: Float[Tensor, "R N D"], target: Float[Tensor, "R N D"]) -> Float[Tensor, " R"]:
    """Smooth L1 with beta 1, the mean over tokens and features (I-JEPA's program; the paper writes squared L2)."""
    return F.smooth_l1_loss(prediction.float(), target, reduction="none").mean((1, 2))


def l1(prediction: Float[Tensor, "R N D"], target: Float[Tensor, "R N D"]) -> Float[Tensor, " R"]:
    """Absolute error, the mean over tokens and features (V-JEPA 2, eq. 1)."""
    return (prediction.float() - target).abs().mean((1, 2))


def spread_losses(tokens: Float[Tensor, "R N D"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Variance and covariance terms of VICReg (Bardes et al. 2022, arXiv 2105.04906, eq. 1 and 3), of all tokens of a
    batch: the mean of `max(0, 1 - std)` over features, and the sum of the squared covariances of different features
    divided by their number. Both are 0 if features vary by 1 and independently; the first is 1 where all tokens are
    alike. Between processes nothing is shared: each spreads its own tokens."""
    x = tokens.float().flatten(0, 1)
    x = x - x.mean(0)
    count = max(1, len(x) - 1)
    variance = x.square().sum(0) / count  # [D]
    with torch.autocast(x.device.type, enabled=False):  # under which products are of bfloat16
        covariance = x.T @ x / count
    off = covariance.square().sum() - covariance.diagonal().square().sum()
    return F.relu(1 - (variance + 1e-4).sqrt()).mean(), off / x.shape[1]


def spread(contexts: Iterable[Tensor], config: SpreadConfig, rows: int) -> dict[str, Tensor]:
    """Both terms times their weights, for each of `rows` images: the sum of those of all tokens `[R N D]` and those of
    their means (as in C-JEPA), the mean over `contexts`; none without weights."""
    if not (config.variance or config.covariance):
        return {}
    terms = [torch.stack(spread_losses(part)) for x in contexts for part in (x, x.float().mean(1, keepdim=True))]
    variance, covariance = 2 * torch.stack(terms).mean(0)
    weighted = config.variance * variance, config.covariance * covariance
    return {name: term.expand(rows) for name, term in zip(SPREAD, weighted, strict=True)}
