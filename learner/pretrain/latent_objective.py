"""How latent world models are trained, and what is measured of their latents.

Legend: B batch (all processes together), T frames, S pixels a side, C channels, D latent, N examples, K numbers.
"""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from learner.pretrain.measures import linear_r2
from learner.pretrain.objective import Batch
from world_models.frames import prepared
from world_models.latent.config import LatentWorldConfig
from world_models.latent.latent_world import LatentWorld
from world_models.latent.regulariser import random_directions


class LatentObjective:
    """Draws the directions of the regulariser. Trivial: the latent stays as it is, and the inverse dynamics tell the
    batch's mean action; the regulariser is the same.

    Each process regularises the latents of its own rows.
    """

    averages = False
    apart = ()

    def __init__(self, config: LatentWorldConfig):
        self.model = LatentWorld(config)

    def draw(self, batch_size: int, generator: torch.Generator) -> Tensor:
        c = self.model.config
        return random_directions(c.latent, c.regulariser.projections, generator)

    def inputs(self, batch: Batch, drawn: Tensor, rows: slice) -> tuple[Tensor, ...]:
        """Clips, or the latents of clips that were encoded before (`encoded`)."""
        seen = batch["latents"] if "latents" in batch else self._clips(batch["frames"])
        return seen, batch["actions"], drawn.to(seen.device)

    @torch.no_grad()
    def encoded(self, frames: np.ndarray) -> np.ndarray:
        """Latents float32 `[T D]` of the frames uint8 `[T S S C]` of a clip."""
        device = next(self.model.parameters()).device
        clips = self._clips(torch.from_numpy(frames)[None].to(device))
        return self.model.encode(clips)[0].float().cpu().numpy()

    def trivial_loss(self, batch: Batch) -> Tensor:
        c, actions = self.model.config, batch["actions"]
        latents = self.model.encode(self._clips(batch["frames"]))
        drawn = self.draw(len(latents), torch.Generator().manual_seed(0)).to(latents.device)
        loss = self._still(latents, 1) + self.model.latent_losses(latents, actions, drawn).get("regulariser", 0.0)
        if c.rollout > 1:
            loss = loss + torch.stack([self._still(latents, k) for k in range(2, c.rollout + 1)]).mean(0)
        return loss + c.inverse * (actions - actions.mean((0, 1))).square().mean((1, 2))

    def represent(self, frames: Tensor) -> Tensor:
        """The latent of the first frame: those of one clip are much alike."""
        return self.model.encode(self._clips(frames[:, :1]))[:, 0]

    def measures(self, batches: Iterable[Batch]) -> dict[str, float]:
        """`latent_std` and `latent_std_least`, the mean and the least standard deviation of a number of the latent;
        `prediction_ratio` and `rollout_ratio`, the squared error of the next latent and of the last of the clip,
        predicted from the first frames, over that of a latent that stays as it is; `state_r2`, if there are states:
        how well a linear map of the latent tells them."""
        history = self.model.config.history
        parts: dict[str, list[Tensor]] = {"latents": [], "states": [], "next": [], "end": [], "still": [], "far": []}
        for batch in batches:
            latents = self.model.encode(self._clips(batch["frames"]))
            ahead = latents.shape[1] - history
            errors = self.model.errors(latents, batch["actions"], ahead)
            parts["next"].append(errors[0].mean(1))
            parts["end"].append(errors[-1].mean(1))
            parts["still"].append(self._still(latents, 1))
            parts["far"].append(self._still(latents, ahead))
            parts["latents"].append(latents[:, 0])
            if "states" in batch:
                parts["states"].append(batch["states"][:, 0])
        whole = {name: torch.cat(part).float() for name, part in parts.items() if part}
        if len(latents := whole["latents"]) < 2:
            return {}
        std = latents.std(0)
        out = {
            "latent_std": float(std.mean()),
            "latent_std_least": float(std.min()),
            "prediction_ratio": _ratio(whole["next"], whole["still"]),
            "rollout_ratio": _ratio(whole["end"], whole["far"]),
        }
        if "states" in whole:
            half = len(latents) // 2
            halves = latents[:half], whole["states"][:half], latents[half:], whole["states"][half:]
            if not math.isnan(told := linear_r2(*halves)):
                out["state_r2"] = told
        return out

    def _still(self, latents: Tensor, steps: int) -> Tensor:
        """The squared error of latents that stay as they are, over so many steps."""
        return (latents[:, steps:] - latents[:, :-steps]).square().mean((1, 2))

    def _clips(self, frames: Tensor) -> Tensor:
        return prepared(frames, self.model.config.encoder.channels)


def _ratio(errors: Tensor, still: Tensor) -> float:
    return float(errors.mean() / still.mean().clamp_min(1e-12))
