"""Measures of a representation: its rank, and how well simple classifiers read labels from it.

Legend: N examples, D features, K classes.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

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
    """Share of `test` that a linear classifier of the standardised features gets right. It minimises the cross-entropy
    on `train` plus `decay / 2` times the squared weights."""
    mean, std = train.mean(0), train.std(0).clamp_min(1e-6)
    x, y = ((z - mean) / std for z in (train.float(), test.float()))
    classes = int(max(labels.max(), truth.max())) + 1
    weight = torch.zeros(train.shape[1], classes, device=x.device, requires_grad=True)
    bias = torch.zeros(classes, device=x.device, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(x @ weight + bias, labels) + decay / 2 * weight.square().sum()
        value.backward()
        return value

    solver.step(loss)
    return float(((y @ weight + bias).argmax(1) == truth).float().mean())


@torch.no_grad()
def knn_accuracy(
    train: Float[Tensor, "N D"], labels: Int[Tensor, " N"], test: Float[Tensor, "M D"], truth: Int[Tensor, " M"],
    neighbours: int = 20, temperature: float = 0.07,
) -> float:  # fmt: skip
    """Share of `test` that its nearest neighbours in `train` get right, each of which votes with the weight
    `exp(cosine similarity / temperature)` (Wu et al. 2018, arXiv 1805.01978, section 3.4). Features are centred first,
    since those of transformers share a large mean."""
    mean = train.mean(0)
    x, y = (F.normalize((z - mean).float(), dim=1) for z in (train, test))
    near, which = (y @ x.T).topk(min(neighbours, len(x)), dim=1)  # [M neighbours]
    votes = torch.zeros(len(y), int(labels.max()) + 1, device=x.device)
    votes.scatter_add_(1, labels[which], (near / temperature).exp())
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
