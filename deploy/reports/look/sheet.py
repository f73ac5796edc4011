"""Pictures in rows, with a scale of colours and a curve below. Legend: H height, W width, in pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from deploy.reports.figure_style import FAINT, INK, STYLE

OPEN, SEEN = "#e07b1f", "#1f9d74"
"""Colours of what a model imagines or predicts, and of what it has seen."""
WIDTH = 11.0
"""Inches of a figure."""
_LARGEST, _SMALLER, _GAP, _BREAK = 1.45, 1.0, 0.05, 0.24
_FEW = 8
"""Rows of which tiles may be large."""
_LABEL, _MARGIN, _HEAD, _HEADING, _CAPTION = 1.36, 0.22, 0.86, 0.26, 0.2
_SCALE, _CURVE = 0.72, 2.2
_UNKNOWN = np.array([0.82, 0.83, 0.85], np.float32)
_OVER = 0.82
"""Weight of an error's colour over the picture."""


@dataclass(frozen=True)
class Row:
    """Pictures `[H W 3]` from 0 to 1 or uint8 side by side, with a label; None leaves a place empty."""

    label: str
    tiles: Sequence[np.ndarray | None]
    captions: Sequence[str] = ()
    """Below each."""
    frames: Sequence[str | None] = ()
    """Colour of the border of each."""
    apart: bool = False
    """Begins a group."""


@dataclass(frozen=True)
class Scale:
    """Of colours, from 0 to `top`, with values that are marked."""

    top: float
    unit: str
    marks: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Curves:
    """By step, from 1."""

    lines: dict[str, np.ndarray]
    """The last one is dashed: what needs no model."""
    unit: str
    title: str


def sheet(
    title: str, note: str, rows: Sequence[Row], headings: Sequence[str] = (), breaks: Sequence[int] = (),
    scale: Scale | None = None, curves: Curves | None = None,
) -> Figure:  # fmt: skip
    """`headings` stand above the columns; `breaks`: columns before which there is more room."""
    columns = max(len(row.tiles) for row in rows)
    label = _LABEL if any(row.label for row in rows) else 0.0
    room = WIDTH - label - 2 * _MARGIN - len(breaks) * _BREAK
    tile = min(_LARGEST if len(rows) <= _FEW else _SMALLER, room / columns - _GAP)
    left = [_MARGIN + label + k * (tile + _GAP) + _BREAK * sum(k >= at for at in breaks) for k in range(columns)]
    tall = sum(tile + _GAP + _CAPTION * bool(row.captions) + _BREAK * row.apart for row in rows)
    below = _SCALE * bool(scale) + _CURVE * bool(curves) + _MARGIN
    height = _HEAD + _HEADING * bool(headings) + tall + below
    width = max(left[-1] + tile + _MARGIN, 7.6)
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        canvas = figure.add_axes((0, 0, 1, 1))
        canvas.set(xlim=(0, width), ylim=(height, 0))
        canvas.axis("off")
        canvas.text(_MARGIN, 0.3, title, fontsize=13, fontweight="bold", va="center")
        canvas.text(_MARGIN, 0.58, note, fontsize=9, color=FAINT, va="center")
        y = _HEAD
        if headings:
            for x, heading in zip(left, headings, strict=False):
                canvas.text(x + tile / 2, y + 0.06, heading, fontsize=8.5, color=FAINT, ha="center", va="center")
            y += _HEADING
        for row in rows:
            y += _BREAK * row.apart
            _row(canvas, row, left, y, tile)
            y += tile + _GAP + _CAPTION * bool(row.captions)
        canvas.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
        if scale:
            _scale(canvas, scale, y + 0.16, left[0], min(width - left[0] - _MARGIN, 5.0))
            y += _SCALE
        if curves:
            box = (left[0] / width, 0.5 / height, (width - left[0] - _MARGIN) / width, (_CURVE - 0.6) / height)
            _curves(figure.add_axes(box), curves)
    return figure


