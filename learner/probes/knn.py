"""k nearest neighbours. Legend: N examples of training, M others, D features, K classes."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

_AT_ONCE = 1024


@torch.no_grad()
def knn_scores(
    train: Float[Tensor, "N D"], labels: Int[Tensor, " N"], classes: int, features: Float[Tensor, "M D"],
    neighbours: int = 20, temperature: float = 0.07,
) -> Float[Tensor, "M K"]:  # fmt: skip
    """Votes for each class: each of the nearest `neighbours` votes with the weight `exp(cosine similarity /
    temperature)` (Wu et al. 2018, arXiv 1805.01978, section 3.4; Caron et al. 2021, arXiv 2104.14294). The features of
    `train` are centred first, and the others by as much, since those of transformers share a large mean."""
    mean = train.mean(0)
    bank, votes = F.normalize((train - mean).float(), dim=1), []
    for part in features.split(_AT_ONCE):
        near, which = (F.normalize((part - mean).float(), dim=1) @ bank.T).topk(min(neighbours, len(bank)), dim=1)
        # The largest weight of a row is 1: no temperature overflows.
        weights = ((near - near[:, :1]) / temperature).exp()
        votes.append(torch.zeros(len(part), classes, device=part.device).scatter_add_(1, labels[which], weights))
    return torch.cat(votes)
