"""Rollouts in latent space under the current policy.

Legend: N rows, H imagined steps, F feature width.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from world_models.dreamer.draws import Draws
from world_models.dreamer.heads import Policy
from world_models.dreamer.rssm import RSSM, State
from world_models.layers import concat_dict


class Imagined(NamedTuple):
    """Features of the start state and of H imagined ones, the action drawn at each, and the prior logits."""

    features: Float[Tensor, "N H+1 F"]
    actions: dict[str, Tensor]
    logits: Float[Tensor, "N H S C"]


@torch.no_grad()
def imagine(rssm: RSSM, policy: Policy, start: State, draws: Draws) -> Imagined:
    """Roll H steps from `start` `[N ...]`. No gradient flows: the actor learns by REINFORCE (paper, eq. 11)."""
    state, (rows, horizon) = start, draws.latents.shape[:2]
    width = start.deter.shape[-1] + start.stoch[0].numel()
    features = start.deter.new_empty(rows, horizon + 1, width)
    actions, logits = [], []
    kernels = rssm.kernels()
    for step in range(horizon + 1):
        torch.cat([state.deter, state.stoch.flatten(-2)], -1, out=features[:, step])
        action = {key: value[:, step] for key, value in draws.actions.items()}
        if not draws.forced:
            action = {key: dist.sample(action[key]) for key, dist in policy(features[:, step]).items()}
        actions.append(action)
        if step < horizon:
            vector = concat_dict(policy.spaces, action)
            state, logit = rssm.imagine_step(state, vector, draws.latents[:, step], kernels)
            logits.append(logit)
    stacked = {key: torch.stack([action[key] for action in actions], 1) for key in policy.spaces}
    return Imagined(features, stacked, torch.stack(logits, 1))
