"""Linear probes: L2-regularised logistic regression of standardised features, one for each strength of the penalty, all
trained side by side.

Legend: N examples, D features, R their rank at most, G strengths, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

DECAYS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Penalties to choose from."""
_SMALLEST = 1e-6
_EXACT = 2_000_000
"""Numbers in the features up to which they are taken in double precision and to the minimum. Of larger ones there are
fewer passes: those of weak penalties then stop early, which is a penalty of its own."""
_PASSES = {True: 500, False: 100}


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Logits `(x - mean) / std @ weight + bias`, one set for each penalty: weight `[G D K]`, bias `[G K]`."""

    mean: Float[Tensor, " D"]
    std: Float[Tensor, " D"]
    weight: Float[Tensor, "G D K"]
    bias: Float[Tensor, "G K"]

    def __call__(self, features: Float[Tensor, "N D"]) -> Float[Tensor, "G N K"]:
        return (features.float() - self.mean) / self.std @ self.weight + self.bias[:, None]


def fit_linear(
    features: Float[Tensor, "N D"],
    labels: Int[Tensor, " N"],
    classes: int,
    decays: Sequence[float] = DECAYS,
) -> Linear:
    """For each penalty, what minimises the mean cross-entropy plus `decay / 2` times the squared weights. No draws.

    All share each pass over the features. The minimum lies in the space that the features span, and in the basis where
    their covariance plus the penalty is the identity all problems are about equally well conditioned, so that L-BFGS
    takes few passes.
    """
    exact = features.numel() <= _EXACT
    x = features.to(torch.float64 if exact else torch.float32)
    mean, std = x.mean(0), x.std(0)
    std = torch.where(std > _SMALLEST, std, 1.0)  # a constant feature says nothing
    x = (x - mean) / std
    basis, variances = _basis(x)  # [D R], [R]
    z = x @ basis  # [N R]
    penalty = torch.tensor(decays, dtype=x.dtype, device=x.device)
    scale = (variances / 4 + penalty[:, None]).rsqrt()[..., None]  # [G R 1]
    free = torch.zeros(len(decays), z.shape[1], classes, dtype=x.dtype, device=x.device, requires_grad=True)
    bias = torch.zeros(len(decays), classes, dtype=x.dtype, device=x.device, requires_grad=True)
    solver = torch.optim.LBFGS(
        [free, bias],
        max_iter=_PASSES[exact],
        tolerance_grad=1e-9 if exact else 1e-5,
        tolerance_change=1e-14 if exact else 1e-8,
        line_search_fn="strong_wolfe",
    )
    targets = labels.repeat(len(decays))

    def loss() -> Tensor:
        solver.zero_grad()
        weight = scale * free
        logits = z @ weight + bias[:, None]  # [G N K]
        entropy = F.cross_entropy(logits.flatten(0, 1), targets, reduction="sum") / len(z)
        value = entropy + (penalty / 2 * weight.square().sum((1, 2))).sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    weight = basis @ (scale * free)
    return Linear(mean=mean.float(), std=std.float(), weight=weight.detach().float(), bias=bias.detach().float())


def _basis(x: Float[Tensor, "N D"]) -> tuple[Float[Tensor, "D R"], Float[Tensor, " R"]]:
    """Orthonormal directions that span the features, and their variances, by the smaller of the two Gram matrices."""
    count, width = x.shape
    if width <= count:
        variances, basis = torch.linalg.eigh(x.T @ x / count)
        return basis, variances.clamp_min(0)
    variances, left = torch.linalg.eigh(x @ x.T / count)
    kept = variances > 1e-6 * variances[-1].clamp_min(1e-30)
    variances, left = variances[kept], left[:, kept]
    basis = x.T @ (left / (count * variances).sqrt())
    return basis, variances
