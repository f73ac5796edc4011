"""Discrete bottlenecks: vector quantisation and finite scalar quantisation.

Legend: M vectors, K codes, d numbers of a code.
"""

from typing import NamedTuple, Protocol

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from world_models.genie.config import QuantizerConfig

EPS = 1e-5
_KEEP = 0.9  # share that an update keeps of means and deviations, which move with the encoder


class Quantized(NamedTuple):
    """What a quantizer makes of vectors."""

    values: Tensor
    """The codes' values `[... d]`; gradients pass to the vectors as they are (straight through)."""
    ids: Tensor
    """The codes' numbers, int64 `[...]`."""
    loss: Tensor
    """The commitment loss of each vector, `[...]`."""


class Quantizer(Protocol):
    """A discrete bottleneck."""

    codes: int
    width: int

    def __call__(self, vectors: Float[Tensor, "... d"]) -> Quantized: ...

    def lookup(self, ids: Int[Tensor, "..."]) -> Float[Tensor, "... d"]:
        """The values of codes."""
        ...


class VectorQuantizer(nn.Module):
    """VQ (van den Oord et al. 2017, arXiv 1711.00937) on the unit sphere: the code with the largest cosine.

    Codes follow the mean of the vectors that chose them (exponential moving averages, appendix A.1); a code that
    almost none chooses is replaced by a vector of the batch. Vectors are standardised first, or else those of a fresh
    network point all the same way and choose one code (Lancucki et al. 2020, arXiv 2005.08520). In training a call
    updates codes, means and deviations; processes that share a run keep the same ones. The loss is
    `beta * |z - sg(e)|^2 / d`.
    """

    mean: Tensor
    variance: Tensor
    codebook: Tensor
    counts: Tensor
    calls: Tensor

    def __init__(self, config: QuantizerConfig):
        super().__init__()
        self.config, self.codes, self.width = config, config.codes, config.width
        self.register_buffer("mean", torch.zeros(config.width))
        self.register_buffer("variance", torch.ones(config.width))
        self.register_buffer("codebook", F.normalize(torch.randn(config.codes, config.width), dim=-1))
        self.register_buffer("counts", torch.zeros(config.codes))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, vectors: Float[Tensor, "... d"]) -> Quantized:
        with torch.autocast(vectors.device.type, enabled=False):
            z = F.normalize(self._standardised(vectors.float()), dim=-1)
            flat = z.detach().flatten(0, -2)
            if self.training and not int(self.calls):
                self.codebook.copy_(self._drawn(flat, self.codes))
            ids = (flat @ self.codebook.T).argmax(-1)
            chosen = F.embedding(ids, self.codebook).view_as(z)
            if self.training:
                self._follow(flat, ids)
            loss = self.config.beta * (z - chosen).square().mean(-1)
            return Quantized(z + (chosen - z).detach(), ids.view(z.shape[:-1]), loss)

    def lookup(self, ids: Int[Tensor, "..."]) -> Float[Tensor, "... d"]:
        return F.embedding(ids, self.codebook)

    def _standardised(self, vectors: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """Of mean 0 and deviation 1 over this process's batch in training, by their averages otherwise."""
        if not self.training:
            return (vectors - self.mean) / (self.variance + EPS).sqrt()
        flat = vectors.flatten(0, -2)
        # Gradients pass through both, or else the vectors would drift away from their averages.
        mean, variance = flat.mean(0), flat.var(0, correction=0)
        with torch.no_grad():
            moments = torch.stack([mean, variance])
            if _shared():
                dist.all_reduce(moments)
                moments /= dist.get_world_size()
            keep = _KEEP if int(self.calls) else 0.0
            self.mean.lerp_(moments[0], 1 - keep)
            self.variance.lerp_(moments[1], 1 - keep)
        return (vectors - mean) / (variance + EPS).sqrt()

    @torch.no_grad()
    def _follow(self, flat: Float[Tensor, "M d"], ids: Int[Tensor, " M"]) -> None:
        """Move the codes; their length is the number of vectors that they stand for."""
        counts = torch.bincount(ids, minlength=self.codes).float()
        sums = torch.zeros_like(self.codebook).index_add_(0, ids, flat)
        if _shared():
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        keep = self.config.decay
        kept = self.codebook * (self.counts * keep)[:, None] + sums * (1 - keep)
        self.counts.mul_(keep).add_(counts, alpha=1 - keep)
        self.calls += 1
        debiased = self.counts / (1 - keep ** float(self.calls))
        dead = debiased < self.config.dead * debiased.mean()
        replaced = self._drawn(flat, self.codes)
        self.codebook.copy_(torch.where(dead[:, None], replaced, F.normalize(kept, dim=-1)))
        self.counts.copy_(torch.where(dead, self.counts.mean(), self.counts))

    def _drawn(self, flat: Float[Tensor, "M d"], count: int) -> Float[Tensor, "count d"]:
        """Vectors of the batch from all over it; which ones depends on the number of calls alone."""
        places = (torch.arange(count, device=flat.device) * 7919 + int(self.calls) * 104729) % len(flat)
        drawn = flat[places]
        if _shared():
            dist.broadcast(drawn, 0)
        return drawn


class FiniteScalarQuantizer(nn.Module):
    """FSQ (Mentzer et al. 2023, arXiv 2309.15505): every number is bounded and rounded to one of a few levels; there is
    no codebook that could collapse, and no loss.

    Number i takes `levels[i]` values from -1 to 1.
    """

    bound: Tensor
    offset: Tensor
    shift: Tensor
    place: Tensor
    levels: Tensor

    def __init__(self, config: QuantizerConfig):
        super().__init__()
        self.codes, self.width = config.size, len(config.levels)
        levels = torch.tensor(config.levels)
        half = (levels - 1) * (1 + 1e-3) / 2  # a little wider, so that the outer levels can be reached
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        place = torch.cat([torch.ones(1, dtype=torch.int64), levels.cumprod(0)[:-1]])
        parts = {"levels": levels, "bound": half, "offset": offset, "shift": (offset / half).atanh(), "place": place}
        for name, value in parts.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, vectors: Float[Tensor, "... d"]) -> Quantized:
        with torch.autocast(vectors.device.type, enabled=False):
            bounded = (vectors.float() + self.shift).tanh() * self.bound - self.offset
            rounded = bounded + (bounded.round() - bounded).detach()
            digits = rounded.detach().long() + self.levels // 2
            values = rounded / (self.levels // 2)
            return Quantized(values, (digits * self.place).sum(-1), torch.zeros_like(values[..., 0]))

    def lookup(self, ids: Int[Tensor, "..."]) -> Float[Tensor, "... d"]:
        digits = ids[..., None] // self.place % self.levels
        middle = self.levels // 2
        return (digits - middle) / middle


def quantizer(config: QuantizerConfig) -> VectorQuantizer | FiniteScalarQuantizer:
    """The quantizer of a configuration."""
    return VectorQuantizer(config) if config.kind == "vq" else FiniteScalarQuantizer(config)


def _shared() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
