"""What an agent imagines to get: its policy rolled inside its world model.

Legend: N start states, R rollouts of each, H steps.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from world_models.dreamer.agent import Dreamer
from world_models.dreamer.draws import Draws, draw_actions
from world_models.dreamer.imagination import imagine
from world_models.dreamer.rssm import State

_AT_ONCE = 512  # rollouts


class ImaginedRewards(NamedTuple):
    """Float64 `[N R H]` each."""

    rewards: np.ndarray
    """Predicted for each step, times the probability that the episode has gone on until then."""
    goes_on: np.ndarray
    """The probability that it has gone on after each step."""


@torch.no_grad()
def imagined_rewards(agent: Dreamer, start: State, horizon: int, rollouts: int, seed: int) -> ImaginedRewards:
    """Roll the policy `horizon` steps, `rollouts` times from each of the states `[N ...]`; actions and latents are
    sampled, as in training.

    Undiscounted: `prod_{j<k} c_j r_k` for step k, c without the discount that the continue head has learned beside.
    """
    device = next(agent.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    count, config = len(start.deter), agent.config
    states = State(*(x.to(device).repeat_interleave(rollouts, 0) for x in start))
    own = 1 - 1 / config.horizon if config.discount_in_continue else 1.0
    rewards: list[Tensor] = []
    goes_on: list[Tensor] = []
    for at in range(0, count * rollouts, _AT_ONCE):
        part = State(*(x[at : at + _AT_ONCE] for x in states))
        rows = len(part.deter)
        latents = torch.rand(rows, horizon, config.rssm.stoch, generator=generator, device=device)
        draws = Draws(latents[:, :0], latents, draw_actions(agent.action_space, (rows, horizon + 1), generator))
        features = imagine(agent.rssm, agent.policy, part, draws).features[:, 1:]
        alive = (agent.continuation(features).prob() / own).clamp_max(1).double().cumprod(1)
        before = torch.cat([torch.ones_like(alive[:, :1]), alive[:, :-1]], 1)
        rewards.append(before * agent.expected_reward(features).double())
        goes_on.append(alive)
    shape = (count, rollouts, horizon)
    return ImaginedRewards(*(torch.cat(parts).view(shape).cpu().numpy() for parts in (rewards, goes_on)))
