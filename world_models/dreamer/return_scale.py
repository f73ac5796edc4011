"""Running scale of returns (Hafner et al. 2025, eq. 12)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from world_models.dreamer.config import NormalizeConfig
from world_models.joining import Join, alone


class ReturnScale(nn.Module):
    """Exponential averages of the 5th and 95th percentile; the scale is `max(limit, high - low)`.

    `meanstd` and debiasing exist because the official program offers them. The state is held in buffers, so it is
    moved, saved and captured in CUDA graphs together with the model.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    square: Tensor
    correction: Tensor
    quantiles: Tensor

    def __init__(self, config: NormalizeConfig):
        super().__init__()
        self.config = config
        names = {"perc": ("low", "high"), "meanstd": ("mean", "square"), "none": ()}[config.impl]
        for name in (*names, *(("correction",) if config.debias and names else ())):
            self.register_buffer(name, torch.zeros(()))
        if config.impl == "perc":
            self.register_buffer("quantiles", torch.tensor([config.low, config.high]) / 100, persistent=False)

    @torch.no_grad()
    def update(self, x: Float[Tensor, "..."], join: Join = alone) -> None:
        """Carry the averages on with a batch, joined with the parts that belong to it."""
        x = join(x.detach().float())
        if self.config.impl == "perc":
            # quantile takes at most 16M elements; imagination has 16k.
            low, high = torch.quantile(x.flatten(), self.quantiles)
            self.low.lerp_(low, self.config.rate)
            self.high.lerp_(high, self.config.rate)
        elif self.config.impl == "meanstd":
            self.mean.lerp_(x.mean(), self.config.rate)
            self.square.lerp_(x.square().mean(), self.config.rate)
        if hasattr(self, "correction"):
            self.correction.lerp_(torch.ones_like(self.correction), self.config.rate)

    def stats(self) -> tuple[Float[Tensor, ""] | float, Float[Tensor, ""] | float]:
        """Offset and scale."""
        if self.config.impl == "none":
            return 0.0, 1.0
        debias = 1 / self.correction.clamp_min(self.config.rate) if self.config.debias else 1.0
        if self.config.impl == "perc":
            low, high = self.low * debias, self.high * debias
            return low, (high - low).clamp_min(self.config.limit)
        mean = self.mean * debias
        variance = (self.square * debias - mean.square()).clamp_min(0)
        return mean, variance.sqrt().clamp_min(self.config.limit)
