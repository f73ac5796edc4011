"""A latent world model as planners see it: imagination in latent space, towards the picture of a goal.

Legend: N rows, H steps, A action width, D latent.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from world_models.frames import observed_picture, prepared
from world_models.latent.latent_world import Imagined, LatentWorld
from world_models.layers import total_width
from world_models.protocol import imagine_steps, stack_steps
from world_models.space import Space, Spaces


class LatentPlanning:
    """A `PlanningModel` over a latent world model; it predicts no rewards, plans are made towards a goal.

    Observations are pictures uint8 `[N height width C]`, or dicts that have them in the key `image`. `action_space` has
    the keys of the actions, in the units that the model was trained with; by default it is `action`, from -1 to 1.

    A plan starts from the newest frames, as many as the model's `history`. It begins anew when an episode begins in any
    row.
    """

    def __init__(self, model: LatentWorld, action_space: Spaces | None = None, image: str = "image"):
        width = model.config.action
        unit = Space(dtype=np.dtype(np.float32), shape=(width,), low=-1.0, high=1.0)
        self.model, self.image = model, image
        self._action_space = action_space or {"action": unit}
        if (found := total_width(self._action_space)) != width:
            raise ValueError(
                f"The actions ({', '.join(self._action_space)}) have {found} numbers, but this latent world model was "
                f"trained with {width}; plan on the task that its data are of."
            )
        self.device = next(model.parameters()).device

    @property
    def action_space(self) -> Spaces:
        return self._action_space

    def initial(self, rows: int) -> Imagined:
        """Blank: latents are never all 0 in practice."""
        return self.model.begin(torch.zeros(rows, self.model.config.latent, device=self.device))

    @torch.no_grad()
    def encode(
        self,
        observation: Mapping[str, Any] | Any,
        before: Imagined | None = None,
        action: Float[Tensor, "N A"] | None = None,
        is_first: Bool[Tensor, " N"] | None = None,
    ) -> Imagined:
        """The latent of the picture, after the frames before it. ValueError: there is no picture."""
        latent = self._latent(observation)
        if before is None or action is None:
            return self.model.begin(latent)
        begins = (before.latent == 0).all(-1)
        if is_first is not None:
            begins = begins | is_first
        return self.model.begin(latent) if begins.any() else self.model.follow(before, action, latent)

    def _latent(self, observation: Any) -> Float[Tensor, "N D"]:
        c = self.model.config.encoder
        frames = observed_picture(observation, self.image, c.size, self.device)
        return self.model.encode(prepared(frames[:, None], c.channels))[:, 0]

    def step(self, state: Imagined, action: Float[Tensor, "N A"]) -> Imagined:
        return self.model.step(state, action)

    def imagine(self, states: Imagined, actions: Float[Tensor, "N H A"]) -> tuple[Imagined, None, None]:
        """The imagined latents, without those before them; there are neither pictures nor rewards."""
        following = [state._replace(past=()) for state in imagine_steps(self, states, actions)]
        return stack_steps(following), None, None

    def features(self, state: Imagined) -> Float[Tensor, "... D"]:
        """The latent."""
        return state.latent

    def seed(self, number: int) -> None:
        """Nothing is drawn."""
