"""Rollouts in latent space under the current policy.

Legend: N rows, H imagined steps, F feature width.
"""

from collections.abc import Callable
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
    (rows, horizon), width = draws.latents.shape[:2], start.deter.shape[-1]
    graph = torch.is_grad_enabled()
    with torch.no_grad():
        features = start.deter.new_empty(rows, horizon + 1, width + start.stoch[0].numel())
        torch.cat([start.deter, start.stoch.flatten(-2)], -1, out=features[:, 0])
        ahead, actions, raw, logits = _ahead(rssm, features[:, 0]), [], [], []
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
                taken = concat_dict(policy.spaces, action)
                logits.append(ahead(written[step], taken, draws.latents[:, step], written[step + 1]))
        stacked = {key: torch.stack([action[key] for action in actions], 1) for key in policy.spaces}
    together = {key: torch.stack([out[key] for out in raw], 1) for key in raw[0]}
    return Imagined(features, stacked, policy.distributions(together), torch.stack(logits, 1))


def _ahead(rssm: RSSM, start: Float[Tensor, "N F"]) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """A function of a state `[N F]`, from `start` on, an action `[N A]` and a draw `[N S]`: it writes the next state to
    its last argument and returns the prior's raw logits."""
    c, widths = rssm.config, [rssm.config.deter, rssm.stoch_width]
    if (compiled := rssm.compiled_steps) and compiled.takes(rssm, len(start)):
        compiled.begin(rssm, start)

        def joined(_: Tensor, action: Tensor, draw: Tensor, out: Tensor) -> Tensor:
            *after, logits = compiled(action, draw)
            torch.cat(after, -1, out=out)
            return logits

        return joined
    steps = rssm.steps(len(start))

    def plain(state: Tensor, action: Tensor, draw: Tensor, out: Tensor) -> Tensor:
        deter, stoch = out.split(widths, -1)
        steps.core(0, state, rssm.action_part(rssm.embed_action(action)), deter)
        logits = rssm.prior(deter)
        one_hot_(pick_class(unimix_probs(logits, c.unimix), draw), stoch.unflatten(-1, (c.stoch, c.classes)))
        return logits

    return plain
