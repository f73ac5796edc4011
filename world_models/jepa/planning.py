"""V-JEPA 2-AC as planners see it: imagination in latent space, towards the picture of a goal.

Legend: N rows, H steps, A action width, P patches of a frame, D width of the encoder, S state width.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from world_models.frames import observed_picture, prepared
from world_models.jepa.vjepa2_ac import VJEPA2AC, Imagined
from world_models.layers import total_width
from world_models.protocol import imagine_steps, stack_steps
from world_models.space import Space, Spaces
from world_models.vit import KeyValues


class VJEPA2ACPlanning:
    """A `PlanningModel` over a V-JEPA 2-AC; it predicts no rewards, plans are made towards a goal.

    Observations are pictures uint8 `[N height width C]`, or dicts that have them in the key `image`; a model with
    states takes the dict's vectors of floats as its state, in alphabetical order. `action_space` has the keys of the
    actions, in the units that the model was trained with; by default it is `action`, from -1 to 1.

    As in the published planner, a plan starts from the newest frame alone. With a longer `context`, keys and values of
    up to so many observed frames are kept, and then it begins anew, as it does when an episode begins in any row. The
    predictor was trained on `frames - 1` frames: `context` and the planner's horizon together should not exceed them.
    """

    def __init__(self, model: VJEPA2AC, action_space: Spaces | None = None, image: str = "image", context: int = 1):
        config = model.config
        unit = Space(dtype=np.dtype(np.float32), shape=(config.action,), low=-1.0, high=1.0)
        self.model, self.image, self.context = model, image, context
        self._action_space = action_space or {"action": unit}
        if (width := total_width(self._action_space)) != config.action:
            raise ValueError(
                f"The actions ({', '.join(self._action_space)}) have {width} numbers, but this V-JEPA 2-AC was trained "
                f"with {config.action}; plan on the task that its data are of."
            )
        if config.use_extrinsics:
            raise ValueError(
                "This V-JEPA 2-AC needs a camera's extrinsics, which observations lack; train one without."
            )
        if context < 1:
            raise ValueError(f"context={context} must be at least 1: the newest frame.")
        self.device = next(model.parameters()).device

    @property
    def action_space(self) -> Spaces:
        return self._action_space

    def initial(self, rows: int) -> Imagined:
        """Blank: the tokens of a frame are normalised and never all 0."""
        config = self.model.config
        latent = torch.zeros(rows, config.encoder.grid**2, config.encoder.width, device=self.device)
        return self._alone(latent, torch.zeros(rows, config.state, device=self.device))

    def _alone(self, latent: Float[Tensor, "N P D"], state: Float[Tensor, "N S"]) -> Imagined:
        """A frame without a past."""
        c = self.model.config.predictor
        nothing = latent.new_zeros(len(latent), c.heads, 0, c.width // c.heads)
        past = tuple(KeyValues(nothing, nothing) for _ in range(c.depth))
        return Imagined(latent, state, latent.new_zeros(len(latent), 0), past)

    @torch.no_grad()
    def encode(
        self,
        observation: Mapping[str, Any] | Any,
        before: Imagined | None = None,
        action: Float[Tensor, "N A"] | None = None,
        is_first: Bool[Tensor, " N"] | None = None,
    ) -> Imagined:
        """The tokens of the picture, after the frames in `context`. ValueError: what the model needs is not there."""
        seen = self._alone(self._tokens(observation), self._state(observation))
        if before is None or action is None or self._frames(before) >= self.context:
            return seen
        begins = (before.latent == 0).all(-1).all(-1)
        if is_first is not None:
            begins = begins | is_first
        return seen if begins.any() else seen._replace(past=self.model.step(before, action).past)

    def _frames(self, state: Imagined) -> int:
        """Those in a state, its own included."""
        return 1 + state.past[0].keys.shape[2] // self.model.predictor.frame_tokens

    def _tokens(self, observation: Any) -> Float[Tensor, "N P D"]:
        c = self.model.config.encoder
        frames = observed_picture(observation, self.image, c.size, self.device)
        return self.model.encode(prepared(frames[:, None], c.channels))[:, 0]

    def _state(self, observation: Any) -> Float[Tensor, "N S"]:
        whole = isinstance(observation, Mapping)
        rows, width = len(observation[self.image] if whole else observation), self.model.config.state
        parts = [torch.zeros(rows, 0, device=self.device)]
        if width and whole:
            values = [torch.as_tensor(observation[key], device=self.device) for key in sorted(observation)]
            parts += [value.float().view(rows, -1) for value in values if value.is_floating_point() and value.ndim <= 2]
        state = torch.cat(parts, 1)
        if state.shape[1] != width:
            raise ValueError(
                f"This V-JEPA 2-AC takes states of {width} numbers, but the vectors of the observation have "
                f"{state.shape[1]}; give it those it was trained with, or train one with state 0."
            )
        return state

    def step(self, state: Imagined, action: Float[Tensor, "N A"]) -> Imagined:
        return self.model.step(state, action)

    def imagine(self, states: Imagined, actions: Float[Tensor, "N H A"]) -> tuple[Imagined, None, None]:
        """The imagined frames, without their pasts; there are neither pictures nor rewards."""
        following = [state._replace(past=()) for state in imagine_steps(self, states, actions)]
        return stack_steps(following), None, None

    def features(self, state: Imagined) -> Float[Tensor, "... F"]:
        """The tokens of the frame, in a row."""
        return state.latent.flatten(-2)

    def seed(self, number: int) -> None:
        """Nothing is drawn."""
