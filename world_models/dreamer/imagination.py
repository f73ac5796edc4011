"""Rollouts in latent space under the current policy.

Legend: N rows, H imagined steps, F feature width.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from world_models.distributions import one_hot_, pick_class, unimix_probs
from world_models.dreamer.draws import Draws
from world_models.dreamer.heads import ActionDistribution, Policy
from world_models.dreamer.rssm import RSSM, State
from world_models.layers import concat_dict


class Imagined(NamedTuple):
    """Features of the start state and of H imagined ones, the action drawn at each, the policy there and the prior
    logits."""

    features: Float[Tensor, "N H+1 F"]
    actions: dict[str, Tensor]
    policy: dict[str, ActionDistribution]
    """Batched `[N H+1]`; the only part with gradients, those of the policy's parameters."""
    logits: Float[Tensor, "N H S C"]


def imagine(rssm: RSSM, policy: Policy, start: State, draws: Draws) -> Imagined:
    """Roll H steps from `start` `[N ...]`. No gradient flows: the actor learns by REINFORCE (paper, eq. 11)."""
    (rows, horizon), width, latents = draws.latents.shape[:2], start.deter.shape[-1], start.stoch.shape[1:]
    graph = torch.is_grad_enabled()
    with torch.no_grad():
        features = start.deter.new_empty(rows, horizon + 1, width + start.stoch[0].numel())
        torch.cat([start.deter, start.stoch.flatten(-2)], -1, out=features[:, 0])
        steps, actions, raw, logits = rssm.steps(rows), [], [], []
        # The same memory without the count of its changes: what the policy keeps of one step outlives the next.
        written = features.data.unbind(1)
        for step in range(horizon + 1):
            with torch.set_grad_enabled(graph and step < horizon):  # no loss is on the last action
                raw.append(policy.outputs(features[:, step]))
            action = {key: value[:, step] for key, value in draws.actions.items()}
            if not draws.forced:
                action = {key: dist.sample(action[key]) for key, dist in policy.distributions(raw[-1]).items()}
            actions.append(action)
            if step < horizon:
                base = rssm.action_part(rssm.embed_action(concat_dict(policy.spaces, action)))
                deter, stoch = written[step + 1].split([width, features.shape[-1] - width], -1)
                steps.core(0, written[step], base, deter)
                logits.append(rssm.prior(deter))
                index = pick_class(unimix_probs(logits[-1], rssm.config.unimix), draws.latents[:, step])
                one_hot_(index, stoch.unflatten(-1, latents))
        stacked = {key: torch.stack([action[key] for action in actions], 1) for key in policy.spaces}
    together = {key: torch.stack([out[key] for out in raw], 1) for key in raw[0]}
    return Imagined(features, stacked, policy.distributions(together), torch.stack(logits, 1))
