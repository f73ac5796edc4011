"""What discrete codes tell. Legend: N observations, K codes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def counts(codes: Int[Tensor, "..."], size: int) -> Int[Tensor, " {size}"]:
    """How often each of `size` codes occurs."""
    return torch.bincount(codes.flatten(), minlength=size)


def perplexity(counted: Int[Tensor, " K"]) -> float:
    """`exp(H)`, H the entropy of the codes' shares: K if all are used alike, 1 if only one is used."""
    return float(torch.exp(_entropy(counted)))


def normalized_mutual_information(a: Int[Tensor, " N"], b: Int[Tensor, " N"]) -> float:
    """`2 I(a; b) / (H(a) + H(b))` of two labellings: 1 if each tells the other, 0 if neither does (Witten & Frank 2005,
    "Data mining", section 7.1: symmetric uncertainty). 0 if there are no observations, or only one label."""
    if not len(a):
        return 0.0
    rows, columns = int(a.max()) + 1, int(b.max()) + 1
    joint = counts(a * columns + b, rows * columns).view(rows, columns)
    apart = _entropy(joint.sum(1)) + _entropy(joint.sum(0))
    shared = apart - _entropy(joint.flatten())
    return float((2 * shared / apart).clamp(0, 1)) if apart > 0 else 0.0


def _entropy(counted: Int[Tensor, " K"]) -> Float[Tensor, ""]:
    """In nats."""
    return torch.special.entr(counted.double() / counted.sum().clamp_min(1)).sum()
