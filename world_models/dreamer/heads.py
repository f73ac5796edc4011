"""Prediction heads over the feature `[deter, stoch]`.

Legend: D deter, Z flattened latents, F = D + Z.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from world_models.distributions import Binary, BoundedNormal, Categorical, TwoHot, two_hot_bins
from world_models.dreamer.config import HeadConfig, PolicyConfig
from world_models.layers import MLP, Linear, module_key
from world_models.space import Spaces

ActionDistribution = Categorical | BoundedNormal


class TwoHotHead(nn.Module):
    """Reward or value: MLP and a two-hot distribution."""

    bins: Tensor

    def __init__(self, inputs: int, config: HeadConfig):
        super().__init__()
        self.mlp = MLP(inputs, config.units, config.layers)
        self.out = Linear(config.units, config.bins, config.out_scale)
        self.register_buffer("bins", two_hot_bins(config.bins), persistent=False)

    def forward(self, feature: Float[Tensor, "... F"]) -> TwoHot:
        return TwoHot(self.out(self.mlp(feature)), self.bins)


class BinaryHead(nn.Module):
    """Continue predictor: MLP and one logit."""

    def __init__(self, inputs: int, config: HeadConfig):
        super().__init__()
        self.mlp = MLP(inputs, config.units, config.layers)
        self.out = Linear(config.units, 1, config.out_scale)

    def forward(self, feature: Float[Tensor, "... F"]) -> Binary:
        return Binary(self.out(self.mlp(feature)).squeeze(-1))


class Policy(nn.Module):
    """Actor: one MLP and an output per action key; categorical for integers, bounded normal for floats."""

    def __init__(self, inputs: int, spaces: Spaces, config: PolicyConfig):
        super().__init__()
        self.spaces = {key: spaces[key] for key in sorted(spaces)}
        self.mlp = MLP(inputs, config.units, config.layers)
        self.bounds = (config.min_std, config.max_std)
        outputs = {}
        for key, space in self.spaces.items():
            names = ("logits",) if space.discrete else ("mean", "std")
            layers = {name: Linear(config.units, space.width, config.out_scale) for name in names}
            outputs[module_key(key)] = nn.ModuleDict(layers)
        self.out = nn.ModuleDict(outputs)

    def forward(self, feature: Float[Tensor, "... F"]) -> dict[str, ActionDistribution]:
        return self.distributions(self.outputs(feature))

    def outputs(self, feature: Float[Tensor, "... F"]) -> dict[str, Float[Tensor, "... width"]]:
        """What the output layers give: `<key>/logits`, or `<key>/mean` and `<key>/std`."""
        hidden = self.mlp(feature)
        return {
            f"{key}/{name}": layer(hidden)
            for key in self.spaces
            for name, layer in cast(nn.ModuleDict, self.out[module_key(key)]).items()
        }

    def distributions(self, outputs: dict[str, Float[Tensor, "... width"]]) -> dict[str, ActionDistribution]:
        """The distribution of each action key from `outputs`."""
        result: dict[str, ActionDistribution] = {}
        for key, space in self.spaces.items():
            event = len(space.shape)
            if space.discrete:
                logits = outputs[f"{key}/logits"].unflatten(-1, (*space.shape, space.classes))
                result[key] = Categorical(logits, event)
            else:
                raw = (outputs[f"{key}/{name}"] for name in ("mean", "std"))
                mean, std = (x.unflatten(-1, space.shape) if event else x.squeeze(-1) for x in raw)
                result[key] = BoundedNormal(mean, std, *self.bounds, event)
        return result


def feature(deter: Float[Tensor, "... D"], stoch: Float[Tensor, "... Z"]) -> Float[Tensor, "... F"]:
    """Input of every head: the recurrent state, then the latents."""
    return torch.cat([deter, stoch], -1)
