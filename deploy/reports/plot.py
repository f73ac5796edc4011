"""Draws score curves of runs and published ones on the same axes, one panel per task."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from colorsys import hls_to_rgb
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from deploy.reports.curves import (
    NOT_VALUES,
    Aggregate,
    Band,
    Curve,
    Note,
    Runs,
    aggregate,
    bin_width,
    export,
    load_baselines,
    load_runs,
    told_apart,
)
from deploy.reports.figure_style import FAINT, INK, STYLE
from deploy.reports.figure_text import legend_lines, shortened
from deploy.wiring.output_path import require_writable_file
from replay.counted import counted
from replay.files.whole_file import whole_file

_RUN_COLOURS = ("#0b6e8f", "#d1495b", "#7a4fa3", "#2f8f5b", "#c77b1e", "#3b4ba3")
_BASELINE_COLOURS = ("#e8963a", "#8a8f98", "#6aa56a", "#b48ead", "#a98467")
_STYLES = ("-", "--", "-.", ":")  # for when there are more lines than colours
_EPISODES: dict[str, Any] = {"alpha": 0.25, "markersize": 4, "markeredgewidth": 0}
Colour = tuple[str, Any]
"""The colour of a line, and its style."""
_FRAMES = "environment frames, action repeats counted"
_REPLAYED = "replayed frames"  # for offline runs
_PUBLISHED = {"dreamerv3": "DreamerV3, published", "ppo_fixhp": "PPO, published", "sac": "SAC, published"}
_VALUES = {"score": "episode return", "length": "episode length in frames", "is_success": "success rate"}
_BANDS = {"ci95": "mean and 95 % interval over seeds", "minmax": "mean, minimum and maximum over seeds", "none": "mean"}


def plot(
    logdirs: Sequence[str | Path],
    *,
    out: str | Path,
    baselines: Sequence[str | Path] = (),
    export_to: str | Path | None = None,
    band: Band = "ci95",
    frames: float | None = None,
    tasks: Sequence[str] = (),
    value: str = "score",
    note: Note = print,
) -> list[str]:
    """Draws the runs in `logdirs` and the published curves of their tasks into `out` (.png, .svg or .pdf).

    A baseline entry with a single point, such as a trivial policy's score, becomes a horizontal line. The x-axis ends
    at `frames`, by default where the longest run ends. `value` is the column of scores.jsonl that is drawn. The runs'
    points are written to `export_to` in the format of baselines. `note` is told of everything skipped; returns one line
    for each run that cannot be read. Raises ValueError if there is nothing to draw or no permission to write a file,
    OSError if writing fails, for example for lack of space; an existing file is then kept.
    """
    out = Path(out)
    if out.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"{out} must end in .png, .svg or .pdf.")
    if frames is not None and not (math.isfinite(frames) and frames > 0):
        raise ValueError(f"The x-axis cannot end at {frames:g} frames; give a number above 0.")
    if value in NOT_VALUES:
        raise ValueError(f"The value {value!r} is no outcome of an episode; give score, length or a reported metric.")
    require_writable_file(out)
    if export_to is not None:
        require_writable_file(Path(export_to))
    runs = load_runs(logdirs, value=value, note=note)
    files = {file: load_baselines([file]) for file in baselines}
    own = [*runs.curves, *runs.evaluations]
    published = told_apart(own, files)
    wanted = list(tasks) or list(dict.fromkeys(curve.task for curve in own or published))
    if not [*own, *published]:
        raise ValueError(f"There is nothing to draw: {_why_nothing(len(runs.damaged), value)}")
    known = dict.fromkeys(curve.task for curve in [*own, *published])
    if missing := [task for task in wanted if task not in known]:
        raise ValueError(f"There is no curve for {', '.join(missing)}, only for {', '.join(sorted(known))}.")
    for file, curves in files.items():
        if absent := [task for task in wanted if task not in {curve.task for curve in curves}]:
            note(f"{file} has no curve for {', '.join(absent)}.")
    panels = [_panel_of(task, runs, published, frames, value, note) for task in wanted]
    if export_to is not None:
        export(runs.curves, export_to)
    with rc_context(STYLE), whole_file(out) as fresh:
        _figure(panels, {curve.method for curve in own}, band, value).savefig(fresh, dpi=160, facecolor="white")
    return runs.damaged


def _why_nothing(damaged: int, value: str) -> str:
    what = "a score" if value == "score" else f"the value {value!r}"
    if not damaged:
        return f"no run has {what} yet. Name one that has, or give --baselines."
    return f"{counted(damaged, 'run')} cannot be read, no other has {what}. Name one that has, or give --baselines."


class _Panel(NamedTuple):
    """The contents of one task's panel, up to `end` frames."""

    task: str
    curves: list[Curve]
    constants: list[Curve]
    evaluations: list[Curve]
    end: float
    rate: bool
    """All values are 0 or 1, such as those of is_success."""


