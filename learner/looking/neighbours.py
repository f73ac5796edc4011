"""Which examples are alike. Legend: Q queries, M examples, D features, K neighbours."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


@torch.no_grad()
def nearest_by_cosine(
    queries: Float[Tensor, "Q D"], bank: Float[Tensor, "M D"], count: int, same: Bool[Tensor, "Q M"] | None = None
) -> tuple[Float[Tensor, "Q K"], Int[Tensor, "Q K"]]:
    """Cosine similarities of the `count` nearest, largest first, and which they are; fewer if some query has fewer.
    Features are centred by the mean of the bank, since those of transformers share a large one. `same`: pairs that do
    not count."""
    mean = bank.float().mean(0)
    near = F.normalize(queries.float() - mean, dim=1) @ F.normalize(bank.float() - mean, dim=1).T
    if same is not None:
        near = near.masked_fill(same, -torch.inf)
        count = min(count, int((~same).sum(1).min()))
    similarity, which = near.topk(min(count, len(bank)), dim=1)
    return similarity, which


@torch.no_grad()
def nearest_by_distance(queries: Float[Tensor, "Q D"], bank: Float[Tensor, "M D"], power: float) -> Int[Tensor, " Q"]:
    """The nearest of the bank by the sum of absolute (`power` 1) or squared (2) differences."""
    return torch.cdist(queries.float(), bank.float(), p=power).argmin(1)
