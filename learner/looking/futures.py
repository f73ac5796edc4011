"""What models imagine beside what came.

Legend: B clips, T frames, H imagined ones, S pixels a side, C channels, h rows, w columns, D features, M real frames.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from learner.looking.errors import pixel_errors
from learner.looking.neighbours import nearest_by_distance
from learner.open_loop_report import OpenLoopReport
from learner.video_quality.rollout import roll_out
from world_models.frames import prepared
from world_models.genie.genie import Genie
from world_models.jepa.vjepa2_ac import VJEPA2AC
from world_models.latent.latent_world import LatentWorld

PIXELS = "absolute error of pixels, 0 to 1"


@dataclass(frozen=True, kw_only=True)
class Futures:
    """Real and imagined frames; those after the `context` were imagined."""

    truth: np.ndarray
    """uint8 `[B T S S C]`."""
    imagined: np.ndarray
    """uint8 `[B T S S C]`, of as many clips or fewer; the first `context` frames are real or reconstructed."""
    maps: np.ndarray
    """Errors `[B H h w]` of these clips."""
    map_unit: str
    errors: np.ndarray
    """`[B H]` of all clips, the mean of each frame; NaN where a new episode had begun."""
    copied: np.ndarray
    """`[B H]`: of the last frame of the context, repeated."""
    unit: str
    context: int
    looked_up: int = 0
    """If positive, imagined frames are the nearest of so many real ones: the model draws none."""
    control: np.ndarray | None = None
    """Then what the same search finds for the latents of the real frames, uint8 `[B T S S C]`: the best that imagined
    ones can look like."""

    def curves(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean errors by step `[H]`, and those of the copy; NaN where no clip is left."""
        return _mean(self.errors), _mean(self.copied)


def _mean(errors: np.ndarray) -> np.ndarray:
    known = np.isfinite(errors)
    total = np.where(known, errors, 0).sum(0)
    return np.divide(total, known.sum(0), out=np.full(len(total), np.nan), where=known.any(0))


Bank = tuple[UInt8[Tensor, "M S S C"], Tensor]
"""Real frames to look up, and their latents `[M ...]`."""


@torch.no_grad()
def features_ahead(
    model: VJEPA2AC, frames: UInt8[Tensor, "B T S S C"], actions: Tensor, states: Tensor | None, bank: Bank, shown: int
) -> Futures:
    """V-JEPA 2-AC from the first frame alone, as plans begin."""
    latents = model.encode(prepared(frames, model.config.encoder.channels))
    state = model.begin(latents[:, :1], states=None if states is None else states[:, :1])
    ahead = []
    for action in actions.unbind(1):
        state = model.step(state, action)
        ahead.append(state.latent)
    imagined, grid = torch.stack(ahead, 1), model.config.encoder.grid
    gap = (imagined - latents[:, 1:]).abs().mean(-1)  # [B H N]
    return Futures(
        truth=frames.cpu().numpy(), imagined=_looked_up(frames, imagined, bank, 1, shown),
        maps=gap[:shown].unflatten(-1, (grid, grid)).cpu().numpy(), map_unit="L1 of features",
        errors=gap.mean(-1).cpu().numpy(), copied=(latents[:, :1] - latents[:, 1:]).abs().mean((-2, -1)).cpu().numpy(),
        unit="L1 of features", context=1, looked_up=len(bank[0]),
        control=_looked_up(frames, latents[:, 1:], bank, 1, shown),
    )  # fmt: skip


@torch.no_grad()
def latents_ahead(
    model: LatentWorld, frames: UInt8[Tensor, "B T S S C"], actions: Tensor, bank: Bank, shown: int
) -> Futures:
    """A latent world after as many frames as it sees at once. A latent has no patches: maps compare the frames that are
    looked up with the real ones."""
    latents = model.encode(prepared(frames, model.config.encoder.channels))
    context = min(model.config.history, frames.shape[1] - 1)
    state = model.begin(latents[:, 0])
    for t in range(1, context):
        state = model.follow(state, actions[:, t - 1], latents[:, t])
    ahead = []
    for t in range(context - 1, actions.shape[1]):
        state = model.step(state, actions[:, t])
        ahead.append(state.latent)
    imagined, after = torch.stack(ahead, 1), latents[:, context:]
    pictures = _looked_up(frames, imagined, bank, 2, shown)
    return Futures(
        truth=frames.cpu().numpy(), imagined=pictures,
        maps=pixel_errors(pictures[:, context:], frames[:shown, context:].cpu().numpy()), map_unit=PIXELS,
        errors=(imagined - after).square().mean(-1).cpu().numpy(),
        copied=(latents[:, context - 1 : context] - after).square().mean(-1).cpu().numpy(),
        unit="squared error of the latent", context=context, looked_up=len(bank[0]),
        control=_looked_up(frames, after, bank, 2, shown),
    )  # fmt: skip


def _looked_up(frames: Tensor, imagined: Float[Tensor, "B H ..."], bank: Bank, power: float, shown: int) -> np.ndarray:
    """Real frames whose latents are nearest to the imagined ones, after the context."""
    pictures, latents = bank
    asked = imagined[:shown].flatten(0, 1).flatten(1)
    found = pictures[nearest_by_distance(asked, latents.flatten(1), power).to(pictures.device)]
    seen = frames[:shown, : frames.shape[1] - imagined.shape[1]]
    return torch.cat([seen.cpu(), found.unflatten(0, imagined[:shown].shape[:2]).cpu()], 1).numpy()


@torch.no_grad()
def pictures_ahead(
    model: Genie, frames: UInt8[Tensor, "B T S S C"], actions: Tensor, generator: torch.Generator, shown: int
) -> Futures:
    """Genie from the first frame, with the actions of the clip."""
    found = roll_out(model, frames, actions, frames.shape[1] - 1, generator)
    truth, generated, copied = (x.cpu().numpy() for x in (found.truth, found.generated, found.copied))
    gap = pixel_errors(generated, truth)
    return Futures(
        truth=frames.cpu().numpy(), imagined=np.concatenate([frames[:shown, :1].cpu().numpy(), generated[:shown]], 1),
        maps=gap[:shown], map_unit=PIXELS, errors=gap.mean((-2, -1)),
        copied=pixel_errors(copied, truth).mean((-2, -1)), unit=PIXELS, context=1,
    )  # fmt: skip


def observations_ahead(report: OpenLoopReport, key: str, shown: int) -> Futures:
    """DreamerV3's open loop: the observations `key`, pictures, decoded from states that follow from actions alone."""
    context = report.context
    invalid = ~report.valid[:, context:]
    maps = pixel_errors(report.prediction[key][:shown, context:], report.truth[key][:shown, context:])
    maps[invalid[:shown]] = np.nan
    return Futures(
        truth=report.truth[key], imagined=report.prediction[key][:shown], maps=maps, map_unit=PIXELS,
        errors=np.where(invalid, np.nan, report.error[key][:, context:]),
        copied=np.where(invalid, np.nan, report.still[key][:, context:]), unit=PIXELS, context=context,
    )  # fmt: skip