def _row(canvas: Axes, row: Row, left: Sequence[float], y: float, tile: float) -> None:
    canvas.text(_MARGIN, y + tile / 2, row.label, fontsize=9.5, color=INK, va="center", linespacing=1.25)
    for number, (x, picture) in enumerate(zip(left, row.tiles, strict=False)):
        if picture is None:
            continue
        canvas.imshow(_visible(picture), extent=(x, x + tile, y + tile, y), interpolation="nearest", aspect="auto")
        if number < len(row.frames) and (colour := row.frames[number]):
            canvas.add_patch(Rectangle((x, y), tile, tile, fill=False, edgecolor=colour, linewidth=1.6))
        if number < len(row.captions):
            canvas.text(x + tile / 2, y + tile + 0.1, row.captions[number], fontsize=8, color=FAINT, ha="center",
                        va="center")  # fmt: skip


def _scale(canvas: Axes, scale: Scale, y: float, x: float, wide: float) -> None:
    ramp = colormaps["inferno"](np.linspace(0, 1, 256))[None, :, :3]
    canvas.imshow(ramp, extent=(x, x + wide, y + 0.13, y), interpolation="nearest", aspect="auto")
    canvas.text(_MARGIN, y + 0.065, "scale", fontsize=9.5, color=INK, va="center")
    canvas.text(x + wide + 0.1, y + 0.065, scale.unit, fontsize=8.5, color=FAINT, va="center")
    canvas.text(x, y + 0.25, "0", fontsize=8, color=FAINT, va="center", ha="center")
    canvas.text(x + wide, y + 0.25, f"{scale.top:.3g}", fontsize=8, color=FAINT, va="center", ha="center")
    for number, (name, value) in enumerate(scale.marks.items()):
        at = x + wide * min(1.0, value / scale.top)
        low = y + 0.25 + 0.17 * (number % 2)
        canvas.plot([at, at], [y - 0.04, y + 0.17], color=INK, linewidth=1.2)
        right = at > x + 0.6 * wide
        canvas.text(at + (-0.05 if right else 0.05), low, f"{name} {value:.3g}", fontsize=8, color=INK, va="center",
                    ha="right" if right else "left")  # fmt: skip


def _curves(axes: Axes, curves: Curves) -> None:
    names = list(curves.lines)
    for name, values in curves.lines.items():
        last = len(names) > 1 and name == names[-1]
        style = {"color": FAINT, "linestyle": (0, (3, 2))} if last else {"color": OPEN, "marker": "o", "markersize": 3}
        axes.plot(np.arange(1, len(values) + 1), values, linewidth=1.8, label=name, **style)
    steps = max(len(values) for values in curves.lines.values())
    axes.set_xlim(0.5, steps + 0.5)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(min(steps, 16), integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("steps after what was seen", fontsize=9)
    axes.set_title(f"{curves.title}  ·  {curves.unit}", loc="left", fontsize=9.5, color=INK)
    axes.legend(frameon=False, fontsize=9, loc="best", ncols=2)


def _visible(picture: np.ndarray) -> np.ndarray:
    """In colour: the newest of stacked frames, the mean of other channels."""
    x = picture.astype(np.float32) / 255 if picture.dtype == np.uint8 else picture
    if x.shape[-1] == 3:
        return x
    return x[..., -3:] if x.shape[-1] % 3 == 0 else x.mean(-1, keepdims=True).repeat(3, -1)


def errors_over(picture: np.ndarray, errors: np.ndarray, top: float) -> np.ndarray:
    """A picture `[H W C]` in grey under the colours of its errors `[h w]`; grey alone where there are none (NaN)."""
    grey = _visible(picture).mean(-1, keepdims=True).repeat(3, -1)
    tall, wide = (-(-a // b) for a, b in zip(grey.shape[:2], errors.shape, strict=True))
    level = np.clip(errors / max(top, 1e-12), 0, 1)
    colours = np.where(
        np.isfinite(errors)[..., None], colormaps["inferno"](np.nan_to_num(level))[..., :3], _UNKNOWN
    ).repeat(tall, 0).repeat(wide, 1)[: grey.shape[0], : grey.shape[1]]  # fmt: skip
    return np.asarray((1 - _OVER) * grey + _OVER * colours, np.float32)
