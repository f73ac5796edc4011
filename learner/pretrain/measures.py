"""Measures of a representation: its rank, and how well simple classifiers read labels from it.

Legend: N examples, D features, K classes.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from learner.probes.knn import knn_scores
from learner.probes.linear import fit_linear

EPS = 1e-7


def effective_rank(features: Float[Tensor, "N D"]) -> float:
    """RankMe (Garrido et al. 2023, arXiv 2210.02885, eq. 1-2): `exp(-sum_k p_k log p_k)`, where
    `p_k = s_k / sum(s) + eps` and `s` are the singular values of the features. 1 if all are alike: collapse."""
    singular = torch.linalg.svdvals(features.double().cpu())
    shares = singular / singular.sum().clamp_min(EPS) + EPS
    return float(torch.exp(-(shares * shares.log()).sum()))


def linear_accuracy(
    train: Float[Tensor, "N D"], labels: Int[Tensor, " N"], test: Float[Tensor, "M D"], truth: Int[Tensor, " M"],
    decay: float = 1e-3,
) -> float:  # fmt: skip
    """Share of `test` that the linear probe with this penalty gets right (`learner.probes.linear`)."""
    classes = int(max(labels.max(), truth.max())) + 1
    scores = fit_linear(train, labels, classes, (decay,))(test)[0]
    return float((scores.argmax(1) == truth).float().mean())


def knn_accuracy(
    train: Float[Tensor, "N D"], labels: Int[Tensor, " N"], test: Float[Tensor, "M D"], truth: Int[Tensor, " M"],
    neighbours: int = 20, temperature: float = 0.07,
) -> float:  # fmt: skip
    """Share of `test` that its nearest neighbours in `train` get right (`learner.probes.knn`)."""
    votes = knn_scores(train, labels, int(labels.max()) + 1, test, neighbours, temperature)
    return float((votes.argmax(1) == truth).float().mean())


@torch.no_grad()
def linear_r2(
    train: Float[Tensor, "N D"], values: Float[Tensor, "N K"], test: Float[Tensor, "M D"], truth: Float[Tensor, "M K"],
    decay: float = 1e-3,
) -> float:  # fmt: skip
    """Share of the variance of `truth` that a linear map of the standardised features explains, the mean over those of
    its numbers that vary (NaN if none does); at most 1, below 0 if the mean of `truth` says more. It minimises the mean
    squared error on `train` plus `decay` times the squared weights."""
    mean, std = train.double().mean(0), train.double().std(0).clamp_min(1e-6)
    x, y = ((z.double() - mean) / std for z in (train, test))
    center = values.double().mean(0)
    gram = x.T @ x / len(x) + decay * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    told = y @ torch.linalg.solve(gram, x.T @ (values.double() - center) / len(x)) + center
    varies = truth.var(0) > 1e-12
    left = (told - truth).square().mean(0)[varies] / truth.double().var(0, correction=0)[varies]
    return float((1 - left).mean())
