"""Distance of two sets of clips in the features of an encoder. Legend: N, M clips, T frames, S pixels, D features."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from world_models.frames import prepared, resized
from world_models.jepa.vjepa2 import VJEPA2


def frechet_distance(a: Float[Tensor, "N D"], b: Float[Tensor, "M D"]) -> float:
    """Squared Frechet distance of the Gaussians fitted to two sets of features (Heusel et al. 2017, arXiv 1706.08500,
    eq. 6; of clips: Unterthiner et al. 2018, arXiv 1812.01717)

        `|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))`

    The last trace is the sum of the roots of the eigenvalues of `S_a^(1/2) S_b S_a^(1/2)`, which is symmetric.
    ValueError: a set has fewer than two clips.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"A Frechet distance needs at least 2 clips of each kind, got {len(a)} and {len(b)}.")
    a, b = a.double().cpu(), b.double().cpu()
    first, second = (torch.atleast_2d(torch.cov(x.T)) for x in (a, b))
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return max(0.0, float(apart + first.trace() + second.trace() - 2 * shared))


@torch.no_grad()
def clip_features(encoder: VJEPA2, frames: UInt8[Tensor, "N T H W C"]) -> Float[Tensor, "N D"]:
    """The mean token of each clip; frames are resized to what the target encoder takes."""
    config = encoder.config.encoder
    seen = resized(frames.flatten(0, 1), config.size).unflatten(0, frames.shape[:2])
    return encoder.encode(prepared(seen, config.channels)).mean(1).float()
