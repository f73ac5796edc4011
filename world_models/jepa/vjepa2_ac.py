"""V-JEPA 2-AC: an action-conditioned predictor over a frozen V-JEPA 2 encoder (arXiv 2506.09985, section 3).

The rollout loss is the corrected one of the two that were published: predictions start from real frame 0 and the
prediction of frame 1. (The first version started from real frame 0 and the prediction of the last frame.)

Legend: B batch, T frames, H steps of a plan, N patches of a frame, D width of the encoder.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from world_models.jepa.action_predictor import ActionPredictor, Past
from world_models.jepa.config import VJEPA2ACConfig
from world_models.jepa.encoder import VideoEncoder
from world_models.jepa.losses import l1, normalized
from world_models.jepa.pose import move_pose


class Imagined(NamedTuple):
    """Where imagined rollouts stand: a tree of tensors, a row for each."""

    latent: Tensor
    """Normalised tokens of the current frame, `[B N D]`."""
    state: Tensor
    """The state that accompanies it, `[B S]`; S = 0 if there is none."""
    extrinsics: Tensor
    """The camera's, `[B E]`; E = 0 if there are none."""
    past: Past
    """Keys and values of the frames before it."""


class VJEPA2AC(nn.Module):
    """A frozen encoder, applied to each frame alone, and the predictor of the next frame's tokens."""

    def __init__(self, config: VJEPA2ACConfig):
        super().__init__()
        self.config = config
        self.encoder = VideoEncoder(config.encoder).requires_grad_(False)
        self.predictor = ActionPredictor(config)

    @torch.no_grad()
    def encode(self, clips: Float[Tensor, "B channels T height width"]) -> Float[Tensor, "B T N D"]:
        """Normalised tokens of every frame. ValueError if these are no clips, or not of the configured size."""
        self.encoder.patch_embed.grid(clips)  # refuses what is no batch of clips
        size, (height, width) = self.config.encoder.size, clips.shape[-2:]
        if (height, width) != (size, size):
            raise ValueError(f"Frames are {height}x{width}, this V-JEPA 2-AC takes {size}x{size}; resize them.")
        frames = clips.transpose(1, 2)
        # The official program repeats each frame to fill a tubelet; the encoder does so for a single frame.
        tokens = self.encoder(frames.flatten(0, 1)[:, :, None])
        return normalized(tokens).unflatten(0, frames.shape[:2])

    def losses(
        self,
        clips: Float[Tensor, "B channels T height width"],
        actions: Float[Tensor, "B T-1 action"],
        states: Float[Tensor, "B T state"] | None = None,
        extrinsics: Float[Tensor, "B T extrinsics"] | None = None,
    ) -> dict[str, Tensor]:
        """`latent_losses` of encoded clips."""
        return self.latent_losses(self.encode(clips), actions, states, extrinsics)

    forward = losses
    """What data-parallel wrappers call."""

    def latent_losses(
        self,
        latents: Float[Tensor, "B T N D"],
        actions: Float[Tensor, "B T-1 action"],
        states: Float[Tensor, "B T state"] | None = None,
        extrinsics: Float[Tensor, "B T extrinsics"] | None = None,
    ) -> dict[str, Tensor]:
        """`teacher_forcing` and `rollout`: absolute errors of each clip `[B]` (eqs. 2 and 3)."""
        forced, rollout = self.predictions(latents, actions, states, extrinsics)
        return {
            "teacher_forcing": l1(forced.flatten(1, 2), latents[:, 1:].flatten(1, 2)),
            "rollout": l1(rollout.flatten(1, 2), latents[:, 1 : 1 + rollout.shape[1]].flatten(1, 2)),
        }

    def predictions(
        self,
        latents: Float[Tensor, "B T N D"],
        actions: Float[Tensor, "B T-1 action"],
        states: Float[Tensor, "B T state"] | None = None,
        extrinsics: Float[Tensor, "B T extrinsics"] | None = None,
    ) -> tuple[Float[Tensor, "B T-1 N D"], Float[Tensor, "B rollout N D"]]:
        """Normalised predictions of frames 1 to T-1 from real frames, and of the first `rollout` from predictions.

        ValueError if the clip is shorter than the rollout, or if the actions do not fit it.
        """
        rollout = self.config.rollout
        if latents.shape[1] <= rollout:
            raise ValueError(
                f"Clips of {latents.shape[1]} frames are too short for a rollout of {rollout}; lower rollout."
            )
        wanted = (len(latents), latents.shape[1] - 1, self.config.action)
        if actions.shape != wanted:
            raise ValueError(
                f"actions have the shape {tuple(actions.shape)}, not {wanted}: pass one of {self.config.action} "
                "numbers between each two frames."
            )

        def at(x: Tensor | None, frame: slice) -> Tensor | None:
            return None if x is None else x[:, frame]

        before = slice(None, -1)
        raw, seen = self.predictor(latents[:, before], actions, at(states, before), at(extrinsics, before))
        forced = normalized(raw)
        # Frame 0 is the same in both: its keys and values serve the rollout as well.
        past = tuple(layer.first(self.predictor.frame_tokens) for layer in seen)
        frames = [forced[:, :1]]
        for t in range(1, rollout):
            now = slice(t, t + 1)
            raw, past = self.predictor(frames[-1], actions[:, now], at(states, now), at(extrinsics, now), past)
            frames.append(normalized(raw))
        return forced, torch.cat(frames, 1)

    def begin(
        self,
        latents: Float[Tensor, "B T N D"],
        actions: Float[Tensor, "B T-1 action"] | None = None,
        states: Float[Tensor, "B T state"] | None = None,
        extrinsics: Float[Tensor, "B T extrinsics"] | None = None,
    ) -> Imagined:
        """The start of imagination after T encoded frames and the actions between them."""
        past: Past = ()
        if latents.shape[1] > 1:
            assert actions is not None, "frames without the actions between them"
            before = (None if x is None else x[:, :-1] for x in (states, extrinsics))
            _, past = self.predictor(latents[:, :-1], actions, *before)
        state, camera = (latents.new_zeros(len(latents), 0) if x is None else x[:, -1] for x in (states, extrinsics))
        return Imagined(latents[:, -1], state, camera, past)

    def step(self, now: Imagined, action: Float[Tensor, "B action"]) -> Imagined:
        """The next frame; only it is computed, as the keys and values of earlier ones are kept."""
        raw, past = self.predictor(
            now.latent[:, None], action[:, None], now.state[:, None], now.extrinsics[:, None], now.past
        )
        return Imagined(normalized(raw[:, 0]), self.next_state(now.state, action), now.extrinsics, past)

    def imagine(self, now: Imagined, actions: Float[Tensor, "B H action"]) -> Float[Tensor, "B H N D"]:
        """Tokens of the H frames that `actions` lead to."""
        latents = []
        for action in actions.unbind(1):
            now = self.step(now, action)
            latents.append(now.latent)
        return torch.stack(latents, 1)

    def next_state(
        self, state: Float[Tensor, "B state"], action: Float[Tensor, "B action"]
    ) -> Float[Tensor, "B state"]:
        """The state after an action, as `state_update` says."""
        if not self.config.state or self.config.state_update == "hold":
            return state
        if self.config.state_update == "pose":
            return move_pose(state, action)
        return state + action
