"""How much actions steer what a world model generates. Legend: N clips, R resamples."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from learner.video_quality.image_quality import decibels, psnr

_AT_ONCE = 1 << 22  # numbers that are held at once


class Interval(NamedTuple):
    """A value, and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def delta_psnr(
    inferred: Float[Tensor, " N"], random: Float[Tensor, " N"], *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """`PSNR(x_t, prediction with the inferred actions) - PSNR(x_t, prediction with random actions)` in dB (Bruce et al.
    2024, arXiv 2402.15391, section 3), from the squared errors of both; 0 if actions do nothing.

    The interval: percentiles of a bootstrap that draws clips, each with both its errors.
    """
    errors = torch.stack([random, inferred]).double().cpu()  # [2 N]
    generator, n = torch.Generator().manual_seed(seed), errors.shape[1]
    drawn = []
    for part in torch.arange(resamples).split(max(1, _AT_ONCE // n)):
        picked = torch.randint(n, (len(part), n), generator=generator)
        worse, better = decibels(errors[:, picked].mean(-1))  # [R]
        drawn.append(better - worse)
    low, high = torch.cat(drawn).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(psnr(inferred) - psnr(random), low, high)


def action_shuffle_ratio(loss: Float[Tensor, " N"], shuffled: Float[Tensor, " N"]) -> float:
    """Mean loss with the actions of other clips over the mean loss with a clip's own; 1 if actions are ignored."""
    return float(shuffled.double().mean() / loss.double().mean().clamp_min(1e-12))