def _panel_of(task: str, runs: Runs, published: list[Curve], frames: float | None, value: str, note: Note) -> _Panel:
    """A curve that begins beyond the end of the axis is dropped: it would only be in the legend."""
    own, evaluations = ([c for c in curves if c.task == task] for curves in (runs.curves, runs.evaluations))
    others = [curve for curve in published if curve.task == task]
    lines, constants = [*own, *(c for c in others if not c.constant)], [c for c in others if c.constant]
    end = float(frames or max((c.xs[-1] for c in [*own, *evaluations] or lines), default=1.0) or 1.0)
    beyond = [curve for curve in lines if curve.xs[0] > end]
    for method in dict.fromkeys(curve.method for curve in beyond):
        begin = min(curve.xs[0] for curve in beyond if curve.method == method)
        note(f"{label_of(method)} begins at {begin:,.0f} frames of {task}, after the axis ends; raise --frames.")
    drawn = [curve for curve in lines if curve.xs[0] <= end]
    rate = value != "score" and all(np.isin(curve.ys, (0, 1)).all() for curve in [*drawn, *evaluations])
    return _Panel(task, drawn, constants, evaluations, end, rate)


def _figure(panels: list[_Panel], own: set[str], band: Band, value: str) -> Figure:
    curves = [curve for panel in panels for curve in [*panel.curves, *panel.evaluations]]
    offline = [curve.offline for curve in curves]
    x_label = _FRAMES if not any(offline) else _REPLAYED if all(offline) else f"{_FRAMES}; offline: {_REPLAYED}"
    methods = list(dict.fromkeys(curve.method for curve in curves))
    colours = _colours(methods, own)
    columns = min(len(panels), 4 if len(panels) > 6 else 3)
    rows = math.ceil(len(panels) / columns)
    single = len(panels) == 1
    width, height = (8.0, 4.8) if single else (1.0 + 3.5 * columns, 1.0 + 2.8 * rows)
    handles, labels = _legend(panels, methods, colours, own)
    lines = legend_lines(labels, width)
    below = lines > 1
    figure = Figure(
        figsize=(width, height + 0.24 * lines * below), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    )
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    title: dict[str, Any] = {"fontsize": 14 if single else 10.5, "pad": 34 if single and not below else 6}
    for axes, panel in zip(grid, panels, strict=False):
        _panel(axes, panel, colours, own, band)
        name = shortened(panel.task, 70 if single else 36)
        axes.set_title(name, loc="left", fontweight="bold", parse_math=False, **title)
    style: dict[str, Any] = {"frameon": False, "handlelength": 1.5, "columnspacing": 1.8, "borderaxespad": 0.0}
    described, y_label = _described(curves, band), shortened(_VALUES.get(value, value), 40)
    if single:
        grid[0].set_xlabel(x_label, labelpad=8)
        apart = ", " if len(y_label) + len(described) <= 55 else "\n"
        grid[0].set_ylabel(f"{y_label}{apart}{described}", labelpad=8, parse_math=False)
    else:
        figure.supxlabel(f"{x_label}  ·  {described}", fontsize=10, color=FAINT)
        figure.supylabel(y_label, fontsize=10, color=FAINT, parse_math=False)
    if below and single:
        legend = figure.legend(handles, labels, loc="outside lower left", ncols=math.ceil(len(labels) / lines), **style)
    elif single:
        place = {"loc": "lower left", "bbox_to_anchor": (-0.006, 1.025)}
        legend = grid[0].legend(handles, labels, ncols=len(labels) or 1, **place, **style)
    else:
        columns = math.ceil(len(labels) / lines) if below else len(labels) or 1
        legend = figure.legend(handles, labels, loc="outside upper left", ncols=columns, **style)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _panel(axes: Axes, panel: _Panel, colours: dict[str, Colour], own: set[str], band: Band) -> None:
    for method in dict.fromkeys(curve.method for curve in panel.curves):
        group = [curve for curve in panel.curves if curve.method == method]
        mine, (colour, style) = method in own, colours[method]
        if mine and len(group) == 1 and not panel.rate:  # a single seed has no band, so show its episodes
            axes.plot(group[0].xs, group[0].ys, ".", color=colour, **_EPISODES)
        mean = cut(aggregate(group, bin_width(group, panel.end), band), max(c.xs[-1] for c in group), panel.end)
        low, high = (np.clip(side, 0, 1) if panel.rate else side for side in (mean.low, mean.high))
        axes.fill_between(mean.xs, low, high, color=colour, alpha=0.16, linewidth=0)
        axes.plot(
            mean.xs, mean.mean, color=colour, linewidth=2.4 if mine else 1.7, zorder=3 if mine else 2, linestyle=style,
            solid_capstyle="round", marker="o" if len(mean.xs) == 1 else None,
        )  # fmt: skip
    _evaluations(axes, panel.evaluations, colours)
    _limits(axes, panel)
    _constants(axes, panel.constants)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(_frames))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))


