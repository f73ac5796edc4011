"""DreamerV3's world model as planners see it.

Legend: N rows, H steps, A action width, E reward heads.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from world_models.distributions import one_hot
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.heads import feature
from world_models.dreamer.open_loop import in_units
from world_models.dreamer.rssm import State
from world_models.layers import total_width
from world_models.protocol import imagine_steps, stack_steps
from world_models.space import Space, Spaces


class DreamerPlanning:
    """A `PlanningModel` over an agent's world model, with its value as bootstrap; the policy is not used.

    Actions are those of the networks, in [-1, 1]. The latents of imagined steps are the prior's most likely classes;
    with `sample` they are drawn from it, and a planner then also finds what was lucky. Posterior latents are drawn in
    either case, as when acting.
    """

    def __init__(self, agent: Dreamer, sample: bool = False):
        self.agent, self.sample = agent, sample
        self.device = next(agent.parameters()).device
        self.generator = torch.Generator(self.device)

    @property
    def action_space(self) -> Spaces:
        return {
            key: space if space.discrete else Space(dtype=np.dtype(np.float32), shape=space.shape, low=-1.0, high=1.0)
            for key, space in self.agent.action_space.items()
        }

    def initial(self, rows: int) -> State:
        return self.agent.rssm.initial(rows, self.device)

    def encode(
        self,
        observation: dict[str, Any],
        before: State | None = None,
        action: Float[Tensor, "N A"] | None = None,
        is_first: Bool[Tensor, " N"] | None = None,
    ) -> State:
        """The posterior state: `before`, carried on by `action`, corrected by the observation's keys `[N ...]`."""
        obs = {key: torch.as_tensor(observation[key], device=self.device) for key in self.agent.observation_space}
        tokens = self.agent.encoder(obs)
        rows = len(tokens)
        if before is None:
            before, is_first = self.initial(rows), None
        if action is None:
            action = torch.zeros(rows, total_width(self.agent.action_space), device=self.device)
        if is_first is None:
            is_first = torch.zeros(rows, dtype=torch.bool, device=self.device)
        return self.agent.rssm.observe_step(before, tokens, action, is_first, self._draw(rows))[0]

    def step(self, state: State, action: Float[Tensor, "N A"]) -> State:
        rssm = self.agent.rssm
        if self.sample:
            return rssm.imagine_step(state, action, self._draw(len(action)))[0]
        deter = rssm.core(state.deter, state.stoch.flatten(-2), rssm.embed_action(action))
        return State(deter, one_hot(rssm.prior(deter).argmax(-1), rssm.config.classes))

    def _draw(self, rows: int) -> Float[Tensor, "N S"]:
        return torch.rand(rows, self.agent.config.rssm.stoch, generator=self.generator, device=self.device)

    def imagine(self, states: State, actions: Float[Tensor, "N H A"]) -> tuple[State, dict[str, Tensor], Tensor]:
        """The imagined states, what they decode to, and the rewards `[N H]` of arriving in them."""
        following = stack_steps(imagine_steps(self, states, actions))
        return following, self.decode(following), self.agent.expected_reward(self.features(following))

    def decode(self, state: State) -> dict[str, Tensor]:
        """Observation keys: vectors in their own units, images in [0, 1]."""
        decoder = self.agent.decoder
        return {key: in_units(dist) for key, dist in decoder(state.deter, state.stoch.flatten(-2)).items()}

    def latents(self, state: State) -> dict[str, np.ndarray]:
        """What is stored of states, as by the policy: `deter` float16 `[N D]`, `stoch` int8 `[N S]`, -1 for none."""
        index = state.stoch.argmax(-1).where(state.stoch.sum(-1) > 0, -1)
        return {"deter": state.deter.half().cpu().numpy(), "stoch": index.to(torch.int8).cpu().numpy()}

    def features(self, state: State) -> Float[Tensor, "... F"]:
        """The input of every head: recurrent state and latents."""
        return feature(state.deter, state.stoch.flatten(-2))

    def rewards(self, state: State, action: Tensor, following: State) -> Float[Tensor, "E ..."]:
        """The reward of the state arrived in, by each head."""
        return self.agent.head_rewards(self.features(following))

    def continues(self, state: State) -> Float[Tensor, "..."]:
        """Continue probability; times the discount, unless the head has learned that too."""
        config = self.agent.config
        own = 1.0 if config.discount_in_continue else 1 - 1 / config.horizon
        return own * self.agent.continuation(self.features(state)).prob()

    def value(self, state: State) -> Float[Tensor, "..."]:
        """The critic's value."""
        return self.agent.value(self.features(state)).pred()

    def seed(self, number: int) -> None:
        self.generator.manual_seed(number)
