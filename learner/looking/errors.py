"""Where a model's predictions fail, patch by patch.

Legend: B images or clips, T frames or times, N patches of all times, h rows, w columns, S pixels a side, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from learner.probes.features import Note, quiet
from world_models.frames import prepared
from world_models.genie.genie import Genie
from world_models.jepa.ijepa import IJEPA
from world_models.jepa.losses import normalized
from world_models.jepa.vjepa2 import VJEPA2
from world_models.jepa.vjepa2_ac import VJEPA2AC

LEAST, MOST = 4, 100
"""Masks are drawn until each patch was a target so often, but no more often than this."""


@dataclass(frozen=True, kw_only=True)
class ErrorMaps:
    """Errors of predictions, float `[B T h w]`; NaN where nothing was predicted."""

    error: np.ndarray
    trivial: np.ndarray
    """Of a prediction that needs no training."""
    unit: str
    baseline: str
    """What the trivial prediction is."""
    first: int = 0
    """The frame that the first map is of."""
    each: int = 1
    """Frames of one map: those of a tubelet."""

    @property
    def means(self) -> tuple[float, float]:
        """Of the errors, and of the trivial ones where there are errors; NaN if there are none."""
        seen = np.isfinite(self.error)
        if not seen.any():
            return np.nan, np.nan
        return float(self.error[seen].mean()), float(self.trivial[seen].mean())


@torch.no_grad()
def masked_errors(
    model: IJEPA | VJEPA2, frames: UInt8[Tensor, "B T S S C"], generator: torch.Generator, note: Note = quiet
) -> ErrorMaps:
    """The error of each patch when it is hidden, the mean over masks drawn as in training: smooth L1 (I-JEPA) or L1
    (V-JEPA 2) of normalised tokens. Trivial: the mean token of all patches here."""
    clips = prepared(frames, model.config.encoder.channels)
    still = isinstance(model, IJEPA)
    targets = normalized(model.encode(clips[:, :, 0] if still else clips))
    sums = torch.zeros(targets.shape[:2], device=targets.device)
    counts = torch.zeros_like(sums)

    def add(ids: Int[Tensor, "B K"], errors: Float[Tensor, "B K"]) -> None:
        sums.scatter_add_(1, ids, errors)
        counts.scatter_add_(1, ids, torch.ones_like(errors))

    draw = _image_masks(model, clips[:, :, 0], add) if isinstance(model, IJEPA) else _clip_masks(model, clips, add)
    gap = _smooth if still else _absolute
    for number in range(MOST):
        draw(targets, gap, generator)
        note("masks", number + 1, MOST)
        if counts.min() >= LEAST:
            break
    mean = targets.mean((0, 1)).expand_as(targets)
    grid, each = model.config.encoder.grid, max(1, model.config.encoder.tubelet)

    def shaped(x: Tensor) -> np.ndarray:
        return x.reshape(len(x), -1, grid, grid).cpu().numpy()

    found = torch.where(counts > 0, sums / counts.clamp_min(1), torch.nan)
    return ErrorMaps(
        error=shaped(found), trivial=shaped(gap(mean, targets)), each=1 if still else each,
        unit=f"{'smooth L1' if still else 'L1'} of features", baseline="the mean token",
    )  # fmt: skip


_Gap = Callable[[Tensor, Tensor], Tensor]
_Add = Callable[[Tensor, Tensor], None]


def _smooth(prediction: Tensor, target: Tensor) -> Tensor:
    return F.smooth_l1_loss(prediction.float(), target, reduction="none").mean(-1)


def _absolute(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction.float() - target).abs().mean(-1)


def _at(tokens: Float[Tensor, "B N D"], ids: Int[Tensor, "B K"]) -> Float[Tensor, "B K D"]:
    return tokens.gather(1, ids[..., None].expand(-1, -1, tokens.shape[-1]))


def _image_masks(model: IJEPA, images: Tensor, add: _Add) -> Callable[[Tensor, _Gap, torch.Generator], None]:
    masks = model.masks()

    def once(targets: Tensor, gap: _Gap, generator: torch.Generator) -> None:
        context, hidden = (ids.to(images.device) for ids in masks(len(images), generator))
        predicted = model.predict(images, context, hidden).unflatten(0, (len(hidden), len(context), len(images)))
        for ids, ahead in zip(hidden, predicted, strict=True):  # [B K], [C B K D]
            for one in ahead:
                add(ids, gap(one, _at(targets, ids)))

    return once


def _clip_masks(model: VJEPA2, clips: Tensor, add: _Add) -> Callable[[Tensor, _Gap, torch.Generator], None]:
    masks = model.masks(clips.shape[2])

    def once(targets: Tensor, gap: _Gap, generator: torch.Generator) -> None:
        drawn = [
            type(pair)(*(ids.to(clips.device) for ids in pair)) for pair in (m(len(clips), generator) for m in masks)
        ]
        for pair, predicted in zip(drawn, model.predict(clips, drawn, 0), strict=True):
            add(pair.target, gap(predicted, _at(targets, pair.target)))

    return once


@torch.no_grad()
def next_frame_errors(
    model: VJEPA2AC, frames: UInt8[Tensor, "B T S S C"], actions: Tensor, states: Tensor | None
) -> ErrorMaps:
    """The error of each patch of every frame but the first, predicted from the real frames before it and the true
    actions. Trivial: the frame before it."""
    latents = model.encode(prepared(frames, model.config.encoder.channels))
    forced, _ = model.predictions(latents, actions, states)
    grid = model.config.encoder.grid

    def shaped(prediction: Tensor) -> np.ndarray:
        return _absolute(prediction, latents[:, 1:]).unflatten(-1, (grid, grid)).cpu().numpy()

    return ErrorMaps(
        error=shaped(forced), trivial=shaped(latents[:, :-1]), unit="L1 of features", baseline="the frame before",
        first=1,
    )  # fmt: skip


@torch.no_grad()
def next_picture_errors(
    model: Genie, frames: UInt8[Tensor, "B T S S C"], actions: Tensor, generator: torch.Generator, note: Note = quiet
) -> ErrorMaps:
    """The same of a world that draws its frames: mean absolute error of pixels from 0 to 1 of each patch."""
    steps = frames.shape[1] - 1
    drawn = []
    for k in range(steps):
        state = model.start(frames[:, : k + 1], actions[:, :k])
        drawn.append(model.step(state, actions[:, k], generator).frame)
        note("next frames", k + 1, steps)
    patch, after = model.config.tokenizer.patch, frames[:, 1:].cpu().numpy()
    return ErrorMaps(
        error=pixel_errors(torch.stack(drawn, 1).cpu().numpy(), after, patch),
        trivial=pixel_errors(frames[:, :-1].cpu().numpy(), after, patch),
        unit="absolute error of pixels, 0 to 1", baseline="the frame before", first=1,
    )  # fmt: skip


def pixel_errors(a: np.ndarray, b: np.ndarray, patch: int = 1) -> np.ndarray:
    """Mean absolute errors of pictures uint8 `[... H W C]`, from 0 to 1, of each square of `patch` pixels a side."""
    gap = np.abs(a.astype(np.float32) - b).mean(-1) / 255
    *lead, height, width = gap.shape
    return gap.reshape(*lead, height // patch, patch, width // patch, patch).mean((-3, -1))
