"""Genie: a world that is played frame by frame (Bruce et al. 2024, arXiv 2402.15391).

Legend: B worlds or clips, T frames, S pixels a side, C channels, N tokens of a frame, A numbers of an action.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from world_models.genie.config import GenieConfig
from world_models.genie.dynamics import Dynamics, Sampling
from world_models.genie.latent_action import LatentActionModel
from world_models.genie.pixels import require_frames
from world_models.genie.st_transformer import Past, newest
from world_models.genie.tokenizer import VideoTokenizer

Actions = Int[Tensor, "B K"] | Float[Tensor, "B K A"]
"""Numbers of discrete actions, or vectors; K is T - 1 where they lie between T frames."""


class WorldState(NamedTuple):
    """Where worlds stand: a tree of tensors, a row for each world."""

    frame: Tensor
    """The newest frame, uint8 `[B S S C]`."""
    tokens: Tensor
    """Its tokens, `[B N]`."""
    time: Tensor
    """Its number, int64 `[B]`; the same for all worlds."""
    dynamics: Past
    """Keys and values of the dynamics for the newest frames, this one included."""
    decoder: Past
    """Those of the tokenizer's decoder."""


class Genie(nn.Module):
    """A frozen tokenizer, a frozen latent action model unless the actions are real, and the dynamics."""

    def __init__(self, config: GenieConfig):
        super().__init__()
        self.config = config
        self.tokenizer = VideoTokenizer(config.tokenizer).requires_grad_(False)
        self.latent_action = (
            None if config.real_actions else LatentActionModel(config.latent_action).requires_grad_(False)
        )
        self.dynamics = Dynamics(
            config.dynamics, config.tokenizer.quantizer.size, config.tokenizer.grid, config.actions
        )

    def train(self, mode: bool = True) -> "Genie":
        """The frozen parts stay as they are: their codes do not move."""
        super().train(mode)
        self.tokenizer.eval()
        if self.latent_action is not None:
            self.latent_action.eval()
        return self

    def losses(
        self,
        frames: UInt8[Tensor, "B T S S C"],
        masked: Bool[Tensor, "B T N"],
        actions: Float[Tensor, "B K A"] | None = None,
    ) -> dict[str, Tensor]:
        """`cross_entropy` of the masked tokens, `[B]`; latent actions are inferred."""
        known = self.infer_actions(frames) if actions is None else actions
        return self.dynamics.losses(self.encode(frames), self.vectors(known), masked)

    forward = losses
    """What data-parallel wrappers call."""

    def encode(self, frames: UInt8[Tensor, "B T S S C"]) -> Int[Tensor, "B T N"]:
        """Tokens of clips."""
        return self.tokenizer.encode(frames)

    def decode(self, tokens: Int[Tensor, "B T N"]) -> UInt8[Tensor, "B T S S C"]:
        """Frames of tokens."""
        return self.tokenizer.decode(tokens)

    def infer_actions(self, frames: UInt8[Tensor, "B T S S C"]) -> Int[Tensor, "B T-1"]:
        """The latent action between each two frames. ValueError: the world has real actions."""
        if self.latent_action is None:
            raise ValueError("This world was trained with real actions, which cannot be inferred; pass the actions.")
        return self.latent_action.infer(frames)

    @torch.no_grad()
    def start(self, frames: UInt8[Tensor, "B T S S C"], actions: Actions | None = None) -> WorldState:
        """Worlds that begin with these frames, of which the newest are kept in memory; the actions between them are
        inferred unless given. ValueError: there are no frames, they have another size, or the actions do not fit."""
        require_frames(frames, self.config.size, self.config.channels)
        if not len(frames):
            raise ValueError("A batch of no worlds was given; pass the frames of at least one.")
        between = frames.shape[1] - 1
        if between < 0:
            raise ValueError("A world begins with at least one frame, got none.")
        if actions is not None and actions.shape[1] != between:
            raise ValueError(
                f"{actions.shape[1]} actions were given for {between + 1} frames; give the {between} between."
            )
        frames = frames[:, -self.config.frames :]
        if actions is not None:
            actions = actions[:, actions.shape[1] - frames.shape[1] + 1 :]
        elif frames.shape[1] > 1:
            actions = self.infer_actions(frames)
        else:
            actions = torch.zeros(len(frames), 0, self.config.actions, device=frames.device)
        tokens = self.encode(frames)
        _, dynamics = self.dynamics.extend(tokens, None, self.dynamics.conditions(self.vectors(actions)), None, 0)
        _, decoder = self.tokenizer.extend(tokens, None, 0)
        time = torch.full((len(frames),), frames.shape[1] - 1, device=frames.device)
        return WorldState(frames[:, -1], tokens[:, -1], time, self._kept(dynamics), self._kept(decoder))

    @torch.no_grad()
    def step(
        self,
        state: WorldState,
        actions: Tensor,
        generator: torch.Generator | None = None,
        sampling: Sampling | None = None,
    ) -> WorldState:
        """The next frame of each world; only it is computed."""
        c = self.config.dynamics
        sampling = sampling or Sampling(steps=c.steps, temperature=c.temperature)
        time = int(state.time[0]) + 1
        tokens, dynamics = self.dynamics.sample(
            state.tokens, self.vectors(actions[:, None])[:, 0], state.dynamics, time, sampling, generator
        )
        frame, decoder = self.tokenizer.extend(tokens[:, None], state.decoder, time)
        return WorldState(frame[:, 0], tokens, state.time + 1, self._kept(dynamics), self._kept(decoder))

    def generate(
        self,
        frames: UInt8[Tensor, "B T S S C"],
        actions: Actions,
        generator: torch.Generator | None = None,
        sampling: Sampling | None = None,
    ) -> UInt8[Tensor, "B K S S C"]:
        """The K frames that follow `frames` under `actions` `[B K]`, or `[B K A]`. With real actions, `frames` is one
        frame, or use `start`. ValueError: frames or actions do not fit."""
        if actions.ndim < 2 or len(actions) != len(frames):
            raise ValueError(
                f"actions have the shape {tuple(actions.shape)} for {len(frames)} worlds; pass [{len(frames)} K], or "
                f"[{len(frames)} K {self.config.actions}]."
            )
        state, out = self.start(frames), []
        for action in actions.unbind(1):
            state = self.step(state, action, generator, sampling)
            out.append(state.frame)
        return torch.stack(out, 1) if out else frames[:, :0]

    def vectors(self, actions: Tensor) -> Float[Tensor, "B T A"]:
        """Actions as the dynamics takes them. ValueError: they do not fit."""
        count = self.config.actions
        if not actions.is_floating_point():
            if actions.numel() and not (int(actions.min()) >= 0 and int(actions.max()) < count):
                raise ValueError(f"Actions {actions.unique().tolist()} are not all in 0 to {count - 1}.")
            return F.one_hot(actions.long(), count).float()
        if actions.shape[-1] != count:
            raise ValueError(f"Actions have {actions.shape[-1]} numbers; this world takes {count}.")
        return actions

    def _kept(self, past: Past) -> Past:
        return newest(past, self.config.frames - 1)
