"""Genie as planners see it: imagination in tokens, towards the picture of a goal, or for the reward of a reward head.

Legend: N rows, H steps, A action width, S pixels a side, C channels, F numbers of a picture.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from world_models.frames import observed_picture, with_channels
from world_models.genie.dynamics import Sampling
from world_models.genie.genie import Genie, WorldState
from world_models.genie.reward import RewardHead
from world_models.layers import total_width
from world_models.protocol import imagine_steps, stack_steps
from world_models.space import Space, Spaces


class GeniePlanning:
    """A `PlanningModel` over a Genie. Plans are made towards a goal, or for reward where a `reward` head is given.

    Observations are pictures uint8 `[N height width C]`, or dicts that have them in the key `image`; a plan starts from
    the newest one alone. Actions are the model's: by default `action`, one of the latent actions or a vector from -1 to
    1. `action_space` names real ones as a task does, and must be that of the recordings; latent actions are those of a
    generated world (`genie:DIR`), and mean nothing in the environment that was filmed.

    Frames are the likeliest ones (`temperature` 0), sampled in `steps` steps of MaskGIT, the model's own if None.
    """

    def __init__(
        self, model: Genie, action_space: Spaces | None = None, image: str = "image", reward: RewardHead | None = None,
        temperature: float = 0.0, steps: int | None = None,
    ):  # fmt: skip
        config = model.config
        self.model, self.image = model, image
        self.sampling = Sampling(steps=steps or config.dynamics.steps, temperature=temperature)
        space = Space(dtype=np.dtype(np.int32), shape=(), classes=config.actions)
        if config.real_actions:
            space = Space(dtype=np.dtype(np.float32), shape=(config.actions,), low=-1.0, high=1.0)
        self._action_space = action_space or {"action": space}
        if (width := total_width(self._action_space)) != config.actions:
            what = "was trained with real actions of" if config.real_actions else "has latent actions,"
            raise ValueError(
                f"The actions ({', '.join(self._action_space)}) have {width} numbers, but this Genie {what} "
                f"{config.actions}; plan on the task that its data are of, with real actions (nexus pretrain genie "
                "--real-actions), or in the generated world itself (nexus world)."
            )
        self.device = next(model.parameters()).device
        self.generator = torch.Generator(self.device)
        if reward is not None:
            self.head = reward.to(self.device)
            self.rewards = self._rewards

    @property
    def action_space(self) -> Spaces:
        return self._action_space

    def initial(self, rows: int) -> WorldState:
        """After a black frame."""
        c = self.model.config
        return self.encode(torch.zeros(rows, c.size, c.size, c.channels, dtype=torch.uint8, device=self.device))

    def encode(
        self,
        observation: Mapping[str, Any] | Any,
        before: WorldState | None = None,
        action: Float[Tensor, "N A"] | None = None,
        is_first: Bool[Tensor, " N"] | None = None,
    ) -> WorldState:
        """A world that begins with the picture, which looks as the tokenizer gives it back, as imagined frames do. What
        was before makes no difference. ValueError: there is no picture."""
        c = self.model.config
        frames = observed_picture(observation, self.image, c.size, self.device)
        state = self.model.start(with_channels(frames[:, None], c.channels, "model.channels"))
        return state._replace(frame=self.model.decode(state.tokens[:, None])[:, 0])

    def step(self, state: WorldState, action: Float[Tensor, "N A"]) -> WorldState:
        """The frame that follows. ValueError: gradients are wanted, which sampled tokens do not have."""
        if action.requires_grad:
            raise ValueError("Genie's frames are sampled tokens, through which no gradients go; plan with cem or mppi.")
        return self.model.step(state, action, self.generator, self.sampling)

    def imagine(
        self, states: WorldState, actions: Float[Tensor, "N H A"]
    ) -> tuple[WorldState, dict[str, Tensor], Tensor | None]:
        """The imagined frames, without their pasts, and as observations."""
        following = imagine_steps(self, states, actions)
        rewards = None
        if hasattr(self, "head"):
            froms = [states, *following[:-1]]
            pairs = zip(froms, following, strict=True)
            rewards = torch.stack([self.head.reward(one.frame, other.frame) for one, other in pairs], 1)
        whole = stack_steps([state._replace(dynamics=(), decoder=()) for state in following])
        return whole, self.decode(whole), rewards

    def features(self, state: WorldState) -> Float[Tensor, "... F"]:
        """The pixels of the newest frame, 0 to 1."""
        return state.frame.flatten(-3).float() / 255

    def decode(self, state: WorldState) -> dict[str, Tensor]:
        """The newest frame."""
        return {self.image: state.frame}

    def _rewards(self, state: WorldState, action: Float[Tensor, "N A"], following: WorldState) -> Float[Tensor, "1 N"]:
        return self.head.reward(state.frame, following.frame)[None]

    def seed(self, number: int) -> None:
        self.generator.manual_seed(number)