def _limits(axes: Axes, panel: _Panel) -> None:
    """Limits: frames up to the end, with room for the last points, and the scores until then. Intervals do not count,
    since they may extend beyond possible scores."""
    curves = [*panel.curves, *panel.evaluations]
    scores = np.concatenate(
        [curve.ys[curve.xs <= panel.end] for curve in curves] + [curve.ys for curve in panel.constants] + [np.zeros(1)]
    )
    axes.set_xlim(0, 1.015 * panel.end)
    low, high = float(scores.min()), float(scores.max())
    room = 0.06 * (high - low) or 1.0
    axes.set_ylim(low - room if low < 0 else 0, high + room)


def _constants(axes: Axes, curves: list[Curve]) -> None:
    """Horizontal lines with their names at the right edge, moved up if they would overlap."""
    scores = {
        method: float(np.mean([curve.ys[0] for curve in curves if curve.method == method]))
        for method in dict.fromkeys(curve.method for curve in curves)
    }
    bottom, top = axes.get_ylim()
    line_height, free = 0.045 * (top - bottom), -np.inf
    for method, score in sorted(scores.items(), key=lambda item: item[1]):
        axes.axhline(score, color=FAINT, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1.5)
        height = max(score, free)
        free = height + line_height
        axes.annotate(
            f"{shortened(label_of(method), 30)} {score:,.3g}", (1.0, height), xycoords=("axes fraction", "data"),
            xytext=(6, 0), textcoords="offset points", va="center", fontsize=8.5, color=FAINT,
            annotation_clip=False, parse_math=False,
        )  # fmt: skip


