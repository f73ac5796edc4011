"""Video of open-loop predictions of images: truth, prediction and error stacked, one column per sequence."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deploy.reports.open_loop_files import HELD
from learner.open_loop_report import OpenLoopReport

COLUMNS = 6
TILE = 128  # pixels an image is enlarged to, by a whole factor
BORDER, GAP, MARGIN, GUTTER = 3, 10, 20, 104
HEADER, CHART, FOOTER, LEAST_WIDTH = 78, 64, 40, 600
ERROR_RANGE = 0.5
"""Error at the end of the colour scale; an error of 1 is black instead of white."""

_BACK, _INK, _FAINT, _LINE = "#10141a", "#eceff3", "#8d97a5", "#2a313b"
_CONTEXT, _OPEN, _BROKEN = "#35b88a", "#f2913d", "#4a525e"


def video_frames(report: OpenLoopReport, title: str) -> list[np.ndarray]:
    """One picture `[H W 3]` uint8 per step, the last held for a second. Empty if no key is an image.

    Borders are green while the model observes (context), orange while it predicts from the actions alone, and grey once
    a new episode has begun, which actions cannot predict.
    """
    keys = [key for key, space in report.space.items() if space.is_image]
    if not keys:
        return []
    columns = np.argsort(-report.valid.sum(1), kind="stable")[:COLUMNS]
    rows = [row for key in keys for row in _rows(report, key, columns)]
    height, width = rows[0][1].shape[2:4]
    cell = (height + 2 * BORDER + GAP, width + 2 * BORDER + GAP)
    base = _base(report, keys, rows, cell, len(columns), title)
    lit, dim = (_chart(report, keys, base.width - GUTTER - MARGIN, fade) for fade in (0.0, 0.72))
    steps = report.valid.shape[1]
    frames = [_frame(report, base, lit, dim, rows, cell, columns, step) for step in range(steps)]
    return [*frames, *[frames[-1]] * HELD]


def _rows(report: OpenLoopReport, key: str, columns: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Labelled pictures `[N T H W 3]` uint8 of one key."""
    truth, prediction = report.truth[key][columns], report.prediction[key][columns]
    wrong = np.abs(truth.astype(np.int16) - prediction).mean(-1) / 255  # [N T H W]
    level = (np.clip(wrong / ERROR_RANGE, 0, 1) * 255).round().astype(np.uint8)
    factor = max(1, round(TILE / max(truth.shape[2:4])))
    pictures = {"truth": _rgb(truth), "prediction": _rgb(prediction), "error": _colour_scale()[level]}
    return [(label, x.repeat(factor, 2).repeat(factor, 3)) for label, x in pictures.items()]


def _rgb(images: np.ndarray) -> np.ndarray:
    """`[... C]` to `[... 3]`: the newest of stacked frames, the mean of other channels."""
    channels = images.shape[-1]
    if channels % 3 == 0:
        return images[..., -3:]
    return images.mean(-1, keepdims=True).astype(np.uint8).repeat(3, -1)


