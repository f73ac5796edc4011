"""What a world generates from the first frames of held-out clips, as a picture and as a video.

Legend: B clips, T frames, S pixels a side.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from actors.video import write_video
from learner.video_quality.rollout import roll_out
from replay.files.whole_file import whole_file
from world_models.genie.dynamics import Sampling
from world_models.genie.genie import Genie

CLIPS = 4
COLUMNS = 16
"""Frames of the picture, from the first on."""
FPS = 4
_TILE, _GAP, _LABEL, _LINE = 64, 4, 110, 22  # pixels
_BACK, _INK, _FAINT, _OPEN = "#10141a", "#eceff3", "#8d97a5", "#f2913d"

Panels = dict[str, np.ndarray]
"""Clips by what they are, each uint8 `[B T S S 3]`."""


def panels(
    model: Genie, batch: Mapping[str, Tensor], generator: torch.Generator, sampling: Sampling | None = None
) -> Panels:
    """The true clips, what is generated from their first frame with their actions and with random ones, that frame
    alone, and the true clips through the tokenizer and back."""
    frames = batch["frames"][:CLIPS]
    actions = batch["actions"][:CLIPS] if model.config.real_actions else model.infer_actions(frames)
    shown = roll_out(model, frames, actions, frames.shape[1] - 1, generator, sampling)
    begun = {"generated": shown.generated, "random actions": shown.random, "first frame": shown.copied}
    clips = {"true": frames} | {name: torch.cat([frames[:, :1], x], 1) for name, x in begun.items()}
    clips["tokenizer"] = model.decode(model.encode(frames))
    return {name: _visible(x) for name, x in clips.items()}


def write_strip(shown: Panels, file: Path) -> Path:
    """A picture: for each clip a row of each kind, a column for each frame."""
    clips, frames, size = next(iter(shown.values())).shape[:3]
    frames = min(frames, COLUMNS)
    cell, block = size + _GAP, len(shown) * (size + _GAP) + 3 * _GAP
    picture = Image.new("RGB", (_LABEL + frames * cell, _LINE + clips * block), _BACK)
    draw = ImageDraw.Draw(picture)
    for t in range(frames):
        text, ink = (f"+{t}", _OPEN) if t else ("start", _FAINT)
        draw.text((_LABEL + t * cell + size / 2, _LINE / 2), text, ink, _font(), anchor="mm")
    for clip in range(clips):
        for row, (name, x) in enumerate(shown.items()):
            y = _LINE + clip * block + row * cell
            draw.text((_GAP, y + size / 2), name, _INK, _font(), anchor="lm")
            for t in range(frames):
                picture.paste(Image.fromarray(x[clip, t]), (_LABEL + t * cell, y))
    with whole_file(file) as fresh:
        picture.save(fresh)
    return file


def write_world_video(shown: Panels, file: Path) -> Path:
    """A video: a row for each clip, a column for each kind; the last frame is held for a second."""
    clips, frames, size = next(iter(shown.values())).shape[:3]
    wide = 2 * size
    pictures = []
    for t in range(frames):
        picture = Image.new("RGB", (len(shown) * (wide + _GAP), _LINE + clips * (wide + _GAP)), _BACK)
        draw = ImageDraw.Draw(picture)
        for column, (name, x) in enumerate(shown.items()):
            left = column * (wide + _GAP)
            draw.text((left + wide / 2, _LINE / 2), name if column else f"true, +{t}", _INK, _font(), anchor="mm")
            for clip in range(clips):
                tile = Image.fromarray(x[clip, t]).resize((wide, wide), Image.Resampling.NEAREST)
                picture.paste(tile, (left, _LINE + clip * (wide + _GAP)))
        pictures.append(np.asarray(picture))
    return write_video(file, pictures + [pictures[-1]] * FPS, FPS)


def _visible(frames: Tensor) -> np.ndarray:
    """Frames in colour, enlarged by a whole factor."""
    x = frames.cpu().numpy()
    x = x.repeat(3, -1) if x.shape[-1] == 1 else x[..., :3]
    factor = max(1, _TILE // x.shape[2])
    return x.repeat(factor, 2).repeat(factor, 3)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(13)
