"""The actor: actions from recurrent state and latents.

Legend: N rows, F features, U units, A outputs of all keys together.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from world_models.distributions import pick_class
from world_models.dreamer.heads import Policy
from world_models.dreamer.packed.dense import PackedMLP
from world_models.layers import Linear, module_key


class PackedPolicy:
    """A copy of a `Policy`, the output layers of all keys joined."""

    def __init__(self, policy: Policy):
        self.spaces, (self.min_std, self.max_std) = policy.spaces, policy.bounds
        self.mlp = PackedMLP(policy.mlp)
        weights, biases = list[Tensor](), list[Tensor]()
        for key in self.spaces:
            for name, module in cast(nn.ModuleDict, policy.out[module_key(key)]).items():
                layer = cast(Linear, module)
                weights.append(layer.weight)
                biases.append(layer.bias + 2 if name == "std" else layer.bias)  # BoundedNormal: sigmoid(s + 2)
        self.weight, self.bias = torch.cat(weights).t().contiguous(), torch.cat(biases)  # [U A], [A]
        self.widths = [len(bias) for bias in biases]

    def __call__(self, feature: Float[Tensor, "N F"], draw: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Actions at the draws, as `Categorical` and `BoundedNormal` sample them, or their modes."""
        raw = iter(torch.addmm(self.bias, self.mlp(feature), self.weight).split_with_sizes(self.widths, -1))
        actions = {}
        for key, space in self.spaces.items():
            shape = (len(feature), *space.shape)
            if space.discrete:
                logits = next(raw).reshape(*shape, space.classes)
                index = logits.argmax(-1) if draw is None else pick_class(torch.softmax(logits, -1), draw[key])
                actions[key] = index.to(torch.int32)
                continue
            mean, std = torch.tanh(next(raw)).reshape(shape), torch.sigmoid(next(raw)).reshape(shape)
            if draw is not None:
                least = torch.add(mean, draw[key], alpha=self.min_std)
                mean = torch.addcmul(least, std, draw[key], value=self.max_std - self.min_std)
            actions[key] = mean
        return actions