def _base(
    report: OpenLoopReport, keys: Sequence[str], rows: list[tuple[str, np.ndarray]], cell: tuple[int, int],
    columns: int, title: str,
) -> Image.Image:  # fmt: skip
    """Everything that is the same in all frames: title, row labels, colour scale, the chart's captions."""
    width = GUTTER + max(columns * cell[1] - GAP, LEAST_WIDTH) + MARGIN
    height = HEADER + len(rows) * cell[0] + CHART + FOOTER
    picture = Image.new("RGB", (width + width % 2, height + height % 2), _BACK)
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, 16), title, _INK, _font(17, bold=True))
    caption = f"open-loop prediction after {report.updates:,} updates"
    draw.text((MARGIN, 43), caption, _FAINT, _font(13))
    for number, (label, _) in enumerate(rows):
        middle = HEADER + number * cell[0] + (cell[0] - GAP) // 2
        several = len(keys) > 1
        draw.text((MARGIN, middle - 9 * several), label, _INK, _font(14), anchor="lm")
        if several:
            draw.text((MARGIN, middle + 10), keys[number // 3], _FAINT, _font(11), anchor="lm")
        if label == "error":
            _scale(picture, draw, middle + (26 if several else 16))
    top = HEADER + len(rows) * cell[0]
    start = GUTTER + round((picture.width - GUTTER - MARGIN) * report.context / report.valid.shape[1])
    draw.text((MARGIN, top + 6), "mean error", _INK, _font(12))
    draw.text((MARGIN, top + 24), f"0 to {_ceiling(report, keys):.2g}", _FAINT, _font(11))
    below = top + CHART + 8
    draw.text((GUTTER, below), f"context: {report.context} steps seen", _CONTEXT, _font(12))
    ahead = report.valid.shape[1] - report.context
    draw.text((start, below), f"open loop: {ahead} steps, actions only", _OPEN, _font(12))
    draw.text((picture.width - MARGIN, below), "- -  last image held", _FAINT, _font(12), anchor="ra")
    return picture


def _scale(picture: Image.Image, draw: ImageDraw.ImageDraw, top: int) -> None:
    ramp = _colour_scale()[np.linspace(0, 255, 64).astype(int)]
    picture.paste(Image.fromarray(np.broadcast_to(ramp, (6, 64, 3)).copy()), (MARGIN, top))
    draw.text((MARGIN, top + 9), "0", _FAINT, _font(10))
    draw.text((MARGIN + 64, top + 9), f"{ERROR_RANGE:g}", _FAINT, _font(10), anchor="ra")


def _chart(report: OpenLoopReport, keys: Sequence[str], width: int, fade: float) -> Image.Image:
    """Error of all sequences over time, green in the context, then orange; `fade` blends it into the background."""
    fine = 4  # drawn larger and scaled down: PIL's lines have hard edges
    steps, context = report.valid.shape[1], report.context
    picture = Image.new("RGB", (width * fine, CHART * fine), _BACK)
    draw = ImageDraw.Draw(picture, "RGBA")
    ceiling = _ceiling(report, keys)
    edges = (np.arange(steps) + 0.5) * width * fine / steps

    def points(curve: np.ndarray) -> list[tuple[float, float]]:
        level = CHART * fine * (1 - 0.94 * np.nan_to_num(curve) / ceiling)
        return list(zip(edges.tolist(), level.tolist(), strict=True))

    model, held = points(_curve(report, keys, report.error)), points(_curve(report, keys, report.still))
    joint = width * fine * context / steps
    at = (joint, (model[context - 1][1] + model[context][1]) / 2)
    parts = (
        ([(0.0, model[0][1]), *model[:context], at], _CONTEXT),
        ([at, *model[context:], (width * fine, model[-1][1])], _OPEN),
    )
    for line, colour in parts:
        bottom = CHART * fine
        draw.polygon([(line[0][0], bottom), *line, (line[-1][0], bottom)], fill=colour + "48")
        draw.line(line, fill=colour, width=2 * fine, joint="curve")
    for (x0, y0), (x1, y1) in zip(held[context:-1:2], held[context + 1 :: 2], strict=False):
        draw.line([(x0, y0), (x1, y1)], fill=_FAINT, width=fine)
    draw.line([(0, CHART * fine - fine), (width * fine, CHART * fine - fine)], fill=_LINE, width=2 * fine)
    small = picture.resize((width, CHART), Image.Resampling.LANCZOS)
    return Image.blend(small, Image.new("RGB", small.size, _BACK), fade)


def _curve(report: OpenLoopReport, keys: Sequence[str], errors: dict[str, np.ndarray]) -> np.ndarray:
    """Mean over keys and valid sequences at each step `[T]`; NaN if none is valid."""
    mean = np.mean([errors[key] for key in keys], 0)  # [B T]
    count = report.valid.sum(0)
    return np.divide((mean * report.valid).sum(0), count, out=np.full(len(count), np.nan), where=count > 0)


def _ceiling(report: OpenLoopReport, keys: Sequence[str]) -> float:
    curves = [_curve(report, keys, errors) for errors in (report.error, report.still)]
    return max(1e-6, float(np.nanmax(curves)))


def _frame(
    report: OpenLoopReport, base: Image.Image, lit: Image.Image, dim: Image.Image,
    rows: list[tuple[str, np.ndarray]], cell: tuple[int, int], columns: np.ndarray, step: int,
) -> np.ndarray:  # fmt: skip
    picture = base.copy()
    draw = ImageDraw.Draw(picture)
    steps, seen = report.valid.shape[1], step < report.context
    colour = _CONTEXT if seen else _OPEN
    _state(draw, picture.width - MARGIN, "context" if seen else f"open loop +{step + 1 - report.context}", colour)
    draw.text((picture.width - MARGIN, 44), f"step {step + 1} of {steps}", _FAINT, _font(13), anchor="ra")
    for number, (label, pictures) in enumerate(rows):
        for column, sequence in enumerate(columns):
            x, y = GUTTER + column * cell[1], HEADER + number * cell[0]
            valid = bool(report.valid[sequence, step])
            box = (x, y, x + cell[1] - GAP - 1, y + cell[0] - GAP - 1)
            draw.rectangle(box, fill=colour if valid else _BROKEN)
            tile = Image.fromarray(pictures[column, step])
            if not valid and label != "truth":
                tile.paste(_BACK, (0, 0, *tile.size))
            picture.paste(tile, (x + BORDER, y + BORDER))
            if not valid and label == "prediction":
                middle = ((box[0] + box[2]) // 2, (box[1] + box[3]) // 2)
                draw.text(middle, "new\nepisode", _FAINT, _font(12), anchor="mm", align="center")
    top, now = HEADER + len(rows) * cell[0], round(lit.width * (step + 1) / steps)
    picture.paste(dim, (GUTTER, top))
    picture.paste(lit.crop((0, 0, now, CHART)), (GUTTER, top))
    draw.rectangle((GUTTER + now - 1, top, GUTTER + now, top + CHART - 1), fill=_INK)
    return np.asarray(picture)


def _state(draw: ImageDraw.ImageDraw, right: int, text: str, colour: str) -> None:
    """The model's current phase, in a rounded box."""
    font = _font(13, bold=True)
    width = round(draw.textlength(text, font)) + 24
    draw.rounded_rectangle((right - width, 13, right, 37), radius=12, fill=colour)
    draw.text((right - width / 2, 25), text, _BACK, font, anchor="mm")


@cache
def _colour_scale() -> np.ndarray:
    """`[256 3]` uint8: black, violet, orange, pale yellow."""
    return (matplotlib.colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"  # they come with matplotlib, so they are always there
    return ImageFont.truetype(str(folder / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")), size)
