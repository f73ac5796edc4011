"""Targets and losses in latent space, a number for each image or clip.

Legend: B batch, M target masks, C context masks, N target tokens, D width.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def normalized(x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
    """Layer norm over features, without gain and shift: what is predicted."""
    return F.layer_norm(x.float(), x.shape[-1:])


def smooth_l1(prediction: Float[Tensor, "R N D"], target: Float[Tensor, "R N D"]) -> Float[Tensor, " R"]:
    """Smooth L1 with beta 1, the mean over tokens and features (I-JEPA's program; the paper writes squared L2)."""
    return F.smooth_l1_loss(prediction.float(), target, reduction="none").mean((1, 2))


def l1(prediction: Float[Tensor, "R N D"], target: Float[Tensor, "R N D"]) -> Float[Tensor, " R"]:
    """Absolute error, the mean over tokens and features (V-JEPA 2, eq. 1)."""
    return (prediction.float() - target).abs().mean((1, 2))
