"""The part of DreamerV3 that acts: encoder, RSSM and policy. This is what actors hold and snapshots carry."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from world_models.dreamer.agent import Dreamer
from world_models.dreamer.config import DreamerConfig
from world_models.dreamer.encoder import Encoder
from world_models.dreamer.heads import Policy, feature
from world_models.dreamer.rssm import RSSM, State
from world_models.layers import concat_dict, total_width
from world_models.space import Spaces


class Carry(NamedTuple):
    """Recurrent state and the action last sampled (unclipped), for N environments."""

    state: State
    action: dict[str, Tensor]


class ActingModel(nn.Module):
    """Encoder, RSSM and policy of an agent; newly built, or sharing the modules of a `Dreamer`."""

    def __init__(self, observation: Spaces, action: Spaces, config: DreamerConfig, agent: Dreamer | None = None):
        super().__init__()
        self.observation_space, self.action_space = observation, action
        if agent is None:
            self.encoder = Encoder(observation, config.encoder)
            self.rssm = RSSM(config.rssm, total_width(action), self.encoder.width)
            width = config.rssm.deter + config.rssm.stoch * config.rssm.classes
            self.policy = Policy(width, action, config.policy)
        else:
            self.encoder, self.rssm, self.policy = agent.encoder, agent.rssm, agent.policy

    @classmethod
    def sharing(cls, agent: Dreamer) -> "ActingModel":
        """The acting part of `agent`, sharing its parameters."""
        return cls(agent.observation_space, agent.action_space, agent.config, agent)

    def initial(self, rows: int) -> Carry:
        device = next(self.parameters()).device
        action = {
            key: torch.zeros(rows, *space.shape, dtype=torch.int32 if space.discrete else torch.float32, device=device)
            for key, space in self.action_space.items()
        }
        return Carry(self.rssm.initial(rows, device), action)

    @torch.no_grad()
    def act(
        self,
        carry: Carry,
        obs: dict[str, Tensor],
        reset: Bool[Tensor, " N"],
        posterior_draw: Tensor,
        action_draw: dict[str, Tensor] | None,
    ) -> tuple[Carry, Int[Tensor, "N S"], dict[str, Any]]:
        """One step for N environments: the new carry (its action is the one to take), latent indices `[N S]` and the
        action distributions. `action_draw=None` takes each distribution's mode."""
        action = concat_dict(self.action_space, carry.action)
        state, index = self.rssm.observe_step(carry.state, self.encoder(obs), action, reset, posterior_draw)
        dists = self.policy(feature(state.deter, state.stoch.flatten(-2)))
        taken = {k: dist.pred() if action_draw is None else dist.sample(action_draw[k]) for k, dist in dists.items()}
        return Carry(state, {k: v.to(carry.action[k].dtype) for k, v in taken.items()}), index, dists
