"""A generated world that one player moves through.

Legend: S pixels a side, C channels, A actions.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from deploy.play.recordings import Recording
from world_models.genie.dynamics import Sampling
from world_models.genie.genie import Genie
from world_models.protocol import repeat_rows

PREVIEW = 8  # frames of a preview
_LEAST_ERROR = 1e-6  # of pixels from 0 to 1: 60 dB


class World:
    """Begins as `recording` up to frame `begins`; may go on for ever."""

    def __init__(self, model: Genie, recording: Recording, begins: int, sampling: Sampling, seed: int) -> None:
        self.model, self.recording, self.begins, self.sampling = model, recording, begins, sampling
        self.generator = torch.Generator(recording.frames.device).manual_seed(seed)
        self.actions = recording.actions_for(model)
        frames = recording.frames[None, : begins + 1]
        self.state = self.first = model.start(frames, self.actions[None, :begins])
        self.steps = 0
        self.left: int | None = None
        """The number of the first step that was not the recording's."""
        self._usual = residual(model, model.decode(model.encode(frames[:, -1:]))[:, 0])

    def step(self, action: int) -> None:
        """Take an action."""
        if self.left is None:
            self.left = self.steps + 1
        self._step(torch.tensor([action], device=self.state.frame.device))

    def follow(self) -> bool:
        """Take the action that the recording took at this step; False: it is over."""
        at = self.begins + self.steps
        if at >= len(self.actions):
            return False
        self._step(self.actions[None, at])
        return True

    def _step(self, actions: Tensor) -> None:
        with torch.inference_mode():
            self.state = self.model.step(self.state, actions, self.generator, self.sampling)
        self.steps += 1

    @property
    def frame(self) -> np.ndarray:
        """The newest frame, uint8 `[S S C]`."""
        return self.state.frame[0].cpu().numpy()

    @property
    def truth(self) -> np.ndarray | None:
        """The recording's frame at this step, if it lasts that long."""
        at = self.begins + self.steps
        return self.recording.frames[at].cpu().numpy() if at < len(self.recording.frames) else None

    def drift(self) -> float:
        """How many dB worse than at the start the tokenizer redraws a frame of this world: about 0 while frames look
        like those it has been trained on."""
        return 0.0 if not self.steps else self._usual - residual(self.model, self.state.frame)

    def previews(self) -> Iterator[np.ndarray]:
        """What follows from the beginning if each action is repeated: `PREVIEW` times the next frames
        uint8 `[A S S C]`."""
        count = self.model.config.actions
        state, actions = repeat_rows(self.first, count), torch.arange(count, device=self.state.frame.device)
        generator = torch.Generator(actions.device).manual_seed(0)
        for _ in range(PREVIEW):
            with torch.inference_mode():
                state = self.model.step(state, actions, generator, self.sampling)
            yield state.frame.cpu().numpy()


@torch.inference_mode()
def residual(model: Genie, frames: UInt8[Tensor, "B S S C"]) -> float:
    """PSNR in dB of frames that the tokenizer has encoded and decoded, to themselves."""
    again = model.decode(model.encode(frames[:, None]))[:, 0]
    error = float((again.float() - frames.float()).div(255).square().mean())
    return -10 * math.log10(max(error, _LEAST_ERROR))
