"""A reward for Genie's worlds, which have none: read off two frames in a row by a small network.

Legend: N transitions, S pixels a side, C channels, V values that a reward can have.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from world_models.genie.pixels import centred
from world_models.parameters import as_arrays, load_parameters

MOST_VALUES = 255
"""Of a reward; more are represented by their quantiles."""


class RewardHead(nn.Module):
    """Convolutions over a frame and the one before it, pooled, to the probability of each value.

    The likeliest value is the reward: a mean would pay a little for every frame that resembles a rewarded one, and a
    policy would find those.
    """

    def __init__(self, values: Float[Tensor, " V"], channels: int, width: int = 32):
        super().__init__()
        self.values: Tensor
        self.register_buffer("values", values)
        self.layers = nn.Sequential(
            nn.Conv2d(2 * channels, width, 4, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(width, width, 4, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.SiLU(),
        )  # fmt: skip
        self.logits = nn.Linear(2 * width, len(values))

    @classmethod
    def for_rewards(cls, rewards: np.ndarray, channels: int) -> "RewardHead":
        """A fresh one for such rewards."""
        values = np.unique(rewards)
        if len(values) > MOST_VALUES:
            values = np.unique(np.quantile(rewards, np.linspace(0, 1, MOST_VALUES)))
        return cls(torch.tensor(values, dtype=torch.float32), channels)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], where: object) -> "RewardHead":
        """The inverse of `arrays`. ValueError names the file `where` they come from, if they do not fit."""
        try:
            values, first = arrays["values"], arrays["layers.0.weight"]
        except KeyError as error:
            raise ValueError(f"{where} holds no reward head: it has no {error}.") from error
        head = cls(torch.tensor(values), first.shape[1] // 2, first.shape[0])
        load_parameters(head, arrays, where)
        return head.eval()

    def arrays(self) -> dict[str, np.ndarray]:
        """What is saved."""
        return as_arrays(self)

    def forward(self, before: UInt8[Tensor, "N S S C"], after: UInt8[Tensor, "N S S C"]) -> Float[Tensor, "N V"]:
        """Logits of the values of the reward that came with the second frame."""
        x = centred(torch.cat([before, after], -1).float() / 255)
        x = self.layers(x.permute(0, 3, 1, 2))
        return self.logits(torch.cat([x.amax((2, 3)), x.mean((2, 3))], -1))

    def losses(
        self, before: UInt8[Tensor, "N S S C"], after: UInt8[Tensor, "N S S C"], rewards: Float[Tensor, " N"]
    ) -> dict[str, Tensor]:
        """`cross_entropy` of the value nearest to each reward, `[N]`."""
        nearest = (rewards[:, None] - self.values).abs().argmin(-1)
        return {"cross_entropy": F.cross_entropy(self(before, after), nearest, reduction="none")}

    @torch.no_grad()
    def reward(self, before: UInt8[Tensor, "N S S C"], after: UInt8[Tensor, "N S S C"]) -> Float[Tensor, " N"]:
        """The likeliest reward."""
        return self.values[self(before, after).argmax(-1)]