def _evaluations(axes: Axes, curves: Iterable[Curve], colours: dict[str, Colour]) -> None:
    for curve in curves:
        xs = np.unique(curve.xs)
        means = [curve.ys[curve.xs == x].mean() for x in xs]
        axes.plot(
            xs, means, "D", color="white", markeredgecolor=colours[curve.method][0], markeredgewidth=1.5,
            markersize=5.5, zorder=4, clip_on=False,
        )  # fmt: skip


def _legend(
    panels: list[_Panel], methods: list[str], colours: dict[str, Colour], own: set[str]
) -> tuple[list[Line2D], list[str]]:
    handles, labels = [], []
    shown = [curve for panel in panels for curve in panel.curves if not panel.rate]
    for method in methods:
        seeds = {
            curve.seed for panel in panels for curve in [*panel.curves, *panel.evaluations] if curve.method == method
        }
        colour, style = colours[method]
        handles.append(Line2D([], [], color=colour, linestyle=style, linewidth=2.6))
        labels.append(f"{shortened(label_of(method), 48)} ({counted(len(seeds), 'seed')})")
    alone = Counter((curve.task, curve.method) for curve in shown if curve.method in own)
    if 1 in alone.values():
        handles.append(
            Line2D([], [], marker=".", color=FAINT, linewidth=0, **_EPISODES | {"alpha": 0.6, "markersize": 7})
        )
        labels.append("episodes")
    if any(panel.evaluations for panel in panels):
        handles.append(Line2D([], [], marker="D", color=INK, markerfacecolor="white", linewidth=0, markersize=5.5))
        labels.append("evaluations")
    return handles, labels


def _described(curves: list[Curve], band: Band) -> str:
    """Says what lines and bands are; a band needs a second seed."""
    seeds = {(curve.task, curve.method, curve.seed) for curve in curves}
    return _BANDS[band] if len({one[:2] for one in seeds}) < len(seeds) else "mean of neighbouring episodes"


def cut(mean: Aggregate, reach: float, end: float) -> Aggregate:
    """The part up to `end`: the last bin ends at the curves' last point, `reach`, and a line that continues beyond the
    end of the axis is interpolated there. A last bin that has hardly begun is left out: its few episodes would bend the
    line sharply."""
    if len(mean.xs) > 1 and reach - mean.xs[-2] < (mean.xs[-1] - mean.xs[-2]) / 4:
        mean = replace(mean, **{key: getattr(mean, key)[:-1] for key in ("xs", "mean", "low", "high")})
    xs = np.minimum(mean.xs, reach)
    last = int(np.searchsorted(xs, end, side="right"))
    if last == len(xs):
        return replace(mean, xs=xs)
    xs_kept = np.append(xs[:last], end)
    ys = {key: np.interp(xs_kept, xs, getattr(mean, key)) for key in ("mean", "low", "high")}
    return replace(mean, xs=xs_kept, **ys)


def _colours(methods: list[str], own: set[str]) -> dict[str, Colour]:
    """A colour and a line style for each method; no pair is used twice."""
    mine = [method for method in methods if method in own]
    others = [method for method in methods if method not in own]
    return {
        method: colour
        for group, palette in ((mine, _RUN_COLOURS), (others, _BASELINE_COLOURS))
        for method, colour in zip(group, _distinct(palette, len(group)), strict=True)
    }


def _distinct(palette: Sequence[str], number: int) -> list[Colour]:
    if number <= len(palette):
        return [(colour, "-") for colour in palette[:number]]
    return [(hls_hex(n / number, 0.38 if n % 2 else 0.55), _STYLES[n % len(_STYLES)]) for n in range(number)]


def hls_hex(hue: float, lightness: float) -> str:
    """A saturated colour as `#rrggbb`."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in hls_to_rgb(hue, lightness, 0.65))


def label_of(method: str) -> str:
    """How a method is named in figures and tables."""
    return _PUBLISHED.get(method, method)


def _frames(value: float, _: object) -> str:
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.4g}{name}"
    return f"{value:.4g}"
