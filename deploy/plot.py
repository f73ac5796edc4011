"""Draws score curves: runs and published ones on the same axes, a panel a task."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from deploy.curves import Aggregate, Band, Curve, aggregate, bin_width, export, load_baselines, load_runs

_RUN_COLOURS = ("#0b6e8f", "#d1495b", "#7a4fa3", "#2f8f5b", "#c77b1e", "#3b4ba3")
_BASELINE_COLOURS = ("#e8963a", "#8a8f98", "#6aa56a", "#b48ead", "#a98467")
_INK, _FAINT, _GRID = "#22262b", "#6b7280", "#e6e8eb"
_PUBLISHED = {"dreamerv3": "DreamerV3, published", "ppo_fixhp": "PPO, published", "sac": "SAC, published"}
_BANDS = {"ci95": "mean and 95 % interval over seeds", "minmax": "mean, least and greatest seed", "none": "mean"}
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": "#c4c8ce",
    "axes.labelcolor": _FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "svg.fonttype": "none",
}


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
    with rc_context(_STYLE):
        figure = _figure(drawn, runs, evaluations, band, frames)
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=160, facecolor="white")
    return out


def _figure(
    drawn: dict[str, list[Curve]], runs: list[Curve], evaluations: list[Curve], band: Band, frames: float | None
) -> Figure:
    own = {curve.method for curve in runs}
    methods = list(dict.fromkeys(curve.method for curves in drawn.values() for curve in curves if not curve.is_constant))
    colours = _colours(methods, own)
    columns = min(len(drawn), 4 if len(drawn) > 6 else 3)
    rows = math.ceil(len(drawn) / columns)
    single = len(drawn) == 1
    size = (8.0, 4.9) if single else (1.2 + 3.5 * columns, 1.2 + 2.7 * rows)
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr, call-arg]
    panels = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axes in panels[len(drawn) :]:
        axes.set_visible(False)
    seeds: dict[str, set[int]] = {}
    for axes, (task, curves) in zip(panels, drawn.items(), strict=False):
        ends = [curve.xs[-1] for curve in curves if not curve.is_constant and (not own or curve.method in own)]
        end = float(frames or max(ends or [curve.xs[-1] for curve in curves]))
        _panel(axes, curves, colours, own, band, end)
        _evaluations(axes, [curve for curve in evaluations if curve.task == task], colours)
        axes.set_title(task, loc="left", fontweight="bold", fontsize=13 if single else 10.5, pad=12 if single else 6)
        for curve in curves:
            seeds.setdefault(curve.method, set()).add(curve.seed)
    _legend(figure, methods, colours, seeds, bool(evaluations))
    figure.supxlabel("environment frames (action repeats counted)", fontsize=10, color=_FAINT)
    figure.supylabel(f"episode return: {_BANDS[band]}" if single else "episode return", fontsize=10, color=_FAINT)
    return figure


def _panel(
    axes: Axes, curves: list[Curve], colours: dict[str, str], own: set[str], band: Band, end: float
) -> None:
    lines = [curve for curve in curves if not curve.is_constant]
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
    for method in dict.fromkeys(curve.method for curve in curves if curve.is_constant):
        score = float(np.mean([curve.ys[0] for curve in curves if curve.is_constant and curve.method == method]))
        axes.axhline(score, color=_FAINT, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1.5)
        axes.annotate(
            f"{_label(method)} {score:,.4g}", (1.0, score), xycoords=("axes fraction", "data"), xytext=(-2, 3),
            textcoords="offset points", ha="right", va="bottom", fontsize=8.5, color=_FAINT,
        )  # fmt: skip
    axes.set_xlim(0, end)
    axes.margins(y=0.08)
    if not any(curve.ys.min() < 0 for curve in curves):
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(_frames))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))


def _evaluations(axes: Axes, curves: Iterable[Curve], colours: dict[str, str]) -> None:
    for curve in curves:
        xs = np.unique(curve.xs)
        means = [curve.ys[curve.xs == x].mean() for x in xs]
        axes.plot(
            xs, means, "D", color="white", markeredgecolor=colours.get(curve.method, _INK), markeredgewidth=1.5,
            markersize=5.5, zorder=4, clip_on=False,
        )  # fmt: skip


def _legend(
    figure: Figure, methods: list[str], colours: dict[str, str], seeds: dict[str, set[int]], evaluated: bool
) -> None:
    handles = [Line2D([], [], color=colours[method], linewidth=2.4) for method in methods]
    labels = [f"{_label(method)} ({_plural(len(seeds[method]), 'seed')})" for method in methods]
    if evaluated:
        handles.append(Line2D([], [], marker="D", color=_INK, markerfacecolor="white", linewidth=0, markersize=5.5))
        labels.append("evaluation, mean")
    if handles:
        figure.legend(
            handles, labels, loc="outside upper left", ncols=len(labels), frameon=False, fontsize=9.5,
            handlelength=1.6, columnspacing=1.8, borderaxespad=0.2,
        )  # fmt: skip


def _clip(mean: Aggregate, end: float) -> Aggregate:
    """Keeps one point beyond the end, so that the line reaches the edge."""
    last = int(np.searchsorted(mean.xs, end)) + 1
    keep = slice(0, last)
    return Aggregate(
        xs=mean.xs[keep], mean=mean.mean[keep], low=mean.low[keep], high=mean.high[keep], seeds=mean.seeds
    )


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
