"""A latent world model: encoder and predictor trained end to end by two losses, without reconstruction.

As LeWorldModel (Maes et al. 2026, arXiv 2603.19312): the squared error of the next latent, and a regulariser that makes
latents Gaussian in place of stopped gradients, averaged weights or a pretrained encoder. Optional: predictions from
predictions, and inverse dynamics. Legend: B batch, T frames, H steps, D latent, A action, M directions, P past frames.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from world_models.latent.config import LatentWorldConfig
from world_models.latent.encoder import FrameEncoder
from world_models.latent.predictor import LatentPredictor
from world_models.latent.regulariser import gaussianity, random_directions


class Imagined(NamedTuple):
    """Where imagined rollouts stand: a tree of tensors, a row for each."""

    latent: Tensor
    """Of the current frame, `[B D]`."""
    past: tuple[Tensor, ...]
    """Latents of the frames before it that predictions still see, `[B P D]`, P < history, and the actions that followed
    these, `[B P A]`."""


class LatentWorld(nn.Module):
    """An encoder, applied to each frame alone, and the predictor of the next latent."""

    def __init__(self, config: LatentWorldConfig):
        super().__init__()
        self.config = config
        self.encoder = FrameEncoder(config.encoder, config.latent)
        self.predictor = LatentPredictor(config)
        self.frozen = False
        if config.inverse:
            hidden = config.predictor.width
            self.inverse = nn.Sequential(
                nn.Linear(2 * config.latent, hidden), nn.GELU(), nn.Linear(hidden, config.action)
            )

    def freeze_encoder(self) -> None:
        """From now on the predictor alone learns."""
        self.frozen = True
        self.encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "LatentWorld":
        """A frozen encoder stays as it is, its running means too."""
        super().train(mode)
        self.encoder.train(mode and not self.frozen)
        return self

    def encode(self, clips: Float[Tensor, "B channels T size size"]) -> Float[Tensor, "B T D"]:
        """A latent of every frame. ValueError: these are no clips, or not of the configured size."""
        channels = self.config.encoder.channels
        if clips.ndim != 5 or clips.shape[1] != channels:
            raise ValueError(
                f"This latent world model takes clips [B {channels} T height width], got {list(clips.shape)}."
            )
        frames = clips.transpose(1, 2)
        return self.encoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def losses(
        self,
        clips: Float[Tensor, "B channels T size size"] | Float[Tensor, "B T D"],
        actions: Float[Tensor, "B T-1 A"],
        directions: Float[Tensor, "D M"] | None = None,
    ) -> dict[str, Tensor]:
        """`latent_losses` of clips, or of latents that clips were encoded to."""
        return self.latent_losses(clips if clips.ndim == 3 else self.encode(clips), actions, directions)

    forward = losses
    """What data-parallel wrappers call."""

    def latent_losses(
        self,
        latents: Float[Tensor, "B T D"],
        actions: Float[Tensor, "B T-1 A"],
        directions: Float[Tensor, "D M"] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of each clip `[B]`, each with its weight: `prediction`, the squared error of the next latent, and, if
        they are configured, `regulariser`, that of all latents of the batch, `rollout` and `inverse`.

        Gradients of `prediction` reach the targets too. Roll-outs begin at the first frames and train the predictor
        alone: through the latents, errors of many steps remove from them what is hard to predict. Random `directions`
        are drawn if none are given. ValueError: the clip is too short, or the actions do not fit it.
        """
        c = self.config
        out = {"prediction": self.errors(latents, actions, 1)[0].mean(1)}
        if c.rollout > 1:
            seen = c.history + c.rollout
            ahead = self.errors(latents[:, :seen].detach(), actions[:, : seen - 1])
            out["rollout"] = torch.cat(ahead[1:], 1).mean(1)
        if c.regulariser.weight:
            if directions is None:
                directions = random_directions(c.latent, c.regulariser.projections, device=latents.device)
            apart = gaussianity(latents.flatten(0, 1), directions, c.regulariser.knots, c.regulariser.reach)
            out["regulariser"] = (c.regulariser.weight * apart).expand(len(latents))
        if c.inverse:
            told = self.inverse(torch.cat([latents[:, :-1], latents[:, 1:]], -1))
            out["inverse"] = c.inverse * (told.float() - actions).square().mean((1, 2))
        return out

    def errors(
        self, latents: Float[Tensor, "B T D"], actions: Float[Tensor, "B T-1 A"], steps: int = 0
    ) -> list[Float[Tensor, "B R"]]:
        """Mean squared errors of the latents 1, 2, ... `rollout` (or `steps`) steps after every `history` frames; for
        the first step also after fewer. ValueError: the clip is too short, or the actions do not fit it."""
        c, steps = self.config, steps or self.config.rollout
        if (frames := latents.shape[1]) < c.history + steps:
            raise ValueError(
                f"Clips of {frames} frames are too short for history={c.history} and {steps} predicted frames."
            )
        wanted = (len(latents), frames - 1, c.action)
        if actions.shape != wanted:
            raise ValueError(
                f"actions have the shape {tuple(actions.shape)}, not {wanted}: pass one of {c.action} numbers between "
                "each two frames."
            )
        seen = latents[:, :-1].unfold(1, c.history, 1).movedim(-1, 2)  # [B R history D]
        taken = actions.unfold(1, c.history, 1).movedim(-1, 2)
        after = latents[:, 1:].unfold(1, c.history, 1).movedim(-1, 2)
        out = []
        for k in range(steps):
            rows = seen.shape[1]
            now = self.predictor(seen.flatten(0, 1), taken[:, k : k + rows].flatten(0, 1)).unflatten(0, (-1, rows))
            gap = (now - after[:, k : k + rows]).square().mean(-1)  # [B R history]
            out.append(gap.flatten(1) if k == 0 else gap[:, :, -1])
            seen = torch.cat([seen[:, :-1, 1:], now[:, :-1, -1:]], 2)
        return out

    def begin(self, latent: Float[Tensor, "B D"]) -> Imagined:
        """The start of imagination at a frame without a past."""
        rows, c = len(latent), self.config
        return Imagined(latent, (latent.new_zeros(rows, 0, c.latent), latent.new_zeros(rows, 0, c.action)))

    def follow(self, now: Imagined, action: Float[Tensor, "B A"], latent: Float[Tensor, "B D"]) -> Imagined:
        """The state at the latent that followed an action."""
        kept = self.config.history - 1
        if not kept:
            return now._replace(latent=latent)
        seen, taken = self._seen(now, action)
        return Imagined(latent, (seen[:, -kept:], taken[:, -kept:]))

    def step(self, now: Imagined, action: Float[Tensor, "B A"]) -> Imagined:
        """The predicted state after an action."""
        return self.follow(now, action, self.predictor(*self._seen(now, action))[:, -1])

    def _seen(self, now: Imagined, action: Float[Tensor, "B A"]) -> tuple[Tensor, Tensor]:
        """Latents `[B P+1 D]` and actions `[B P+1 A]` that a prediction is made from."""
        latents, actions = now.past
        return torch.cat([latents, now.latent[:, None]], 1), torch.cat([actions, action[:, None]], 1)
