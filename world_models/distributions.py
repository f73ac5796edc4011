"""Output distributions of DreamerV3 as small classes over logits, and the squashing functions they need.

Shapes: `...` batch axes, S latents, C classes, A action dims, K bins. Everything is computed in float32.
"""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from world_models.chunks import in_chunks


def symlog(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """`sign(x) ln(|x| + 1)` (Hafner et al. 2025, eq. 9)."""
    return torch.sign(x) * torch.log1p(torch.abs(x))


def symexp(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """`sign(x) (exp(|x|) - 1)`, the inverse of `symlog` (eq. 9)."""
    return torch.sign(x) * torch.expm1(torch.abs(x))


def two_hot_bins(bins: int, device: torch.device | None = None) -> Float[Tensor, " K"]:
    """Exponentially spaced bin positions `symexp(-20 .. 20)`, exactly antisymmetric (eq. 10)."""
    half = symexp(torch.linspace(-20, 0, (bins + 1) // 2, dtype=torch.float32, device=device))
    mirrored = -half[:-1] if bins % 2 else -half
    return torch.cat([half, mirrored.flip(0)])


class _CrossEntropy(torch.autograd.Function):
    """`-sum_j weight_j log_softmax(logits)[index_j]`; its gradient takes the probabilities as they were predicted."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, probs: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(probs, index, weight)
        largest, at = logits.max(-1, keepdim=True)
        log_sum = largest - probs.gather(-1, at).log()  # logsumexp of the logits, without another pass
        return (weight * (log_sum - logits.gather(-1, index))).sum(-1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        probs, index, weight = ctx.saved_tensors
        weight = weight * grad[..., None]
        return (probs * weight.sum(-1, keepdim=True)).scatter_add_(-1, index, -weight), None, None, None


class TwoHot:
    """Regression as classification over exponentially spaced bins (eqs. 10, 11).

    Targets are interpolated linearly in raw, not symlog, space; an out-of-range target is assigned to the end bin.
    """

    def __init__(self, logits: Float[Tensor, "... K"], bins: Float[Tensor, " K"]):
        self.logits = logits.float()
        self.bins = bins

    @cached_property
    def log_probs(self) -> Float[Tensor, "... K"]:
        return F.log_softmax(self.logits, -1)

    @cached_property
    def probs(self) -> Float[Tensor, "... K"]:
        """As constants, without gradient."""
        return torch.softmax(self.logits.detach(), -1)

    def pred(self) -> Float[Tensor, "..."]:
        """Expectation, summed in mirrored pairs so that symmetric probabilities give exactly zero."""
        constant = not (torch.is_grad_enabled() and self.logits.requires_grad)
        probs = self.probs if constant else torch.softmax(self.logits, -1)
        flat = probs.reshape(-1, probs.shape[-1])
        return in_chunks(self._expectation, 1024, flat).view(self.logits.shape[:-1])

    def _expectation(self, probs: Float[Tensor, "N K"]) -> Float[Tensor, " N"]:
        half = probs.shape[-1] // 2
        return (probs[:, -half:] - probs[:, :half].flip(-1)) @ self.bins[-half:]

    def encode(self, target: Float[Tensor, "..."]) -> tuple[Int[Tensor, "... 2"], Float[Tensor, "... 2"]]:
        """Two-hot encoding of `target` (raw units): two bins and their weights."""
        target = target.detach()
        last = len(self.bins) - 1
        upper = torch.searchsorted(self.bins, target.contiguous(), right=True)
        lower = (upper - 1).clamp(0, last)
        upper = upper.clamp(0, last)
        below, above = (target - self.bins[lower]).abs(), (self.bins[upper] - target).abs()
        outside = lower == upper
        below, above = torch.where(outside, 1.0, below), torch.where(outside, 1.0, above)
        weight = torch.stack([above, below], -1) / (below + above)[..., None]
        return torch.stack([lower, upper], -1), weight

    def cross_entropy(self, index: Int[Tensor, "... J"], weight: Float[Tensor, "... J"]) -> Float[Tensor, "..."]:
        """Cross-entropy to a target with `weight` on the bins `index`."""
        return _CrossEntropy.apply(self.logits, self.probs, index, weight)

    def loss(self, target: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Cross-entropy to the two-hot encoding of `target` (raw units)."""
        return self.cross_entropy(*self.encode(target))


def over_classes(normalize: Callable[[Tensor, int], Tensor], logits: Float[Tensor, "... C"]) -> Float[Tensor, "... C"]:
    """`torch.softmax` or `torch.log_softmax` over the last axis.

    Torch vectorises along that axis; if it is shorter than a vector register, vectorising along the second-to-last axis
    instead is ten times faster.
    """
    if logits.shape[-1] < 16 and logits.ndim > 1:
        return normalize(logits.mT, -2).mT
    return normalize(logits, -1)


def unimix_probs(logits: Float[Tensor, "... C"], mix: float) -> Float[Tensor, "... C"]:
    """`(1 - mix) softmax(logits) + mix / C`: keeps every class reachable and the KL finite (paper, Methods)."""
    return (1 - mix) * over_classes(torch.softmax, logits.float()) + mix / logits.shape[-1]


def unimix(logits: Float[Tensor, "... C"], mix: float) -> Float[Tensor, "... C"]:
    """Log of `unimix_probs`."""
    if not mix:
        return over_classes(torch.log_softmax, logits.float())
    return torch.log(unimix_probs(logits, mix))


def categorical_kl(log_p: Float[Tensor, "... C"], log_q: Float[Tensor, "... C"]) -> Float[Tensor, "..."]:
    """`KL(p || q)` from normalised log-probabilities, in nats."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def categorical_entropy(log_p: Float[Tensor, "... C"]) -> Float[Tensor, "..."]:
    """Entropy in nats from normalised log-probabilities."""
    return -(log_p.exp() * log_p).sum(-1)


def pick_class(probs: Float[Tensor, "... C"], draw: Shaped[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Class index by inverting the cumulative distribution at a uniform `draw` in [0, 1).

    An integer `draw` is used as the index itself, so that parity tests can force the official samples.
    """
    if not draw.is_floating_point():
        return draw.long()
    cumulative = torch.cumsum(probs, -1)
    return (cumulative[..., :-1] <= draw[..., None] * cumulative[..., -1:]).sum(-1)


def one_hot(index: Int[Tensor, "..."], classes: int) -> Float[Tensor, "... C"]:
    """One-hot in float32, without the host-side range check of `torch.nn.functional.one_hot`."""
    return one_hot_(index, torch.empty(*index.shape, classes, device=index.device))


def one_hot_(index: Int[Tensor, "..."], out: Float[Tensor, "... C"]) -> Float[Tensor, "... C"]:
    """`one_hot` into memory that is there."""
    return out.zero_().scatter_(-1, index[..., None], 1.0)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, probs: Tensor, index: Tensor) -> Tensor:
        return one_hot(index, probs.shape[-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def straight_through(probs: Float[Tensor, "... C"], index: Int[Tensor, "..."]) -> Float[Tensor, "... C"]:
    """One-hot of `index` whose gradient is that of `probs` (Bengio et al. 2013)."""
    return _StraightThrough.apply(probs, index)


class Categorical:
    """Categorical distribution without unimix (the official policy ignores it too). Values are `[...]`, or `[... n]`
    for a multi-discrete key: log-probability and entropy are summed over the key's `event` axes."""

    def __init__(self, logits: Float[Tensor, "... C"], event: int = 0):
        self.log_probs = over_classes(torch.log_softmax, logits.float())
        self.logits = logits
        self.event = event

    def _sum(self, x: Tensor) -> Tensor:
        return x.flatten(x.ndim - self.event).sum(-1) if self.event else x

    def sample(self, draw: Tensor) -> Int[Tensor, "..."]:
        return pick_class(self.log_probs.exp(), draw)

    def pred(self) -> Int[Tensor, "..."]:
        return self.log_probs.argmax(-1)

    def logp(self, action: Int[Tensor, "..."] | Bool[Tensor, "..."]) -> Float[Tensor, "..."]:
        return self._sum(self.log_probs.gather(-1, action.long()[..., None])[..., 0])

    def entropy(self) -> Float[Tensor, "..."]:
        return self._sum(categorical_entropy(self.log_probs))

    def loss(self, target: Int[Tensor, "..."] | Bool[Tensor, "..."]) -> Float[Tensor, "..."]:
        return -self.logp(target)

    @property
    def entropy_range(self) -> tuple[float, float] | None:
        """Smallest and largest entropy; None if there are several elements (the official metric skips those)."""
        return None if self.event else (0.0, math.log(self.log_probs.shape[-1]))


class BoundedNormal:
    """Continuous action head: Gaussian with mean `tanh(m)` and std `(hi - lo) sigmoid(s + 2) + lo`, unclipped samples,
    no tanh-Jacobian (clipping belongs to the environment). Summed over the key's `event` axes."""

    def __init__(self, mean: Tensor, std: Tensor, min_std: float, max_std: float, event: int = 1):
        self.mean = torch.tanh(mean.float())
        self.std = (max_std - min_std) * torch.sigmoid(std.float() + 2) + min_std
        self.bounds = (min_std, max_std)
        self.event = event

    def _sum(self, x: Tensor) -> Tensor:
        return x.flatten(x.ndim - self.event).sum(-1) if self.event else x

    def sample(self, draw: Tensor) -> Float[Tensor, "..."]:
        """Action at the standard-normal `draw`."""
        return self.mean + self.std * draw

    def pred(self) -> Float[Tensor, "..."]:
        return self.mean

    def logp(self, action: Tensor) -> Float[Tensor, "..."]:
        scaled = (action.float() - self.mean) / self.std
        return self._sum(-0.5 * scaled.square() - self.std.log() - 0.5 * math.log(2 * math.pi))

    def entropy(self) -> Float[Tensor, "..."]:
        return self._sum(0.5 * math.log(2 * math.pi * math.e) + self.std.log())

    @property
    def entropy_range(self) -> tuple[float, float] | None:
        """Smallest and largest entropy of one element; None if the entropy is summed (as in the official aggregate)."""
        if self.event:
            return None
        lo, hi = (0.5 * math.log(2 * math.pi * math.e * std**2) for std in self.bounds)
        return lo, hi


class Binary:
    """Bernoulli head; targets may be soft, in [0, 1]."""

    def __init__(self, logit: Float[Tensor, "..."]):
        self.logit = logit.float()

    def prob(self) -> Float[Tensor, "..."]:
        """Probability of 1."""
        return torch.sigmoid(self.logit)

    def pred(self) -> Bool[Tensor, "..."]:
        return self.logit > 0

    def loss(self, target: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return -(target * F.logsigmoid(self.logit) + (1 - target) * F.logsigmoid(-self.logit))


class SquaredError:
    """Squared error without 1/2, summed over the `event` axes; `symlog_target` compares in symlog space (eq. 9)."""

    def __init__(self, mean: Tensor, event: int, symlog_target: bool = False):
        self.mean = mean.float()
        self.event = event
        self.symlog_target = symlog_target

    def pred(self) -> Tensor:
        return self.mean

    def loss(self, target: Tensor) -> Float[Tensor, "..."]:
        target = symlog(target.float()) if self.symlog_target else target.float()
        error = (self.mean - target.detach()).square()
        return error.flatten(error.ndim - self.event).sum(-1) if self.event else error
