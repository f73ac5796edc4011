"""Draws score curves: runs and published ones on the same axes, a panel a task."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from deploy.curves import Aggregate, Band, Curve, aggregate, bin_width, export, load_baselines, load_runs
from deploy.figure_style import FAINT, INK, STYLE

_RUN_COLOURS = ("#0b6e8f", "#d1495b", "#7a4fa3", "#2f8f5b", "#c77b1e", "#3b4ba3")
_BASELINE_COLOURS = ("#e8963a", "#8a8f98", "#6aa56a", "#b48ead", "#a98467")
_FRAMES = "environment frames, action repeats counted"
_REPLAYED = "replayed frames"  # of runs without an environment
_PUBLISHED = {"dreamerv3": "DreamerV3, published", "ppo_fixhp": "PPO, published", "sac": "SAC, published"}
_BANDS = {"ci95": "mean and 95 % interval over seeds", "minmax": "mean, least and greatest seed", "none": "mean"}


def plot(
    logdirs: Sequence[str | Path],
    *,
    out: str | Path,
    baselines: Sequence[str | Path] = (),
    export_to: str | Path | None = None,
    band: Band = "ci95",
    frames: float | None = None,
    tasks: Sequence[str] = (),
) -> Path:
    """Draws the runs in `logdirs` and the published curves of their tasks into `out` (.png, .svg or .pdf).

    A baseline entry with a single point, such as a trivial policy's score, becomes a horizontal line. The x-axis ends
    at `frames`, else where the longest run does. `export_to` gets the runs' points in the baselines' format. Raises
    ValueError where there is nothing to draw.
    """
    out = Path(out)
    if out.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"{out} must end in .png, .svg or .pdf.")
    runs = load_runs(logdirs) if logdirs else []
    evaluations = load_runs(logdirs, kind="eval") if logdirs else []
    published = load_baselines(baselines)
    wanted = list(tasks) or list(dict.fromkeys(curve.task for curve in runs or published))
    drawn = {task: [curve for curve in [*runs, *published] if curve.task == task] for task in wanted}
    if missing := [task for task, curves in drawn.items() if not curves]:
        known = sorted({curve.task for curve in [*runs, *published]})
        raise ValueError(f"there is no curve of {', '.join(missing)}; there are curves of {', '.join(known)}.")
    if not drawn:
        raise ValueError("there is nothing to draw yet: no training episode has ended. Give a run, or --baselines.")
    if export_to is not None:
        export(runs, export_to)
    with rc_context(STYLE):
        figure = _figure(drawn, runs, evaluations, band, frames)
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=160, facecolor="white")
    return out


def _figure(
    drawn: dict[str, list[Curve]], runs: list[Curve], evaluations: list[Curve], band: Band, frames: float | None
) -> Figure:
    own = {curve.method for curve in runs}
    offline = [curve.offline for curves in [*drawn.values(), evaluations] for curve in curves if not curve.constant]
    x_label = _REPLAYED if all(offline) else f"{_FRAMES}; offline: {_REPLAYED}" if any(offline) else _FRAMES
    methods = list(dict.fromkeys(curve.method for curves in drawn.values() for curve in curves if not curve.constant))
    colours = _colours(methods, own)
    columns = min(len(drawn), 4 if len(drawn) > 6 else 3)
    rows = math.ceil(len(drawn) / columns)
    single = len(drawn) == 1
    size = (8.0, 4.8) if single else (1.0 + 3.5 * columns, 1.0 + 2.8 * rows)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(drawn) :]:
        axes.set_visible(False)
    for axes, (task, curves) in zip(panels, drawn.items(), strict=False):
        evaluated = [curve for curve in evaluations if curve.task == task]
        ends = [curve.xs[-1] for curve in curves if not curve.constant and (not own or curve.method in own)]
        ends += [curve.xs[-1] for curve in evaluated]
        end = float(frames or max(ends or [curve.xs[-1] for curve in curves]) or 1.0)
        _panel(axes, curves, colours, own, band, end)
        _evaluations(axes, evaluated, colours)
        _limits(axes, [*curves, *evaluated], end)
        _constants(axes, [curve for curve in curves if curve.constant])
        axes.set_title(task, loc="left", fontweight="bold", fontsize=14 if single else 10.5, pad=34 if single else 6)
    handles, labels = _legend(drawn, methods, colours, bool(evaluations))
    style: dict[str, Any] = {"frameon": False, "handlelength": 1.5, "columnspacing": 1.8, "borderaxespad": 0.0}
    described = _described(drawn, band)
    if single:
        panels[0].set_xlabel(x_label, labelpad=8)
        panels[0].set_ylabel(f"episode return, {described}", labelpad=8)
        panels[0].legend(
            handles, labels, loc="lower left", bbox_to_anchor=(-0.006, 1.025), ncols=len(labels) or 1, **style
        )
    else:
        figure.supxlabel(f"{x_label}  ·  {described}", fontsize=10, color=FAINT)
        figure.supylabel("episode return", fontsize=10, color=FAINT)
        figure.legend(handles, labels, loc="outside upper left", ncols=len(labels) or 1, **style)
    return figure


def _panel(axes: Axes, curves: list[Curve], colours: dict[str, str], own: set[str], band: Band, end: float) -> None:
    lines = [curve for curve in curves if not curve.constant]
    for method in dict.fromkeys(curve.method for curve in lines):
        group = [curve for curve in lines if curve.method == method]
        mine, colour = method in own, colours[method]
        if mine and len(group) == 1:  # a single seed has no band, but its episodes can be seen
            axes.plot(group[0].xs, group[0].ys, ".", color=colour, alpha=0.25, markersize=4, markeredgewidth=0)
        mean = _clip(aggregate(group, bin_width(group, end), band), end)
        axes.fill_between(mean.xs, mean.low, mean.high, color=colour, alpha=0.16, linewidth=0)
        axes.plot(
            mean.xs, mean.mean, color=colour, linewidth=2.4 if mine else 1.7, zorder=3 if mine else 2,
            solid_capstyle="round", marker="o" if len(mean.xs) == 1 else None,
        )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(_frames))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))


def _limits(axes: Axes, curves: list[Curve], end: float) -> None:
    """Frames up to `end`, and the scores seen until then; an interval may reach beyond what is possible."""
    scores = np.concatenate([curve.ys[(curve.xs <= end) | curve.constant] for curve in curves] + [np.zeros(1)])
    axes.set_xlim(0, end)
    low, high = float(scores.min()), float(scores.max())
    room = 0.06 * (high - low) or 1.0
    axes.set_ylim(low - room if low < 0 else 0, high + room)


def _constants(axes: Axes, curves: list[Curve]) -> None:
    """Horizontal lines with their names beside the right edge, moved up where they would cover each other."""
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
            f"{_label(method)} {score:,.3g}", (1.0, height), xycoords=("axes fraction", "data"), xytext=(6, 0),
            textcoords="offset points", va="center", fontsize=8.5, color=FAINT, annotation_clip=False,
        )  # fmt: skip


def _evaluations(axes: Axes, curves: Iterable[Curve], colours: dict[str, str]) -> None:
    for curve in curves:
        xs = np.unique(curve.xs)
        means = [curve.ys[curve.xs == x].mean() for x in xs]
        axes.plot(
            xs, means, "D", color="white", markeredgecolor=colours.get(curve.method, INK), markeredgewidth=1.5,
            markersize=5.5, zorder=4, clip_on=False,
        )  # fmt: skip


def _legend(
    drawn: dict[str, list[Curve]], methods: list[str], colours: dict[str, str], evaluated: bool
) -> tuple[list[Line2D], list[str]]:
    handles, labels = [], []
    for method in methods:
        seeds = {curve.seed for curves in drawn.values() for curve in curves if curve.method == method}
        handles.append(Line2D([], [], color=colours[method], linewidth=2.6))
        labels.append(f"{_label(method)} ({len(seeds)} seed{'s' * (len(seeds) > 1)})")
    if evaluated:
        handles.append(Line2D([], [], marker="D", color=INK, markerfacecolor="white", linewidth=0, markersize=5.5))
        labels.append("evaluations")
    return handles, labels


def _described(drawn: dict[str, list[Curve]], band: Band) -> str:
    """What the lines and bands are; a band needs a second seed."""
    seen = [(curve.task, curve.method) for curves in drawn.values() for curve in curves if not curve.constant]
    return _BANDS[band] if len(set(seen)) < len(seen) else "mean of neighbouring episodes"


def _clip(mean: Aggregate, end: float) -> Aggregate:
    """Keeps one point beyond the end, so that the line reaches the edge."""
    last = int(np.searchsorted(mean.xs, end)) + 1
    keep = slice(0, last)
    return Aggregate(xs=mean.xs[keep], mean=mean.mean[keep], low=mean.low[keep], high=mean.high[keep], seeds=mean.seeds)


def _colours(methods: list[str], own: set[str]) -> dict[str, str]:
    mine = [method for method in methods if method in own]
    others = [method for method in methods if method not in own]
    return {
        method: palette[n % len(palette)]
        for group, palette in ((mine, _RUN_COLOURS), (others, _BASELINE_COLOURS))
        for n, method in enumerate(group)
    }


def _label(method: str) -> str:
    return _PUBLISHED.get(method, method)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _frames(value: float, _: object) -> str:
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.4g}{name}"
    return f"{value:.4g}"
